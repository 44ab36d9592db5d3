//! The command line: one definition for parsing, help, manual and completions.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Parser;

const EXAMPLE: &str = "Example: unpack img.tar | isolate --pid --uts -- pivot ./root -- sh";

const EXAMPLES: &str = "\
EXAMPLES
  A shell in the image, once it is unpacked:
    unpack img.tar | isolate --pid --uts -- pivot ./root -- sh
  As an ordinary user:
    isolate --user --map-root --pid -- pivot ./root -- mountclean -- sh
  The root from the pipe, whatever it is called:
    unpack img.tar ./some/where | pivot - -- sh
  A root that nothing can change:
    pivot --read-only ./root -- sh
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
  says that ROOT is complete. Anything else there is COMMAND's. A program that starts pivot with a pipe and waits for
  COMMAND to speak first needs --no-handoff.
  COMMAND inherits one descriptor of pivot's: a shared lock on ROOT, so that unpack --replace leaves it alone.";

/// Make a directory the root of a mount namespace of its own and run a command in it
///
/// Binds ROOT, makes it / with pivot_root(2) and detaches the host's tree, all in a mount namespace that the chain made
/// and that is private, so that nothing of it shows outside. COMMAND is sought in ROOT; without COMMAND, /bin/sh.
#[derive(Parser, Clone, Debug)]
#[command(name = "pivot", version, after_help = EXAMPLE, after_long_help = EXAMPLES, max_term_width = 100)]
pub struct Args {
    /// Directory to become /; - takes its path from unpack on standard input
    #[arg(value_name = "ROOT")]
    pub root: PathBuf,

    /// Command to become, with its arguments; /bin/sh where there is none
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,

    /// Make the root read-only, and every mount that it brings along
    #[arg(long)]
    pub read_only: bool,

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
