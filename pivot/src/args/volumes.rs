//! The options that mount something in the root, in the order in which they were given.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::parser::ValueSource;
use clap::{ArgMatches, Command, FromArgMatches};

use super::bind::{Bind, bind, bind_try};
use super::fields::{Flags, fields, inner, named};

/// A mount inside the root, or a place in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Volume {
    Bind(Bind),
    Tmpfs { target: PathBuf, options: Vec<(String, String)>, flags: Flags },
    Dev,
    Hide { path: PathBuf },
    Directory { path: PathBuf },
    Symlink { target: PathBuf, path: PathBuf },
}

#[derive(clap::Args, Clone, Debug, Default)]
struct VolumeOptions {
    /// Mount a file or directory of the host at DST (SRC if omitted or empty); OPTIONS, comma-separated: ro, rw,
    /// nosuid, nodev, noexec; bind, without what is mounted below SRC; rslave, with what is mounted there later;
    /// ephemeral, to discard changes at the end; overlay=DIR, to keep changes in DIR for the next time; lower=DIR, to
    /// show DIR below SRC; idmap=MAP, to show other owners, as with --idmap (can be given again)
    #[arg(long, value_name = "SRC[:DST[:OPTIONS]]", value_parser = OsStringValueParser::new().try_map(|text| bind(text).map(Volume::Bind)))]
    bind: Vec<Volume>,

    /// Like --bind, but do nothing if SRC does not exist (can be given again)
    #[arg(long, value_name = "SRC[:DST[:OPTIONS]]", value_parser = OsStringValueParser::new().try_map(|text| bind_try(text).map(Volume::Bind)), help_heading = "More mounts")]
    bind_try: Vec<Volume>,

    /// Mount an empty filesystem in memory at DST, nosuid and nodev; OPTIONS are size=BYTES (k, m, g, %), mode=OCTAL,
    /// nr_inodes=N, ro, rw, noexec and the like, comma-separated (can be given again)
    #[arg(long, value_name = "DST[:OPTIONS]", value_parser = OsStringValueParser::new().try_map(tmpfs), help_heading = "More mounts")]
    tmpfs: Vec<Volume>,

    /// Cover PATH with an empty file or directory; do nothing if it does not exist (can be given again)
    #[arg(long, value_name = "PATH", value_parser = OsStringValueParser::new().try_map(hide), help_heading = "More mounts")]
    hide: Vec<Volume>,

    /// Make a directory in the root, unless it exists (can be given again)
    #[arg(long, value_name = "PATH", value_parser = OsStringValueParser::new().try_map(directory), help_heading = "More mounts")]
    dir: Vec<Volume>,

    /// Make a symbolic link to TARGET in the root, unless PATH exists (can be given again)
    #[arg(long, value_name = "TARGET:PATH", value_parser = OsStringValueParser::new().try_map(symlink), help_heading = "More mounts")]
    symlink: Vec<Volume>,

    /// Make a minimal /dev: null, zero, full, random, urandom, tty, a new devpts, shm, and mqueue if the ipc namespace
    /// is new
    #[arg(long)]
    dev: bool,
}

/// The mounts that were asked for, in the order in which they were.
#[derive(Clone, Debug, Default)]
pub struct Volumes(pub Vec<Volume>);

impl FromArgMatches for Volumes {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let options = VolumeOptions::from_arg_matches(matches)?;
        let at = |name: &str| match matches.value_source(name) {
            Some(ValueSource::CommandLine) => matches.indices_of(name).map(Iterator::collect).unwrap_or_default(),
            _ => Vec::<usize>::new(),
        };
        let dev = options.dev.then_some(Volume::Dev);
        let lists = [
            ("bind", options.bind),
            ("bind_try", options.bind_try),
            ("tmpfs", options.tmpfs),
            ("hide", options.hide),
            ("dir", options.dir),
            ("symlink", options.symlink),
            ("dev", dev.into_iter().collect()),
        ];
        let mut placed: Vec<(usize, Volume)> =
            lists.into_iter().flat_map(|(name, volumes)| at(name).into_iter().zip(volumes)).collect();
        placed.sort_by_key(|&(index, _)| index);
        Ok(Volumes(placed.into_iter().map(|(_, volume)| volume).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Volumes::from_arg_matches(matches)?;
        Ok(())
    }
}

impl clap::Args for Volumes {
    fn augment_args(command: Command) -> Command {
        VolumeOptions::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        VolumeOptions::augment_args_for_update(command)
    }
}

fn tmpfs(text: OsString) -> Result<Volume, String> {
    let fields = fields(&text);
    let (target, words) = match fields.as_slice() {
        [target] => (target, OsStr::new("")),
        [target, words] => (target, words.as_os_str()),
        _ => return Err(TOO_MANY.into()),
    };
    let mut options = Vec::new();
    let mut flags = Flags { nosuid: true, nodev: true, ..Flags::default() };
    for word in words.to_string_lossy().split(',').filter(|word| !word.is_empty()) {
        match word.split_once('=') {
            Some((key @ ("size" | "mode" | "nr_inodes"), value)) if !value.is_empty() => {
                if key != "mode" {
                    limit(value, key == "size").ok_or_else(|| format!("{word} is no limit"))?;
                }
                options.push((key.into(), value.into()));
            }
            None if flags.set(word) => {}
            _ => {
                return Err(format!(
                    "{word} is none of size=BYTES, mode=OCTAL, nr_inodes=N, ro, rw, nosuid, nodev, noexec"
                ));
            }
        }
    }
    Ok(Volume::Tmpfs { target: inner(target)?, options, flags })
}

/// A number with a unit, as tmpfs reads it: to that 0 is no limit, and what is too large wraps around (memparse in Linux).
fn limit(text: &str, percent: bool) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let shift = match &text[digits.len()..] {
        "" => 0,
        "%" if percent => 0,
        "k" | "K" => 10,
        "m" | "M" => 20,
        "g" | "G" => 30,
        "t" | "T" => 40,
        "p" | "P" => 50,
        _ => return None,
    };
    let number: u64 = digits.parse().ok().filter(|_| !digits.starts_with('+'))?;
    number.checked_mul(1 << shift).filter(|&limit| limit > 0 && limit <= i64::MAX as u64)
}

fn hide(path: OsString) -> Result<Volume, String> {
    Ok(Volume::Hide { path: inner(&path)? })
}

fn directory(path: OsString) -> Result<Volume, String> {
    Ok(Volume::Directory { path: inner(&path)? })
}

fn symlink(text: OsString) -> Result<Volume, String> {
    match fields(&text).as_slice() {
        [target, path] => Ok(Volume::Symlink { target: named("TARGET", target)?, path: inner(path)? }),
        [_] => Err("not TARGET:PATH".into()),
        _ => Err(TOO_MANY.into()),
    }
}

const TOO_MANY: &str = "too many colons; one that belongs to a name is written \\:";

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::Args;
    use super::*;

    fn volumes(words: &[&str]) -> Vec<Volume> {
        Args::try_parse_from([&["pivot"], words, &["r"]].concat()).unwrap().volumes.0
    }

    #[test]
    fn volumes_keep_the_order_in_which_they_were_given() {
        let given =
            volumes(&["--tmpfs", "/a", "--bind", "/b", "--dev", "--tmpfs=/c:size=1m,mode=700", "--bind=/d:/e:ro"]);
        let plain = Flags::default();
        let memory = Flags { nosuid: true, nodev: true, ..plain };
        assert_eq!(
            given,
            [
                Volume::Tmpfs { target: "/a".into(), options: vec![], flags: memory },
                Volume::Bind(Bind { source: "/b".into(), target: "/b".into(), ..Bind::default() }),
                Volume::Dev,
                Volume::Tmpfs {
                    target: "/c".into(),
                    options: vec![("size".into(), "1m".into()), ("mode".into(), "700".into())],
                    flags: memory
                },
                Volume::Bind(Bind {
                    source: "/d".into(),
                    target: "/e".into(),
                    flags: Flags { read_only: true, ..plain },
                    ..Bind::default()
                }),
            ]
        );
    }

    #[test]
    fn specifications_that_say_nothing_are_refused() {
        for text in [
            "/",
            "..",
            "/a:size",
            "/a:uid=0",
            "/a:b:c",
            "/a:size=0",
            "/a:size=0k",
            "/a:size=x",
            "/a:size=16384P",
            "/a:nr_inodes=0",
            "/a:nr_inodes=5%",
            "/a:size=20000000000000000000",
        ] {
            assert!(Args::try_parse_from(["pivot", "--tmpfs", text, "r"]).is_err(), "{text}");
        }
    }
}
