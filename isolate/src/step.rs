//! The steps of a plan: each one's shell line and deed.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use chain::retry_eintr::open;
use chain::shell::quote;
use chain::{Carry, HasCarry, WithHint, attach, why_no_new_proc};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MsFlags, mount};
use nix::sys::stat::Mode;
use nix::unistd::{chdir, chroot, sethostname};

use crate::limits::Limit;
use crate::limits::cgroup::Group;
use crate::limits::rlimit;
use crate::namespaces::join::{Join, Opened};
use crate::namespaces::loopback;
use crate::namespaces::unshare::{Unshare, Wait};
use crate::privileges::Privileges;
use crate::process;
use crate::supervise::{self, Session, Start, reaper};

pub enum Step {
    WatchCaller,
    Session(Session),
    Limit(Limit),
    HoldTools,
    Join(Join),
    Unshare(Unshare),
    Hostname(OsString),
    Loopback,
    Mount {
        kind: &'static str,
        dir: PathBuf,
    },
    Root(PathBuf),
    Chdir(PathBuf),
    Init {
        session: bool,
    },
    Rlimit(rlimit::Limit),
    Privileges(Privileges),
    /// Changes nothing here: COMMAND's environment is part of the command.
    CleanEnv(Vec<(OsString, OsString)>),
}

/// What the steps hand to each other. Only this file knows it: the modules below take and return their own values.
#[derive(Default)]
pub struct State {
    pub carry: Carry,
    /// The process that started isolate, with --die-with-parent.
    caller: Option<OwnedFd>,
    /// The cgroup that the child goes into.
    cgroup: Option<Group>,
    /// The namespaces that the child enters before it makes its own.
    joined: Option<Opened>,
    /// The guard signals the child when isolate ends; the kernel could only send SIGKILL.
    is_told_by_guard: bool,
    /// Where the reaper at PID 1 reports COMMAND's end.
    reports: Option<File>,
}

impl HasCarry for State {
    fn carry(&mut self) -> &mut Carry {
        &mut self.carry
    }
}

impl From<Carry> for State {
    fn from(carry: Carry) -> State {
        State { carry, ..State::default() }
    }
}

impl chain::Step for Step {
    type State = State;

    fn perform(&self, state: &mut State) -> Result<()> {
        match self {
            Step::WatchCaller => {
                let isolate = state.carry.parent.as_ref().map(OwnedFd::try_clone);
                state.caller = Some(isolate.transpose().context("pidfd")?.map_or_else(process::caller, Ok)?);
            }
            Step::Session(session) => session.start()?,
            Step::Limit(limit) => state.cgroup = Some(limit.group()),
            Step::HoldTools => {
                state.carry.hold_tools()?;
                state.carry.left_host = true;
            }
            Step::Join(join) if join.forks => state.joined = Some(join.open()?),
            Step::Join(join) => join.open()?.enter()?,
            Step::Unshare(unshare) => match &unshare.wait {
                Some(wait) => become_child(unshare, wait, state)?,
                None => unshare.perform(&mut state.carry)?,
            },
            Step::Hostname(name) => set_hostname(name)?,
            Step::Loopback => loopback::up()?,
            Step::Mount { kind, dir } => mount_new(kind, dir)?,
            Step::Root(dir) => {
                chroot(dir).with_context(|| format!("root directory {}", dir.display()))?;
                chdir("/").context("/")?;
            }
            Step::Chdir(dir) => chdir(dir).with_context(|| format!("working directory {}", dir.display()))?,
            Step::Init { session } => {
                reaper::start(state.reports.take().context("no isolate waits for this one")?, *session)?;
                // It dies with its PID 1, and that with isolate.
                state.carry.parent = None;
            }
            Step::Rlimit(limit) => limit.perform()?,
            Step::Privileges(privileges) => {
                let parent = state.carry.parent.as_ref().filter(|_| !state.is_told_by_guard);
                privileges.perform(parent.map(|parent| parent.as_fd()))?;
            }
            Step::CleanEnv(_) => {}
        }
        Ok(())
    }

    fn nests(&self) -> bool {
        matches!(
            self,
            Step::WatchCaller
                | Step::Session(_)
                | Step::Join(_)
                | Step::Unshare(_)
                | Step::Root(_)
                | Step::Privileges(_)
                | Step::CleanEnv(_)
        )
    }
}

/// Returns in the child.
fn become_child(unshare: &Unshare, wait: &Wait, state: &mut State) -> Result<()> {
    let marked = if state.joined.is_none() { unshare.marked(&state.carry) } else { None };
    let (joined, cgroup, nested) = (state.joined.take(), state.cgroup.take(), state.carry.parent.is_some());
    let mut child = supervise::start(Start { unshare, wait, caller: state.caller.take(), joined, cgroup, nested })?;
    if let Some(failures) = child.failures.take() {
        state.carry.tell_failures_to(failures);
    }
    child.enter()?;
    unshare.after_unshare(&mut state.carry, marked)?;
    child.has_arrived()?;
    state.is_told_by_guard = child.is_told_by_guard();
    let (parent, reports) = child.into_parts();
    (state.carry.parent, state.reports) = (Some(parent), reports);
    Ok(())
}

fn set_hostname(name: &OsString) -> Result<()> {
    match sethostname(name) {
        Err(Errno::EINVAL) => {
            let refused = Err(Errno::EINVAL).context("hostname");
            //: hostname | sethostname: EINVAL | it is longer than 64 bytes | the only cause |
            //: isolate/namespaces::a_hostname_is_set_inside_only
            refused.hint("at most 64 bytes")
        }
        result => result.with_context(|| format!("hostname {}", name.display())),
    }
}

/// A filesystem that shows the new namespaces.
fn mount_new(kind: &str, dir: &Path) -> Result<()> {
    // Whatever the propagation of other mounts, this one must not reach the namespaces outside.
    match mount(None::<&str>, dir, None::<&str>, MsFlags::MS_PRIVATE | MsFlags::MS_REC, None::<&str>) {
        Err(Errno::EINVAL) => {} // Nothing is mounted there yet.
        result => result.with_context(|| format!("{}: make private", dir.display()))?,
    }
    // In a user namespace it must keep times of access as the one that is there.
    let there = open(dir, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).ok();
    let plain = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC | MsFlags::MS_NODEV;
    let flags = plain | attach::old_flags(attach::atime_of(there.as_ref()));
    match mount(Some(kind), dir, Some(kind), flags, None::<&str>) {
        Err(Errno::EPERM) if kind == "proc" => {
            Err(Errno::EPERM).with_context(|| dir.display().to_string()).hint(why_no_new_proc())
        }
        Err(errno @ (Errno::EPERM | Errno::ENODEV)) => Err(errno)
            .with_context(|| dir.display().to_string())
            .hint("binfmt_misc: modprobe binfmt_misc; in a user namespace it is of Linux 6.7"),
        result => result.with_context(|| dir.display().to_string()),
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Step::WatchCaller => f.write_str("setpriv --pdeathsig KILL"),
            Step::Session(Session::WithTerminal) => {
                f.write_str("# the rest runs at a new terminal, as script(1) gives one\nsetsid --wait")
            }
            Step::Session(Session::WithoutTerminal) => f.write_str("setsid --wait"),
            Step::Limit(limit) => limit.fmt(f),
            Step::HoldTools => f.write_str("# open the links that follow, which the other root does not hold"),
            Step::Join(join) => join.fmt(f),
            Step::Unshare(unshare) => unshare.fmt(f),
            Step::Hostname(name) => write!(f, "hostname {}", quote(name)),
            Step::Loopback => f.write_str("ip link set lo up"),
            Step::Mount { kind, dir } => write!(
                f,
                "! mountpoint -q {0} || mount --make-rprivate {0}\nmount -t {kind} -o nosuid,noexec,nodev {kind} {0}",
                quote(dir)
            ),
            Step::Root(dir) => write!(f, "chroot {}", quote(dir)),
            Step::Chdir(dir) => write!(f, "cd {}", quote(dir)),
            Step::Init { .. } => {
                f.write_str("# here a small reaper becomes PID 1 and the rest its child, as tini does it")
            }
            Step::Rlimit(limit) => limit.fmt(f),
            Step::Privileges(privileges) => privileges.fmt(f),
            Step::CleanEnv(kept) => {
                f.write_str("env -i")?;
                kept.iter().try_for_each(|(name, value)| write!(f, " {}={}", name.display(), quote(value)))
            }
        }
    }
}
