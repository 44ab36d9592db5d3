//! The command line: one definition for parsing, help, manual and completions.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};

const EXAMPLE: &str = "Example: isolate --pid --uts -- pivot ./root -- mountclean -- sh";

const EXAMPLES: &str = "\
EXAMPLES
  The mount table of COMMAND is / and /proc alone:
    isolate --pid --uts -- pivot ./root -- mountclean -- mount
  As an ordinary user:
    isolate --user --map-root --pid -- pivot ./root -- mountclean -- sh
  After a pivot_root(8) by hand, where the host's tree is still above:
    unshare --mount --pid --fork sh -c '
        m=$(command -v mountclean); mount --rbind r r; cd r
        pivot_root . .; exec \"/..$m\" sh'
  As container runtimes leave /proc and /sys:
    isolate --pid --net -- pivot ./root -- mountclean --sys --mask -- sh
  A user's container that shares the host's processes, as MPI ranks do:
    isolate --map-current -- pivot ./root -- mountclean --proc=bind -- sh
  Keep a volume that was mounted by hand:
    mountclean --keep-mount /data -- sh

EXIT STATUS
  COMMAND's own
  125  mountclean itself failed, or something of the host's is left;
       COMMAND was not run
  126  COMMAND was found but could not be executed
  127  COMMAND was not found

NOTES
  The fresh /proc comes first: once the host's is gone, the kernel refuses a new
  one in a user namespace.

  Unless a pivot or isolate of the same chain made the mount namespace,
  mountclean enters one of its own; nothing is ever unmounted outside it.

  The proof: / is the root of the mount namespace; every mount is /, one of
  mountclean's, one that pivot was asked for, or kept with --keep-mount; the
  working directory and every descriptor that COMMAND gets lie in these.

  Behind a pivot that is not ours files and sockets of the host may be open from
  descriptor 3 up: these are closed.";

chain::arguments! {
/// Mount a fresh /proc, unmount the host's tree, prove that it is gone, and run a command
///
/// After pivot, detaches the host's tree that pivot left; without a pivot, unmounts everything but / and the new /proc.
/// COMMAND runs only if the proof holds; it is /bin/sh if none is given.
#[derive(Parser, Clone, Debug, Default)]
#[command(name = "mountclean", version, after_help = EXAMPLE, after_long_help = EXAMPLES, max_term_width = 80)]
pub struct Args {
    /// Command to become, with its arguments; /bin/sh if none is given
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,

    /// Keep the mount at DST, and those below it (can be given again)
    #[arg(long, value_name = "DST")]
    pub keep_mount: Vec<PathBuf>,

    /// Let COMMAND have this descriptor, wherever it leads (can be given again)
    #[arg(long, value_name = "N")]
    pub keep_fd: Vec<i32>,

    /// Mount options for /proc, comma-separated, such as hidepid=2 or subset=pid
    #[arg(long, value_name = "OPTIONS", value_delimiter = ',')]
    pub proc_opts: Vec<String>,

    /// Show the host's /proc if COMMAND has no pid namespace of its own; through it, processes of the same user lead to
    /// the host's tree
    #[arg(long, value_name = "bind", value_enum, conflicts_with = "proc_opts")]
    pub proc: Option<From>,

    /// Hide the paths of /proc and /sys that container runtimes hide, or make them read-only as they do; this prevents
    /// nesting in user namespaces
    #[arg(long)]
    pub mask: bool,

    /// Mount a /sys for the chain's own net namespace; ro: without one, mount the host's read-only
    #[arg(long, value_name = "ro", num_args = 0..=1, require_equals = true, default_missing_value = "own")]
    pub sys: Option<Sys>,

    /// Run no COMMAND: print "ready" when the proof holds, and stay until standard input ends, for others to come in by
    /// isolate --join; reap what they leave behind
    #[arg(long, conflicts_with = "command")]
    pub hold: bool,

    #[command(flatten)]
    pub common: chain::Common,
}
}

/// Where /proc comes from, if it is not a fresh one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum From {
    Bind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Sys {
    #[value(hide = true)]
    Own,
    Ro,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_without_clap_is_what_clap_reads() {
        let words = ["--mask", "--sys", "--keep-fd", "-v", "--", "-", "--mask=x", "sh", "", "--help"];
        chain::fuzz::every_line::<Args>(chain::Tool::Mountclean, &words);
    }
}
