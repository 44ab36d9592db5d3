//! The steps of a plan: each one's shell line and deed.

use std::convert::Infallible;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use chain::shell::quote;
use chain::{Rest, WithHint};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::unistd::{chdir, chroot, sethostname};

use crate::limits::Limit;
use crate::limits::rlimit;
use crate::namespaces::join::Join;
use crate::namespaces::loopback;
use crate::namespaces::unshare::Unshare;
use crate::privileges::Privileges;
use crate::state::State;
use crate::supervise::init;

pub enum Step {
    Limit(Limit),
    HoldTools,
    Join(Join),
    Unshare(Unshare),
    Hostname(OsString),
    Loopback,
    MountProc(PathBuf),
    Root(PathBuf),
    Chdir(PathBuf),
    Init,
    Rlimit(rlimit::Limit),
    Privileges(Privileges),
    /// The environment is the command's: it is changed there.
    CleanEnv(Vec<(OsString, OsString)>),
}

impl chain::Step for Step {
    type State = State;

    fn perform(&self, state: &mut State) -> Result<()> {
        match self {
            Step::Limit(limit) => limit.perform(state),
            Step::HoldTools => state.carry.hold_tools(),
            Step::Join(join) => join.perform(state),
            Step::Unshare(unshare) => unshare.perform(state),
            Step::Hostname(name) => set_hostname(name),
            Step::Loopback => loopback::up(),
            Step::MountProc(dir) => mount_proc(dir),
            Step::Root(dir) => {
                chroot(dir).with_context(|| format!("root directory {}", dir.display()))?;
                chdir("/").context("/")
            }
            Step::Chdir(dir) => chdir(dir).with_context(|| format!("working directory {}", dir.display())),
            Step::Init => init::perform(state),
            Step::Rlimit(limit) => limit.perform(),
            Step::Privileges(privileges) => privileges.perform(state),
            Step::CleanEnv(_) => Ok(()),
        }
    }

    fn lead(&self, state: &mut State, rest: &mut Rest<State>) -> Result<Infallible> {
        match self {
            Step::Unshare(unshare @ Unshare { wait: Some(wait), .. }) => unshare.fork(wait, state, rest),
            _ => {
                self.perform(state).map_err(|error| chain::named(self, error))?;
                rest(state)
            }
        }
    }

    fn nests(&self) -> bool {
        matches!(self, Step::Join(_) | Step::Unshare(_) | Step::Root(_) | Step::Privileges(_) | Step::CleanEnv(_))
    }
}

fn set_hostname(name: &OsString) -> Result<()> {
    match sethostname(name) {
        Err(Errno::EINVAL) => Err(Errno::EINVAL).context("hostname").hint("at most 64 bytes"),
        result => result.with_context(|| format!("hostname {}", name.display())),
    }
}

fn mount_proc(dir: &Path) -> Result<()> {
    // With another propagation of the rest this one is still not for the namespaces outside.
    match mount(None::<&str>, dir, None::<&str>, MsFlags::MS_PRIVATE | MsFlags::MS_REC, None::<&str>) {
        Err(Errno::EINVAL) => {} // Nothing is mounted there yet.
        result => result.with_context(|| format!("{}: make private", dir.display()))?,
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC | MsFlags::MS_NODEV;
    match mount(Some("proc"), dir, Some("proc"), flags, None::<&str>) {
        Err(Errno::EPERM) => Err(Errno::EPERM).with_context(|| dir.display().to_string()).hint(
            "in a user namespace a new proc takes a pid namespace of its own (--pid), and one without masks outside",
        ),
        result => result.with_context(|| dir.display().to_string()),
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Step::Limit(limit) => limit.fmt(f),
            Step::HoldTools => f.write_str("# open the links that follow, which the other root does not hold"),
            Step::Join(join) => join.fmt(f),
            Step::Unshare(unshare) => unshare.fmt(f),
            Step::Hostname(name) => write!(f, "hostname {}", quote(name)),
            Step::Loopback => f.write_str("ip link set lo up"),
            Step::MountProc(dir) => {
                write!(
                    f,
                    "mountpoint -q {0} && mount --make-rprivate {0}\nmount -t proc -o nosuid,noexec,nodev proc {0}",
                    quote(dir)
                )
            }
            Step::Root(dir) => write!(f, "chroot {}", quote(dir)),
            Step::Chdir(dir) => write!(f, "cd {}", quote(dir)),
            Step::Init => f.write_str("# here a small reaper becomes PID 1 and the rest its child, as tini does it"),
            Step::Rlimit(limit) => limit.fmt(f),
            Step::Privileges(privileges) => privileges.fmt(f),
            Step::CleanEnv(kept) => {
                f.write_str("env -i")?;
                kept.iter().try_for_each(|(name, value)| write!(f, " {}={}", name.display(), quote(value)))
            }
        }
    }
}
