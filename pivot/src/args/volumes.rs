//! The options that mount something in the root, in the order in which they were given.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::parser::ValueSource;
use clap::{ArgMatches, Command, FromArgMatches};

/// A mount inside the root, or a place in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Volume {
    Bind {
        source: PathBuf,
        target: PathBuf,
        flags: Flags,
        /// Nothing is mounted where SRC is not there.
        optional: bool,
        /// With what is mounted below SRC.
        recursive: bool,
        changes: Changes,
    },
    Tmpfs {
        target: PathBuf,
        options: Vec<(String, String)>,
        flags: Flags,
    },
    Dev,
    Hide {
        path: PathBuf,
    },
    Directory {
        path: PathBuf,
    },
    Symlink {
        target: PathBuf,
        path: PathBuf,
    },
}

/// Where what COMMAND changes in a volume goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Changes {
    #[default]
    Source,
    Memory,
    Directory(PathBuf),
}

/// What a mount forbids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    pub read_only: bool,
    pub nosuid: bool,
    pub nodev: bool,
    pub noexec: bool,
}

impl Flags {
    /// Sets what a word of mount(8) says; false where it is none.
    fn set(&mut self, word: &str) -> bool {
        let (flag, value) = match word {
            "ro" | "rw" => (&mut self.read_only, word == "ro"),
            "nosuid" | "suid" => (&mut self.nosuid, word == "nosuid"),
            "nodev" | "dev" => (&mut self.nodev, word == "nodev"),
            "noexec" | "exec" => (&mut self.noexec, word == "noexec"),
            _ => return false,
        };
        *flag = value;
        true
    }
}

#[derive(clap::Args, Clone, Debug, Default)]
struct VolumeOptions {
    /// Mount a file or directory of the host's at DST (SRC where it is left out or empty); OPTIONS, comma-separated: ro,
    /// rw, nosuid, nodev, noexec; bind, without what is mounted below SRC; ephemeral, where changes vanish at the end;
    /// overlay=DIR, where they go to DIR and are there the next time (can be given again)
    #[arg(long, value_name = "SRC[:DST[:OPTIONS]]", value_parser = OsStringValueParser::new().try_map(bind))]
    bind: Vec<Volume>,

    /// Like --bind, but do nothing where SRC is not there (can be given again)
    #[arg(long, value_name = "SRC[:DST[:OPTIONS]]", value_parser = OsStringValueParser::new().try_map(bind_try), help_heading = "More mounts")]
    bind_try: Vec<Volume>,

    /// Mount an empty filesystem in memory at DST, nosuid and nodev; OPTIONS are size=BYTES (k, m, g, %), mode=OCTAL,
    /// nr_inodes=N, ro, rw, noexec and the like, comma-separated (can be given again)
    #[arg(long, value_name = "DST[:OPTIONS]", value_parser = OsStringValueParser::new().try_map(tmpfs), help_heading = "More mounts")]
    tmpfs: Vec<Volume>,

    /// Cover what is at PATH with an empty file or directory; do nothing where nothing is (can be given again)
    #[arg(long, value_name = "PATH", value_parser = OsStringValueParser::new().try_map(hide), help_heading = "More mounts")]
    hide: Vec<Volume>,

    /// Make a directory in the root, where it is not there (can be given again)
    #[arg(long, value_name = "PATH", value_parser = OsStringValueParser::new().try_map(directory), help_heading = "More mounts")]
    dir: Vec<Volume>,

    /// Make a symbolic link to TARGET in the root, where nothing is (can be given again)
    #[arg(long, value_name = "TARGET:PATH", value_parser = OsStringValueParser::new().try_map(symlink), help_heading = "More mounts")]
    symlink: Vec<Volume>,

    /// Make a minimal /dev: null, zero, full, random, urandom, tty, a devpts of its own, shm, and mqueue in an own ipc
    /// namespace
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

fn bind(text: OsString) -> Result<Volume, String> {
    let fields = fields(&text);
    let (source, target, words) = match fields.as_slice() {
        [source] => (source, source, OsStr::new("")),
        [source, target] => (source, target, OsStr::new("")),
        [source, target, words] if target.is_empty() && !words.is_empty() => (source, source, words.as_os_str()),
        [source, target, words] => (source, target, words.as_os_str()),
        _ => return Err(TOO_MANY.into()),
    };
    let (mut flags, mut recursive, mut changes) = (Flags::default(), true, Changes::Source);
    for word in words.as_bytes().split(|&byte| byte == b',').filter(|word| !word.is_empty()) {
        match word.strip_prefix(b"overlay=") {
            Some(dir) if !dir.is_empty() => changes = Changes::Directory(OsStr::from_bytes(dir).into()),
            _ if word == b"ephemeral" => changes = Changes::Memory,
            _ if word == b"bind" || word == b"rbind" => recursive = word == b"rbind",
            _ if flags.set(&String::from_utf8_lossy(word)) => {}
            _ => {
                let word = String::from_utf8_lossy(word);
                return Err(format!(
                    "{word} is none of ro, rw, nosuid, nodev, noexec, bind, rbind, ephemeral, overlay=DIR"
                ));
            }
        }
    }
    let (source, target) = (named("SRC", source)?, inner(target)?);
    Ok(Volume::Bind { source, target, flags, optional: false, recursive, changes })
}

fn bind_try(text: OsString) -> Result<Volume, String> {
    let mut volume = bind(text)?;
    if let Volume::Bind { optional, .. } = &mut volume {
        *optional = true;
    }
    Ok(volume)
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

/// Splits at colons; a backslash takes the next byte as it is. Names need not be text.
fn fields(text: &OsStr) -> Vec<OsString> {
    let mut fields = vec![Vec::new()];
    let mut bytes = text.as_bytes().iter().copied();
    while let Some(byte) = bytes.next() {
        match (byte, fields.last_mut()) {
            (b':', _) => fields.push(Vec::new()),
            (b'\\', Some(field)) => field.push(bytes.next().unwrap_or(b'\\')),
            (byte, Some(field)) => field.push(byte),
            (_, None) => {}
        }
    }
    fields.into_iter().map(OsString::from_vec).collect()
}

fn named(what: &str, path: &OsStr) -> Result<PathBuf, String> {
    if path.is_empty() { Err(format!("{what} is empty")) } else { Ok(path.into()) }
}

/// A path in the root, which the root itself is not.
fn inner(path: &OsStr) -> Result<PathBuf, String> {
    let target = named("DST", path)?;
    if target.components().any(|part| matches!(part, std::path::Component::Normal(_))) {
        Ok(target)
    } else {
        Err(format!("{}: DST must be below the root", path.display()))
    }
}

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
                Volume::Bind {
                    source: "/b".into(),
                    target: "/b".into(),
                    flags: plain,
                    optional: false,
                    recursive: true,
                    changes: Changes::Source
                },
                Volume::Dev,
                Volume::Tmpfs {
                    target: "/c".into(),
                    options: vec![("size".into(), "1m".into()), ("mode".into(), "700".into())],
                    flags: memory
                },
                Volume::Bind {
                    source: "/d".into(),
                    target: "/e".into(),
                    flags: Flags { read_only: true, ..plain },
                    optional: false,
                    recursive: true,
                    changes: Changes::Source
                },
            ]
        );
    }

    #[test]
    fn an_empty_destination_with_options_is_the_source() {
        let [Volume::Bind { source, target, flags, changes, .. }] = &volumes(&["--bind", r"/a::ro,overlay=b\:c"])[..]
        else {
            panic!("no volume");
        };
        assert_eq!((source.as_path(), target.as_path(), flags.read_only), ("/a".as_ref(), "/a".as_ref(), true));
        assert_eq!(changes, &Changes::Directory("b:c".into()));
    }

    #[test]
    fn a_backslash_keeps_a_colon_in_a_name() {
        assert_eq!(fields(OsStr::new(r"a\:b:c\\:d")), ["a:b", r"c\", "d"]);
        assert_eq!(fields(OsStr::from_bytes(b"\xff:\\")), [OsStr::from_bytes(b"\xff"), OsStr::new(r"\")]);
    }

    #[test]
    fn specifications_that_say_nothing_are_refused() {
        for words in
            [["--bind", ""], ["--bind", "a:"], ["--bind", "a:/:ro"], ["--bind", "a:b:c:d"], ["--bind", "a:/b:x"]]
        {
            assert!(Args::try_parse_from(["pivot", words[0], words[1], "r"]).is_err(), "{words:?}");
        }
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
