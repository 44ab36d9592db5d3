//! The command line: one definition for parsing, help, manual and completions.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::parser::ValueSource;
use clap::{ArgMatches, Command, FromArgMatches, Parser};

const EXAMPLE: &str = "Example: unpack img.tar | isolate --pid --uts -- pivot ./root -- sh";

const EXAMPLES: &str = "\
EXAMPLES
  A shell in the image, once it is unpacked:
    unpack img.tar | isolate --pid --uts -- pivot ./root -- sh
  As an ordinary user:
    isolate --user --map-root --pid -- pivot ./root -- mountclean -- sh
  The root from the pipe, whatever it is called:
    unpack img.tar ./some/where | pivot - -- sh
  A root that nothing can change, with a volume that can be:
    pivot --read-only --bind ./data:/data ./root -- sh
  A root whose changes vanish, one whose changes are kept in ./changes:
    pivot --ephemeral ./root -- sh
    pivot --overlay ./changes ./root -- sh
  What the image says it runs, with a /dev and the host's name servers:
    pivot --as-image --dev --resolv ./root
  See the host's tree while debugging:
    pivot --put-old /mnt ./root -- ls /mnt

EXIT STATUS
  COMMAND's own
  125  pivot itself failed; COMMAND was not run
  126  COMMAND was found but could not be executed
  127  COMMAND was not found

NOTES
  COMMAND sees no mount, directory or descriptor of the host's. That is not a sandbox: a process with every capability
  can still open the host's files by handle or its disks by device. Drop capabilities (isolate --cap-drop) for that.
  Where standard input is a pipe, pivot looks at its first bytes, without taking them, for the line by which unpack
  says that ROOT is complete. The line of an unpack of another root is an error; anything else is COMMAND's. While there
  is nothing to read, pivot waits only if another stage of the pipeline holds the pipe: never for the program that
  started the chain, as ssh does. A stage that waits for COMMAND to speak first needs --no-handoff.
  Mounts are made in the order of their options. DST is a path as a process in ROOT would resolve it: symbolic links in
  it lead nowhere outside. A DST that is not there is made. SRC brings along what is mounted below it. In SRC and DST
  a colon is written \\: and a comma needs nothing.
  The image's User is who the last isolate of the chain becomes, with the groups of the root's own files; its --setuid
  and --setgid win. Where there is none, one is added for that.
  --ephemeral and --overlay show ROOT's own filesystem without what is mounted below it.
  COMMAND inherits a descriptor of pivot's: a lock on ROOT's receipt, so that unpack --replace leaves ROOT alone; with
  --overlay another, which keeps other containers out of DIR.";

chain::arguments! {
/// Make a directory the root of a mount namespace of its own and run a command in it
///
/// Binds ROOT, makes it / with pivot_root(2) and detaches the host's tree, all in a mount namespace that the chain made
/// and that is private, so that nothing of it shows outside. COMMAND is sought in ROOT; without COMMAND, /bin/sh.
#[derive(Parser, Clone, Debug, Default)]
#[command(name = "pivot", version, after_help = EXAMPLE, after_long_help = EXAMPLES, max_term_width = 100)]
pub struct Args {
    /// Directory to become /; - takes its path from unpack on standard input
    #[arg(value_name = "ROOT")]
    pub root: PathBuf,

    /// Command to become, with its arguments; /bin/sh where there is none
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,

    /// Make the root read-only, and every mount that it brings along; volumes stay as they were given
    #[arg(long)]
    pub read_only: bool,

    /// Let changes go to memory and vanish at the end; ROOT itself is never changed
    #[arg(long, conflicts_with = "overlay")]
    pub ephemeral: bool,

    /// Let changes go to this directory and be there the next time; ROOT itself is never changed
    #[arg(long, value_name = "DIR")]
    pub overlay: Option<PathBuf>,

    #[command(flatten)]
    pub volumes: Volumes,

    /// Put a read-only copy of the host's /etc/resolv.conf in place
    #[arg(long)]
    pub resolv: bool,

    /// Put a read-only copy of the host's /etc/hosts in place
    #[arg(long)]
    pub hosts: bool,

    /// Put a read-only /etc/hostname with the name of the uts namespace in place
    #[arg(long)]
    pub hostname: bool,

    /// Run what the image says: its Env, WorkingDir, User, Entrypoint and Cmd; COMMAND replaces Cmd
    #[arg(long)]
    pub as_image: bool,

    /// Set a variable for COMMAND, over what the image says (can be given again)
    #[arg(long, value_name = "NAME=VALUE", value_parser = OsStringValueParser::new().try_map(variable))]
    pub env: Vec<(OsString, OsString)>,

    /// Start COMMAND in this directory of the root instead of /
    #[arg(long, value_name = "DIR")]
    pub chdir: Option<PathBuf>,

    /// Keep the host's tree, under this directory of the root
    #[arg(long, value_name = "DIR", conflicts_with = "keep_host")]
    pub put_old: Option<PathBuf>,

    /// Keep the host's tree stacked on /, where /.. leads to it
    #[arg(long)]
    pub keep_host: bool,

    /// Pass an inherited descriptor on to COMMAND (can be given again); others from 3 up are closed
    #[arg(long, value_name = "N")]
    pub keep_fd: Vec<u32>,

    /// Leave standard input alone: do not look for unpack's line in it
    #[arg(long)]
    pub no_handoff: bool,

    #[command(flatten)]
    pub common: chain::Common,
}
}

/// A mount inside the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Volume {
    Bind { source: PathBuf, target: PathBuf, options: BindOptions },
    Tmpfs { target: PathBuf, options: Vec<(String, String)> },
    Dev,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BindOptions {
    pub read_only: bool,
    pub nosuid: bool,
    pub nodev: bool,
    pub noexec: bool,
}

#[derive(clap::Args, Clone, Debug, Default)]
struct VolumeOptions {
    /// Mount a file or directory of the host's at DST (SRC where it is left out); OPTIONS are ro, rw, nosuid, nodev,
    /// noexec, comma-separated (can be given again)
    #[arg(long, value_name = "SRC[:DST[:OPTIONS]]", value_parser = OsStringValueParser::new().try_map(bind))]
    bind: Vec<Volume>,

    /// Mount an empty filesystem in memory at DST; OPTIONS are size=BYTES (k, m, g, %), mode=OCTAL, nr_inodes=N,
    /// comma-separated (can be given again)
    #[arg(long, value_name = "DST[:OPTIONS]", value_parser = OsStringValueParser::new().try_map(tmpfs))]
    tmpfs: Vec<Volume>,

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
        let mut placed: Vec<(usize, Volume)> = at("bind").into_iter().zip(options.bind).collect();
        placed.extend(at("tmpfs").into_iter().zip(options.tmpfs));
        placed.extend(at("dev").into_iter().zip(dev));
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

fn variable(text: OsString) -> Result<(OsString, OsString), String> {
    let mut parts = text.as_bytes().splitn(2, |&b| b == b'=');
    match (parts.next(), parts.next()) {
        (Some(name), Some(value)) if !name.is_empty() => Ok((os(name), os(value))),
        _ => Err("not NAME=VALUE".into()),
    }
}

fn os(bytes: &[u8]) -> OsString {
    OsString::from_vec(bytes.to_vec())
}

fn bind(text: OsString) -> Result<Volume, String> {
    let fields = fields(&text);
    let (source, target, words) = match fields.as_slice() {
        [source] => (source, source, OsStr::new("")),
        [source, target] => (source, target, OsStr::new("")),
        [source, target, words] => (source, target, words.as_os_str()),
        _ => return Err(TOO_MANY.into()),
    };
    let mut options = BindOptions::default();
    for word in words.to_string_lossy().split(',').filter(|word| !word.is_empty()) {
        match word {
            "ro" => options.read_only = true,
            "rw" => options.read_only = false,
            "nosuid" => options.nosuid = true,
            "nodev" => options.nodev = true,
            "noexec" => options.noexec = true,
            _ => return Err(format!("{word} is none of ro, rw, nosuid, nodev, noexec")),
        }
    }
    Ok(Volume::Bind { source: named("SRC", source)?, target: inner(target)?, options })
}

fn tmpfs(text: OsString) -> Result<Volume, String> {
    let fields = fields(&text);
    let (target, words) = match fields.as_slice() {
        [target] => (target, OsStr::new("")),
        [target, words] => (target, words.as_os_str()),
        _ => return Err(TOO_MANY.into()),
    };
    let mut options = Vec::new();
    for word in words.to_string_lossy().split(',').filter(|word| !word.is_empty()) {
        match word.split_once('=') {
            Some((key @ ("size" | "mode" | "nr_inodes"), value)) if !value.is_empty() => {
                options.push((key.into(), value.into()));
            }
            _ => return Err(format!("{word} is none of size=BYTES, mode=OCTAL, nr_inodes=N")),
        }
    }
    Ok(Volume::Tmpfs { target: inner(target)?, options })
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
    use super::*;

    fn volumes(words: &[&str]) -> Vec<Volume> {
        Args::try_parse_from([&["pivot"], words, &["r"]].concat()).unwrap().volumes.0
    }

    #[test]
    fn volumes_keep_the_order_in_which_they_were_given() {
        let given =
            volumes(&["--tmpfs", "/a", "--bind", "/b", "--dev", "--tmpfs=/c:size=1m,mode=700", "--bind=/d:/e:ro"]);
        let plain = BindOptions::default();
        assert_eq!(
            given,
            [
                Volume::Tmpfs { target: "/a".into(), options: vec![] },
                Volume::Bind { source: "/b".into(), target: "/b".into(), options: plain },
                Volume::Dev,
                Volume::Tmpfs {
                    target: "/c".into(),
                    options: vec![("size".into(), "1m".into()), ("mode".into(), "700".into())]
                },
                Volume::Bind {
                    source: "/d".into(),
                    target: "/e".into(),
                    options: BindOptions { read_only: true, ..plain }
                },
            ]
        );
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
        for text in ["/", "..", "/a:size", "/a:uid=0", "/a:b:c"] {
            assert!(Args::try_parse_from(["pivot", "--tmpfs", text, "r"]).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_read_without_clap_is_what_clap_reads() {
        chain::fuzz::every_line::<Args>(
            chain::Tool::Pivot,
            &["--read-only", "--ephemeral", "--as-image", "--overlay", "--dev", "--", "-", "r", "sh", "", "--help"],
        );
    }

    #[test]
    fn everything_from_command_on_is_passed_untouched() {
        let args = Args::try_parse_from(["pivot", "r", "ls", "-l", "--", "--help", "--bind"]).unwrap();
        assert_eq!(args.command, ["ls", "-l", "--", "--help", "--bind"]);
        let args = Args::try_parse_from(["pivot", "--read-only", "r", "--", "-x", "--", "y"]).unwrap();
        assert_eq!(args.command, ["-x", "--", "y"]);
        let args = Args::try_parse_from(["pivot", "--", "r", "ls", "--read-only"]).unwrap();
        assert_eq!(args.command, ["ls", "--read-only"]);
        assert!(!args.read_only);
    }
}
