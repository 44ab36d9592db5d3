//! The command line: unshare(1)'s spellings, and what it does not have.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Parser;

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

    /// Enter what exists: of process PID, or of the one that FILE of a --status-fd names once it has started, all
    /// namespaces and the limits it is under, or WHAT of it: namespaces, root, wd, env; or namespaces kept in files
    #[arg(long, value_name = "PID|FILE[:WHAT,...]|NS=FILE,...", help_heading = "Namespaces")]
    pub join: Option<Join>,

    /// Be root in the new user namespace (implies --user)
    #[arg(short = 'r', long, alias = "map-root-user")]
    pub map_root: bool,

    /// Keep the own user and group in the new user namespace (implies --user); links of ours that follow have the
    /// capabilities that they need, and COMMAND has none of them
    #[arg(short = 'c', long, alias = "map-current-user", conflicts_with_all = ["map_root", "map_user", "map_group"], help_heading = "Ids")]
    pub map_current: bool,

    /// Map the own user to USER, a number or name (implies --user)
    #[arg(long, value_name = "USER", conflicts_with = "map_root", help_heading = "Ids")]
    pub map_user: Option<OsString>,

    /// Map the own group to GROUP, a number or name (implies --user)
    #[arg(long, value_name = "GROUP", conflicts_with = "map_root", help_heading = "Ids")]
    pub map_group: Option<OsString>,

    /// Map the ranges of /etc/subuid and /etc/subgid as well, around the own id; to be root if nothing says who
    /// (implies --user)
    #[arg(long)]
    pub map_auto: bool,

    /// Map the ranges of /etc/subuid and /etc/subgid to themselves (implies --user)
    #[arg(long, help_heading = "Ids")]
    pub map_subids: bool,

    /// Map a range of users; also `auto`, `subids`, `all`, and the older OUTER,INNER,COUNT (implies --user)
    #[arg(long, value_name = "INNER:OUTER:COUNT", help_heading = "Ids")]
    pub map_users: Vec<Mapping>,

    /// Map a range of groups, in the same forms (implies --user)
    #[arg(long, value_name = "INNER:OUTER:COUNT", help_heading = "Ids")]
    pub map_groups: Vec<Mapping>,

    /// Whether setgroups(2) may be used in the new user namespace: allow or deny
    #[arg(long, value_name = "allow|deny", value_parser = allow_or_deny, help_heading = "Ids")]
    pub setgroups: Option<bool>,

    /// Become this user, a number or name
    #[arg(short = 'S', long, value_name = "USER", help_heading = "Ids")]
    pub setuid: Option<OsString>,

    /// Become this group, a number or name, and leave all others
    #[arg(short = 'G', long, value_name = "GROUP", help_heading = "Ids")]
    pub setgid: Option<OsString>,

    /// Supplementary groups, numbers or names; with --setgid these are kept, and without it the group as well
    #[arg(long, value_name = "GROUP,...", value_delimiter = ',', help_heading = "Ids")]
    pub groups: Vec<OsString>,

    /// Stay and wait for COMMAND even where no namespace needs it
    #[arg(short, long, help_heading = "Process")]
    pub fork: bool,

    /// Pass signals on to COMMAND, which isolate always does; for scripts of unshare(1) (implies --fork)
    #[arg(long, help_heading = "Process")]
    pub forward_signals: bool,

    /// What COMMAND gets when isolate dies, by name or number; SIGKILL is the default. A PID 1 that would not
    /// see it is killed (implies --fork)
    #[arg(long, value_name = "SIGNAL", num_args = 0..=1, require_equals = true, default_missing_value = "KILL", help_heading = "Process")]
    pub kill_child: Option<SignalName>,

    /// Put a small reaper at PID 1 and COMMAND under it (implies --pid and --mount)
    #[arg(long, help_heading = "Process")]
    pub init: bool,

    /// Give COMMAND a terminal and a session of its own: it can neither read, set nor push into the caller's
    /// (implies --fork)
    #[arg(long, conflicts_with = "new_session", help_heading = "Process")]
    pub pty: bool,

    /// Give COMMAND a session of its own without a terminal: what it reads of one is empty, what it writes to one is
    /// passed on (implies --fork)
    #[arg(long, help_heading = "Process")]
    pub new_session: bool,

    /// Change the root directory
    #[arg(short = 'R', long, value_name = "DIR", help_heading = "Process")]
    pub root: Option<PathBuf>,

    /// Change the working directory, after --root
    #[arg(short = 'w', long, value_name = "DIR", help_heading = "Process")]
    pub wd: Option<PathBuf>,

    /// Start with PATH, HOME and TERM alone in the environment
    #[arg(long, help_heading = "Process")]
    pub clean_env: bool,

    /// Start with an empty environment
    #[arg(long, conflicts_with = "clean_env", help_heading = "Process")]
    pub clear_env: bool,

    /// Start with these variables alone, or with --clean-env with these as well
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', help_heading = "Process")]
    pub whitelist_env: Vec<OsString>,

    /// Write JSON lines to descriptor N: started (pid, namespaces) and exited (code or signal, limit)
    #[arg(long, value_name = "N", help_heading = "Process")]
    pub status_fd: Option<i32>,

    /// Memory, swap included: bytes, or with K, M, G, T of 1024
    #[arg(long, value_name = "SIZE", help_heading = "Limits")]
    pub memory: Option<Size>,

    /// Processors' time: 0.5 is half of one
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

    /// Keep these though dropped; for a command that is not root, make them effective
    #[arg(long, value_name = "CAP,...", value_delimiter = ',', help_heading = "Privileges")]
    pub cap_add: Vec<CapabilityName>,

    /// Keep the capabilities of the new user namespace for a command that is not root in it
    #[arg(long, help_heading = "Privileges")]
    pub keep_caps: bool,

    /// Let no setuid or setgid file or file capability give privileges (no_new_privs)
    #[arg(long, help_heading = "Privileges")]
    pub no_new_privs: bool,

    /// Filter system calls: `default`; `fakeroot`, where chown, setgroups and set*id do nothing and succeed; both with +NAME
    /// and -NAME, to let a call pass or refuse it; or a JSON profile as container runtimes have them, in a file or open as N
    #[arg(long, value_name = "WORD,...|FILE|fd:N", help_heading = "Privileges")]
    pub seccomp: Option<PathBuf>,

    #[command(flatten)]
    pub common: chain::Common,

    /// What to run, with its arguments; without it $SHELL or /bin/sh
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Propagation {
    #[default]
    Private,
    Slave,
    Shared,
    Unchanged,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Join {
    Process(Process),
    Files(Vec<(String, PathBuf)>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub named: Named,
    /// Names of namespaces. Where there is none, all are meant.
    pub kinds: Vec<String>,
    pub root: bool,
    pub wd: bool,
    pub env: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    Pid(i32),
    /// By what isolate writes to --status-fd.
    Status(PathBuf),
}

impl FromStr for Process {
    type Err = String;

    fn from_str(text: &str) -> Result<Process, String> {
        let (name, words) = text.rsplit_once(':').filter(|(name, _)| !name.is_empty()).unwrap_or((text, ""));
        let named = match name.parse() {
            Ok(pid) => Named::Pid(pid),
            // A word that is no path would be waited for because of a typing error.
            Err(_) if name.contains('/') || PathBuf::from(name).exists() => Named::Status(name.into()),
            Err(_) => return Err("neither a process id, nor NS=FILE, nor the path of a file (./FILE)".into()),
        };
        let mut process = Process { named, kinds: Vec::new(), root: false, wd: false, env: false };
        for word in words.split(',').filter(|word| !word.is_empty()) {
            match word {
                "root" => process.root = true,
                "wd" => process.wd = true,
                "env" => process.env = true,
                "all" => process.kinds.clear(),
                "mnt" => process.kinds.push("mount".into()),
                "mount" | "uts" | "ipc" | "net" | "pid" | "user" | "cgroup" | "time" => process.kinds.push(word.into()),
                _ => return Err(format!("{word} is no namespace, nor root, wd, env or all")),
            }
        }
        Ok(process)
    }
}

impl FromStr for Join {
    type Err = String;

    fn from_str(text: &str) -> Result<Join, String> {
        let file = |part: &str| {
            let (kind, file) = part.split_once('=').ok_or("not NS=FILE")?;
            Ok((kind.to_owned(), PathBuf::from(file)))
        };
        if text.split_once('=').is_none_or(|(kind, _)| kind.contains('/')) {
            return text.parse().map(Join::Process);
        }
        text.split(',').map(file).collect::<Result<_, _>>().map(Join::Files)
    }
}

/// A value of --map-users or --map-groups, as unshare(1) takes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mapping {
    Auto,
    /// The own ranges, to themselves.
    Subids,
    /// Everything that is mapped here, to itself.
    All,
    Range {
        inner: u32,
        outer: u32,
        count: u32,
    },
}

impl FromStr for Mapping {
    type Err = String;

    fn from_str(text: &str) -> Result<Mapping, String> {
        let numbers = |separator| {
            let numbers = text.split(separator).map(str::parse).collect::<Result<Vec<u32>, _>>().ok()?;
            <[u32; 3]>::try_from(numbers).ok()
        };
        match text {
            "auto" => Ok(Mapping::Auto),
            "subids" => Ok(Mapping::Subids),
            "all" => Ok(Mapping::All),
            _ => {
                let [inner, outer, count] = numbers(':')
                    .or_else(|| numbers(',').map(|[outer, inner, count]| [inner, outer, count]))
                    .ok_or("not INNER:OUTER:COUNT")?;
                if count == 0 || inner.checked_add(count).is_none() || outer.checked_add(count).is_none() {
                    return Err("ids go from 0 to 4294967294, and a range has at least one".into());
                }
                Ok(Mapping::Range { inner, outer, count })
            }
        }
    }
}

fn allow_or_deny(text: &str) -> Result<bool, String> {
    match text {
        "allow" => Ok(true),
        "deny" => Ok(false),
        _ => Err("allow or deny".into()),
    }
}

/// A signal by name, with or without SIG, or by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignalName(pub String);

impl FromStr for SignalName {
    type Err = String;

    fn from_str(text: &str) -> Result<SignalName, String> {
        let name = text.to_uppercase();
        Ok(SignalName(name.strip_prefix("SIG").unwrap_or(&name).to_owned()))
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Size, String> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let shift = match &text[digits.len()..].to_ascii_uppercase()[..] {
            "" | "B" => 0,
            "K" | "KIB" => 10,
            "M" | "MIB" => 20,
            "G" | "GIB" => 30,
            "T" | "TIB" => 40,
            _ => return Err("not a size: bytes, or with K, M, G or T".into()),
        };
        let number: u64 = digits.parse().map_err(|_| "not a size: bytes, or with K, M, G or T")?;
        match number.checked_mul(1 << shift) {
            None => Err("out of range".into()),
            // A kernel that is asked for less kills COMMAND before it starts.
            Some(bytes) if bytes < 256 << 10 => Err(format!("too small for any program to start: {digits}M?")),
            Some(bytes) => Ok(Size(bytes)),
        }
    }
}

/// Thousandths of a processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpus(pub u64);

impl FromStr for Cpus {
    type Err = String;

    fn from_str(text: &str) -> Result<Cpus, String> {
        let number: f64 = text.parse().map_err(|_| "not a number such as 0.5 or 2")?;
        // The kernel takes no less than 1 ms of time in a period, which is 100 ms here.
        if !(0.01..=100_000.0).contains(&number) {
            return Err("out of range: 0.01 to 100000 (no limit: leave the option out)".into());
        }
        Ok(Cpus((number * 1000.0).round() as u64))
    }
}

/// A number of processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pids(pub u64);

impl FromStr for Pids {
    type Err = String;

    fn from_str(text: &str) -> Result<Pids, String> {
        // The kernel's PID_MAX_LIMIT: pids.max takes no higher number.
        match text.parse() {
            Ok(number @ ..=4_194_304) => Ok(Pids(number)),
            Ok(_) => Err("out of range: 4194304 is the kernel's highest (no limit: leave the option out)".into()),
            Err(_) if text == "max" => Err("no limit is what holds without the option: leave it out".into()),
            Err(_) => Err("not a number".into()),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rlimit {
    pub name: String,
    /// None is unlimited.
    pub soft: Option<u64>,
    pub hard: Option<u64>,
}

impl FromStr for Rlimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Rlimit, String> {
        let (name, value) = text.split_once('=').ok_or("not NAME=SOFT[:HARD]")?;
        let number = |text: &str| match text {
            "unlimited" | "infinity" | "-1" => Ok(None),
            text => text.parse().map(Some).map_err(|_| format!("{text:?} is neither a number nor `unlimited`")),
        };
        let (soft, hard) = value.split_once(':').unwrap_or((value, value));
        Ok(Rlimit { name: name.to_lowercase(), soft: number(soft)?, hard: number(hard)? })
    }
}

/// The name of a capability without CAP_, ALL or DEFAULT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapabilityName(pub String);

impl FromStr for CapabilityName {
    type Err = String;

    fn from_str(text: &str) -> Result<CapabilityName, String> {
        let name = text.to_uppercase();
        Ok(CapabilityName(name.strip_prefix("CAP_").unwrap_or(&name).to_owned()))
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
