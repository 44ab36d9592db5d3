//! The command line: unshare(1)'s spellings, and what it does not have.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Parser;

const SHORT_EXAMPLE: &str = "Example:\n  isolate --pid --uts --mount -- sh";

const LONG_HELP: &str = "\
EXAMPLES
  A shell that is PID 1 of its own pid namespace and may set its own hostname:
      isolate --pid --uts -- sh

  A whole container, made by the four tools:
      unpack img.tar | isolate --pid --uts -- pivot ./root -- mountclean -- sh

  The same as an ordinary user:
      unpack img.tar | isolate --user --map-root --pid --uts -- pivot ./root -- sh

EXIT STATUS
  COMMAND's own. Where COMMAND died of a signal, isolate dies of the same one.
  125  isolate itself failed
  126  COMMAND was found but could not be executed
  127  COMMAND was not found";

/// Run a command in new namespaces, with other ids, limits and privileges
#[derive(Parser, Clone, Debug)]
#[command(name = "isolate", version, after_help = SHORT_EXAMPLE, after_long_help = LONG_HELP)]
pub struct Args {
    /// Own mounts; kept in FILE if given
    #[arg(short, long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    pub mount: Option<Option<PathBuf>>,

    /// Own hostname and domain name
    #[arg(short, long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    pub uts: Option<Option<PathBuf>>,

    /// Own System V IPC objects and POSIX message queues
    #[arg(short, long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    pub ipc: Option<Option<PathBuf>>,

    /// Own network: nothing but a loopback that is up
    #[arg(short, long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    pub net: Option<Option<PathBuf>>,

    /// Own process ids; COMMAND is PID 1. This always forks
    #[arg(short, long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    pub pid: Option<Option<PathBuf>>,

    /// Own user and group ids, and capabilities over the namespaces made with them
    #[arg(short = 'U', long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    pub user: Option<Option<PathBuf>>,

    /// Own view of the cgroup hierarchy
    #[arg(short = 'C', long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    pub cgroup: Option<Option<PathBuf>>,

    /// Own boot-time and monotonic clocks
    #[arg(short = 'T', long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    pub time: Option<Option<PathBuf>>,

    /// All eight namespaces
    #[arg(long)]
    pub all: bool,

    /// Stay and wait for COMMAND even where no namespace needs it
    #[arg(short, long)]
    pub fork: bool,

    /// Set the hostname (implies --uts)
    #[arg(long, value_name = "NAME")]
    pub hostname: Option<OsString>,

    /// Be root in the new user namespace (implies --user)
    #[arg(short = 'r', long, alias = "map-root-user", conflicts_with = "map_current")]
    pub map_root: bool,

    /// Keep the own user and group in the new user namespace (implies --user)
    #[arg(short = 'c', long, alias = "map-current-user")]
    pub map_current: bool,

    #[command(flatten)]
    pub common: chain::Common,

    /// What to run, with its arguments; without it $SHELL or /bin/sh
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}
