//! The command line: one definition for parsing, help, manual and completions.

// By their paths, since xtask includes this file from elsewhere.
#[path = "args/bind.rs"]
mod bind;
#[path = "args/fields.rs"]
mod fields;
#[path = "args/id_map.rs"]
mod id_map;
#[path = "args/volumes.rs"]
mod volumes;

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

pub use bind::{Bind, Changes};
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Parser, ValueEnum};
pub use fields::Flags;
pub use id_map::IdMap;
pub use volumes::{Volume, Volumes};

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
  The host's own system, read-only, without what is in ~/.ssh:
    pivot --read-only --hide ~/.ssh / -- sh
  A root whose changes vanish, one whose changes are kept in ./changes:
    pivot --ephemeral ./root -- sh
    pivot --overlay ./changes ./root -- sh
  A stack of layers, which stay as they are, with changes in ./changes:
    pivot --overlay ./changes ./root.mstack -- sh
  A volume that the container can change and the host keeps as it is, and one
  whose changes are kept elsewhere:
    pivot --bind ./data:/data:ephemeral ./root -- sh
    pivot --bind ./data:/data:overlay=./kept ./root -- sh
  Two directories as one, of which neither is changed:
    pivot --bind ./data:/data:ephemeral,lower=./some ./root -- sh
  What the image says it runs, with a /dev and the host's name servers:
    pivot --as-image --dev --etc resolv ./root
  The caller's own name, home and files:
    isolate --map-current --pid -- \\
        pivot --ephemeral --etc passwd,group --bind ~ ./root -- sh
  See the host's tree while debugging:
    pivot --put-old /mnt ./root -- ls /mnt

EXIT STATUS
  COMMAND's own
  125  pivot itself failed; COMMAND was not run
  126  COMMAND was found but could not be executed
  127  COMMAND was not found

NOTES
  COMMAND sees no mount, directory or descriptor of the host's. That is not a
  sandbox: a process with every capability can still open the host's files by
  handle or its disks by device. isolate --cap-drop takes that away.

  Where standard input is a pipe, pivot looks at its first bytes, without taking
  them, for the line by which unpack says that ROOT is complete. The line of an
  unpack of another root is an error; anything else is COMMAND's.

  While there is nothing to read, pivot waits only if another stage of the
  pipeline holds the pipe: never for the program that started the chain, as ssh
  does. A stage that waits for COMMAND to speak first needs --no-handoff.

  Mounts are made in the order of their options. DST is a path as a process in
  ROOT would resolve it: symbolic links in it lead nowhere outside.

  A DST that is not there is made: in the overlay of --ephemeral and --overlay;
  with --read-only, or where the caller may make nothing, in memory over the
  nearest directory, which shows what is there; otherwise in ROOT. In a
  directory that is the host's own (ROOT is /, or the directory belongs to a
  volume) it is refused, and --dir makes it.

  SRC may be /proc/self/fd/N, and so may ROOT. SRC brings along what is mounted
  below it. In SRC and DST a colon is written \\: and a comma needs nothing.
  What --hide covers is covered at PATH alone.

  rslave, as in --bind /media::ro,rslave, takes a SRC whose mount is shared or a
  slave outside (mount --make-rshared). What arrives later has the flags that it
  has outside. An isolate that makes a mount namespace, before or after pivot,
  needs --propagation slave.

  idmap=1000:0:1 shows user 1000's files as root's, and what root makes there is
  user 1000's outside. An id that MAP does not name shows as nobody's (65534),
  and can make nothing there. Root may do this with most filesystems, a user
  only with those mounted in their user namespace.

  lower=DIR shows DIR below SRC; of several, the first is on top. Without
  ephemeral or overlay=DIR nothing can be changed.

  --etc follows a link in the root only to a place in /etc or /run, and replaces
  nothing but regular files; it says what it leaves alone. With passwd in its
  list, HOME is what that file says of the caller.

  The last isolate of the chain becomes the image's User, with the groups of the
  root's own files; its --setuid and --setgid win. Where there is no isolate
  behind pivot, one is added.

  --ephemeral and --overlay show ROOT's own filesystem without what is mounted
  below it.

  COMMAND inherits a descriptor of pivot's: a lock on ROOT's receipt, so that
  unpack --replace leaves ROOT alone; with --overlay another, which keeps other
  containers out of DIR.";

chain::arguments! {
/// Make a directory the root of a mount namespace of its own and run a command in it
///
/// Binds ROOT, makes it / with pivot_root(2) and detaches the host's tree, all in a private mount namespace of the
/// chain's own, so that nothing of it shows outside. COMMAND is looked up in ROOT; it is /bin/sh if none is given.
#[derive(Parser, Clone, Debug, Default)]
#[command(name = "pivot", version, after_help = EXAMPLE, after_long_help = EXAMPLES, max_term_width = 80)]
pub struct Args {
    /// Directory to become /, or NAME.mstack, a stack of layers; - takes its path from unpack on standard input
    #[arg(value_name = "ROOT")]
    pub root: PathBuf,

    /// Command to become, with its arguments; /bin/sh if none is given
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,

    /// Make the root and all mounts in it read-only; volumes stay as their options say
    #[arg(long)]
    pub read_only: bool,

    /// Ignore setuid and setgid bits and file capabilities in the root
    #[arg(long, help_heading = "The root")]
    pub nosuid: bool,

    /// Allow no device node of the root to be opened
    #[arg(long, help_heading = "The root")]
    pub nodev: bool,

    /// Allow no program of the root to run
    #[arg(long, help_heading = "The root")]
    pub noexec: bool,

    /// Keep changes in memory and discard them at the end; ROOT itself is never changed
    #[arg(long, conflicts_with = "overlay")]
    pub ephemeral: bool,

    /// Keep changes in DIR, which must be yours alone, for the next time; ROOT itself is never changed
    #[arg(long, value_name = "DIR")]
    pub overlay: Option<PathBuf>,

    /// Show the owners of the root's files under other ids, like mount(8)'s X-mount.idmap: COUNT ids from ID on appear
    /// as those from SHOWN on, with u: or g: in front only for users or groups; several maps in one word, separated by
    /// spaces, or the path of a user namespace (/proc/PID/ns/user)
    #[arg(long, value_name = "ID:SHOWN:COUNT", help_heading = "The root")]
    pub idmap: Option<IdMap>,

    #[command(flatten)]
    pub volumes: Volumes,

    /// Put read-only copies of these files in /etc, comma-separated: the host's resolv.conf and hosts, the uts
    /// namespace's hostname, the root's own passwd and group with your entry added
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_enum)]
    pub etc: Vec<EtcFile>,

    // The spellings of version 0.1.
    #[arg(long, hide = true)]
    pub resolv: bool,
    #[arg(long, hide = true)]
    pub hosts: bool,
    #[arg(long, hide = true)]
    pub hostname: bool,

    /// Run what the image says: its Env, WorkingDir, User, Entrypoint and Cmd; COMMAND replaces Cmd
    #[arg(long)]
    pub as_image: bool,

    /// Set a variable for COMMAND, or pass on yours, whatever the image says (can be given again)
    #[arg(long, value_name = "NAME[=VALUE]", value_parser = OsStringValueParser::new().try_map(variable))]
    pub env: Vec<(OsString, OsString)>,

    /// Start COMMAND in this directory of the root instead of /
    #[arg(long, value_name = "DIR")]
    pub chdir: Option<PathBuf>,

    /// Keep the host's tree, below this directory of the root
    #[arg(long, value_name = "DIR", conflicts_with = "keep_host", help_heading = "The root")]
    pub put_old: Option<PathBuf>,

    /// Keep the host's tree stacked on /, where /.. leads to it; needs no directory in ROOT
    #[arg(long, help_heading = "The root")]
    pub keep_host: bool,

    /// Pass an inherited descriptor on to COMMAND (can be given again); others from 3 up are closed
    #[arg(long, value_name = "N", help_heading = "Descriptors")]
    pub keep_fd: Vec<u32>,

    /// Leave standard input alone: do not look for unpack's line in it
    #[arg(long, help_heading = "Descriptors")]
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

#[cfg(test)]
mod tests {
    use super::*;

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
