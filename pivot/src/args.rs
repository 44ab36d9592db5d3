//! The command line: one definition for parsing, help, manual and completions.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::parser::ValueSource;
use clap::{ArgMatches, Command, FromArgMatches, Parser, ValueEnum};

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
    pivot --as-image --dev --etc resolv ./root
  His own name, home and files for a user who stays who he is:
    isolate --map-current --pid -- pivot --ephemeral --etc passwd,group --bind ~ ./root -- sh
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
  it lead nowhere outside. A DST that is not there is made; in a directory below / where the caller may make nothing, it
  is made in memory over that directory, which shows what is there. SRC may be /proc/self/fd/N, and so may ROOT. SRC brings along what is mounted below it. In SRC and DST
  a colon is written \\: and a comma needs nothing.
  --etc follows a link in the root only to a place in /etc or /run, and replaces nothing but regular files; what it
  leaves alone it says. With passwd in its list, HOME is what that file says of the caller.
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

    /// Let changes go to this directory, which is yours alone, and be there the next time; ROOT itself is never changed
    #[arg(long, value_name = "DIR")]
    pub overlay: Option<PathBuf>,

    #[command(flatten)]
    pub volumes: Volumes,

    /// Put read-only copies of these files in /etc, comma-separated: the host's resolv.conf and hosts, the uts
    /// namespace's hostname, the root's own passwd and group with the caller's entry added
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_enum)]
    pub etc: Vec<EtcFile>,

    /// Run what the image says: its Env, WorkingDir, User, Entrypoint and Cmd; COMMAND replaces Cmd
    #[arg(long)]
    pub as_image: bool,

    /// Set a variable for COMMAND, or keep the caller's, over what the image says (can be given again)
    #[arg(long, value_name = "NAME[=VALUE]", value_parser = OsStringValueParser::new().try_map(variable))]
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

/// A file of /etc.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EtcFile {
    Resolv,
    Hosts,
    Hostname,
    Passwd,
    Group,
}

/// A mount inside the root, or a place in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Volume {
    Bind {
        source: PathBuf,
        target: PathBuf,
        flags: Flags,
        /// Nothing is mounted where SRC is not there.
        optional: bool,
    },
    Tmpfs {
        target: PathBuf,
        options: Vec<(String, String)>,
        flags: Flags,
    },
    Dev,
    Directory {
        path: PathBuf,
    },
    Symlink {
        target: PathBuf,
        path: PathBuf,
    },
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
    /// Mount a file or directory of the host's at DST (SRC where it is left out); OPTIONS are ro, rw, nosuid, nodev,
    /// noexec, comma-separated (can be given again)
    #[arg(long, value_name = "SRC[:DST[:OPTIONS]]", value_parser = OsStringValueParser::new().try_map(bind))]
    bind: Vec<Volume>,

    /// The same, but do nothing where SRC is not there (can be given again)
    #[arg(long, value_name = "SRC[:DST[:OPTIONS]]", value_parser = OsStringValueParser::new().try_map(bind_try))]
    bind_try: Vec<Volume>,

    /// Mount an empty filesystem in memory at DST, nosuid and nodev; OPTIONS are size=BYTES (k, m, g, %), mode=OCTAL,
    /// nr_inodes=N, ro, rw, noexec and the like, comma-separated (can be given again)
    #[arg(long, value_name = "DST[:OPTIONS]", value_parser = OsStringValueParser::new().try_map(tmpfs))]
    tmpfs: Vec<Volume>,

    /// Make a directory in the root, where it is not there (can be given again)
    #[arg(long, value_name = "PATH", value_parser = OsStringValueParser::new().try_map(directory))]
    dir: Vec<Volume>,

    /// Make a symbolic link to TARGET in the root, where nothing is (can be given again)
    #[arg(long, value_name = "TARGET:PATH", value_parser = OsStringValueParser::new().try_map(symlink))]
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

fn variable(text: OsString) -> Result<(OsString, OsString), String> {
    let mut parts = text.as_bytes().splitn(2, |&b| b == b'=');
    match (parts.next(), parts.next()) {
        (Some(name), Some(value)) if !name.is_empty() => Ok((os(name), os(value))),
        (Some(name), None) if !name.is_empty() => {
            let value = std::env::var_os(os(name)).ok_or("not NAME=VALUE, nor a variable that is set")?;
            Ok((os(name), value))
        }
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
    let mut flags = Flags::default();
    for word in words.to_string_lossy().split(',').filter(|word| !word.is_empty()) {
        if !flags.set(word) {
            return Err(format!("{word} is none of ro, rw, nosuid, nodev, noexec"));
        }
    }
    Ok(Volume::Bind { source: named("SRC", source)?, target: inner(target)?, flags, optional: false })
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
                Volume::Bind { source: "/b".into(), target: "/b".into(), flags: plain, optional: false },
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
                    optional: false
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
