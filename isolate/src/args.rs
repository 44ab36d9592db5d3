//! The command line: unshare(1)'s spellings, and what it does not have.

// By their paths, so that xtask can include this file alone.
#[path = "args/ids.rs"]
mod ids;
#[path = "args/limits.rs"]
mod limits;
#[path = "args/names.rs"]
mod names;
#[path = "args/namespaces.rs"]
mod namespaces;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Parser;

use ids::allow_or_deny;
pub use ids::{Mapping, Owner};
pub use limits::{Cpus, Pids, Rlimit, Size};
pub use names::{CapabilityName, SignalName};
pub use namespaces::{Join, Named, Process, Propagation};

const SHORT_EXAMPLE: &str = "Example:\n  isolate --pid --uts --mount -- sh";

const LONG_HELP: &str = "\
EXAMPLES
  A shell that is PID 1 of its own pid namespace and may set its own hostname:
      isolate --pid --uts -- sh

  A whole container, made by the four tools:
      unpack img.tar |
          isolate --pid --uts -- pivot ./root -- mountclean -- sh

  The same as an ordinary user:
      unpack img.tar |
          isolate --user --map-root --pid --uts -- pivot ./root -- sh

EXIT STATUS
  COMMAND's own. Where COMMAND died of a signal, isolate dies of the same one.
  125  isolate itself failed
  126  COMMAND was found but could not be executed
  127  COMMAND was not found";

chain::arguments! {
/// Run a command in new namespaces, with other ids, limits and privileges
#[derive(Parser, Clone, Debug, Default)]
#[command(name = "isolate", version, after_help = SHORT_EXAMPLE, after_long_help = LONG_HELP, max_term_width = 80)]
pub struct Args {
    /// New mount namespace; bind it to FILE if given
    #[arg(short, long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    pub mount: Option<Option<PathBuf>>,

    /// New hostname and domain name
    #[arg(short, long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    pub uts: Option<Option<PathBuf>>,

    /// New System V IPC objects and POSIX message queues
    #[arg(short, long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    pub ipc: Option<Option<PathBuf>>,

    /// New network with only a loopback, which is up
    #[arg(short, long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    pub net: Option<Option<PathBuf>>,

    /// New process ids; COMMAND is PID 1. This always forks
    #[arg(short, long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    pub pid: Option<Option<PathBuf>>,

    /// New user and group ids, and capabilities over the namespaces made with them
    #[arg(short = 'U', long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    pub user: Option<Option<PathBuf>>,

    /// New view of the cgroup hierarchy
    #[arg(short = 'C', long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    pub cgroup: Option<Option<PathBuf>>,

    /// New boot-time and monotonic clocks
    #[arg(short = 'T', long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    pub time: Option<Option<PathBuf>>,

    /// All eight namespaces
    #[arg(long)]
    pub all: bool,

    /// Set the hostname (implies --uts)
    #[arg(long, value_name = "NAME")]
    pub hostname: Option<OsString>,

    /// How mounts and unmounts pass between the new mount namespace and the old: private, slave, shared or unchanged
    #[arg(long, value_name = "TYPE", default_value = "private", hide_default_value = true, help_heading = "Namespaces")]
    pub propagation: Propagation,

    /// Mount a fresh proc on DIR, /proc if not given (implies --mount)
    #[arg(long, value_name = "DIR", num_args = 0..=1, require_equals = true, default_missing_value = "/proc", help_heading = "Namespaces")]
    pub mount_proc: Option<PathBuf>,

    /// Mount the binfmt_misc of the new user namespace on DIR, /proc/sys/fs/binfmt_misc if not given (implies --mount)
    #[arg(long, value_name = "DIR", num_args = 0..=1, require_equals = true, default_missing_value = "/proc/sys/fs/binfmt_misc", help_heading = "Namespaces")]
    pub mount_binfmt: Option<PathBuf>,

    /// Shift the boot-time clock by SECONDS (with --time)
    #[arg(long, value_name = "SECONDS", allow_hyphen_values = true, help_heading = "Namespaces")]
    pub boottime: Option<i64>,

    /// Shift the monotonic clock by SECONDS (with --time)
    #[arg(long, value_name = "SECONDS", allow_hyphen_values = true, help_heading = "Namespaces")]
    pub monotonic: Option<i64>,

    /// Enter existing namespaces: all those of process PID, and its limits, or only WHAT of it (namespaces, root, wd,
    /// env); those of the process named in FILE, which another isolate's --status-fd writes; or namespaces kept in
    /// files
    #[arg(long, value_name = "PID|FILE[:WHAT,...]|NS=FILE,...", help_heading = "Namespaces")]
    pub join: Option<Join>,

    /// Be root in the new user namespace (implies --user)
    #[arg(short = 'r', long, alias = "map-root-user")]
    pub map_root: bool,

    /// Keep your user and group in the new user namespace (implies --user); later links of the chain have the
    /// capabilities that they need, COMMAND has none
    #[arg(short = 'c', long, alias = "map-current-user", conflicts_with_all = ["map_root", "map_user", "map_group"], help_heading = "Ids")]
    pub map_current: bool,

    /// Map your user to USER, a number or name (implies --user)
    #[arg(long, value_name = "USER", conflicts_with = "map_root", help_heading = "Ids")]
    pub map_user: Option<OsString>,

    /// Map your group to GROUP, a number or name (implies --user)
    #[arg(long, value_name = "GROUP", conflicts_with = "map_root", help_heading = "Ids")]
    pub map_group: Option<OsString>,

    /// Also map your ranges in /etc/subuid and /etc/subgid, around your own id; you are root unless another option says
    /// otherwise (implies --user)
    #[arg(long)]
    pub map_auto: bool,

    /// Map your ranges in /etc/subuid and /etc/subgid to themselves (implies --user)
    #[arg(long, help_heading = "Ids")]
    pub map_subids: bool,

    /// Map a range of users; also `auto`, `subids`, `all`, and the older OUTER,INNER,COUNT (implies --user)
    #[arg(long, value_name = "INNER:OUTER:COUNT", help_heading = "Ids")]
    pub map_users: Vec<Mapping>,

    /// Map a range of groups, in the same forms (implies --user)
    #[arg(long, value_name = "INNER:OUTER:COUNT", help_heading = "Ids")]
    pub map_groups: Vec<Mapping>,

    /// Make the new user namespace as this user and group, numbers or names: it is theirs, and so are "own" ids above;
    /// for root, who may map what they may not (implies --user)
    #[arg(long, value_name = "USER:GROUP", conflicts_with_all = ["boottime", "monotonic"], help_heading = "Ids")]
    pub owner: Option<Owner>,

    /// Whether setgroups(2) may be used in the new user namespace: allow or deny
    #[arg(long, value_name = "allow|deny", value_parser = allow_or_deny, help_heading = "Ids")]
    pub setgroups: Option<bool>,

    /// Become this user, a number or name
    #[arg(short = 'S', long, value_name = "USER", help_heading = "Ids")]
    pub setuid: Option<OsString>,

    /// Become this group, a number or name, and leave all others
    #[arg(short = 'G', long, value_name = "GROUP", help_heading = "Ids")]
    pub setgid: Option<OsString>,

    /// Have these supplementary groups, numbers or names, beside the current group or that of --setgid
    #[arg(long, value_name = "GROUP,...", value_delimiter = ',', help_heading = "Ids")]
    pub groups: Vec<OsString>,

    /// Stay and wait for COMMAND even if no namespace needs it
    #[arg(short, long, help_heading = "Process")]
    pub fork: bool,

    /// Accepted for scripts written for unshare(1): isolate always passes signals on to COMMAND (implies --fork)
    #[arg(long, help_heading = "Process")]
    pub forward_signals: bool,

    /// Send COMMAND this signal when isolate dies, by name or number, SIGKILL by default; a PID 1 that would not see it
    /// is killed (implies --fork)
    #[arg(long, value_name = "SIGNAL", num_args = 0..=1, require_equals = true, default_missing_value = "KILL", help_heading = "Process")]
    pub kill_child: Option<SignalName>,

    /// End with the process that started isolate, whatever ends that (implies --fork)
    #[arg(long, help_heading = "Process")]
    pub die_with_parent: bool,

    /// Put a small reaper at PID 1 and COMMAND under it (implies --pid and --mount)
    #[arg(long, help_heading = "Process")]
    pub init: bool,

    /// Give COMMAND a terminal and a session of its own: it cannot read or configure the caller's, nor type into it
    /// (implies --fork)
    #[arg(long, conflicts_with = "new_session", help_heading = "Process")]
    pub pty: bool,

    /// Give COMMAND a session of its own without a terminal: it reads nothing from the caller's, and what it writes
    /// there is passed on (implies --fork)
    #[arg(long, help_heading = "Process")]
    pub new_session: bool,

    /// Change the root directory
    #[arg(short = 'R', long, value_name = "DIR", help_heading = "Process")]
    pub root: Option<PathBuf>,

    /// Change the working directory, after --root
    #[arg(short = 'w', long, value_name = "DIR", help_heading = "Process")]
    pub wd: Option<PathBuf>,

    /// Start with only PATH, HOME and TERM in the environment
    #[arg(long, help_heading = "Process")]
    pub clean_env: bool,

    /// Start with an empty environment
    #[arg(long, conflicts_with = "clean_env", help_heading = "Process")]
    pub clear_env: bool,

    /// Start with only these variables, or, with --clean-env, these in addition
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', help_heading = "Process")]
    pub whitelist_env: Vec<OsString>,

    /// Write JSON lines to descriptor N: started (pid, namespaces) and exited (code or signal, limit)
    #[arg(long, value_name = "N", help_heading = "Process")]
    pub status_fd: Option<i32>,

    /// Memory, including swap: bytes, or with K, M, G, T of 1024
    #[arg(long, value_name = "SIZE", help_heading = "Limits")]
    pub memory: Option<Size>,

    /// Processor time: 0.5 is half a processor
    #[arg(long, value_name = "NUMBER", help_heading = "Limits")]
    pub cpus: Option<Cpus>,

    /// Number of processes and threads
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub pids_max: Option<Pids>,

    /// A limit of setrlimit(2), such as nofile=64:128; a number, or `unlimited`, soft[:hard]
    #[arg(long, value_name = "NAME=SOFT[:HARD]", value_delimiter = ',', help_heading = "Limits")]
    pub rlimit: Vec<Rlimit>,

    /// Keep only these capabilities: names, ALL, or `default` for those of container runtimes
    #[arg(long, value_name = "CAP,...", value_delimiter = ',', help_heading = "Privileges")]
    pub cap_keep: Vec<CapabilityName>,

    /// Drop these capabilities
    #[arg(long, value_name = "CAP,...", value_delimiter = ',', help_heading = "Privileges")]
    pub cap_drop: Vec<CapabilityName>,

    /// Keep these even if dropped; make them effective for a command that is not root
    #[arg(long, value_name = "CAP,...", value_delimiter = ',', help_heading = "Privileges")]
    pub cap_add: Vec<CapabilityName>,

    /// Keep the capabilities of the new user namespace for a command that is not root in it
    #[arg(long, help_heading = "Privileges")]
    pub keep_caps: bool,

    /// Gain no privileges from setuid or setgid files or file capabilities (no_new_privs)
    #[arg(long, help_heading = "Privileges")]
    pub no_new_privs: bool,

    /// Filter system calls: `default`; `fakeroot`, with which chown, setgroups and set*id do nothing and succeed;
    /// either with +NAME or -NAME to allow or refuse one more call; or a JSON profile in the form of container
    /// runtimes, in a file or open as N
    #[arg(long, value_name = "WORD,...|FILE|fd:N", help_heading = "Privileges")]
    pub seccomp: Option<PathBuf>,

    #[command(flatten)]
    pub common: chain::Common,

    /// Command to run, with its arguments; $SHELL or /bin/sh if none is given
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_without_clap_is_what_clap_reads() {
        chain::fuzz::every_line::<Args>(
            chain::Tool::Isolate,
            &[
                "--pid",
                "--user",
                "--map-root",
                "--all",
                "--init",
                "--uts=u",
                "--fork",
                "-p",
                "-frU",
                "-c",
                "--map-current",
                "--",
                "-",
                "sh",
                "",
                "--help",
            ],
        );
    }
}
