//! How processes change and end, by raw numbers (wait4(2), waitid(2)): a command may die of any real-time signal (signal(7):
//! 34 to 64), and nix knows none.

use anyhow::{Context, Result, bail};
use chain::sys::errno;
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{self, WaitId, WaitIdOptions, WaitOptions, WaitStatus, wait, waitid, waitpid};

use crate::process::Pid;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Exit(i32),
    Signal(i32),
}

/// What wait4(2) tells of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Ended(Ending),
    Stopped(i32),
    Continued,
}

impl Change {
    fn of(status: WaitStatus) -> Option<Change> {
        let exit = status.exit_status().map(|code| Change::Ended(Ending::Exit(code)));
        let signal = status.terminating_signal().map(|signal| Change::Ended(Ending::Signal(signal)));
        let stop = status.stopping_signal().map(Change::Stopped);
        exit.or(signal).or(stop).or(status.continued().then_some(Change::Continued))
    }
}

/// The next change of any child, if there has been one.
pub fn next_change() -> Result<Option<(Pid, Change)>> {
    loop {
        match wait(WaitOptions::NOHANG | WaitOptions::UNTRACED | WaitOptions::CONTINUED) {
            Err(Errno::INTR) => {}
            Err(Errno::CHILD) => return Ok(None),
            Err(error) => return Err(errno(error)).context("wait"),
            Ok(None) => return Ok(None),
            Ok(Some((pid, status))) => {
                if let Some(change) = Change::of(status) {
                    return Ok(Some((Pid::from_raw(pid.as_raw_nonzero().get()), change)));
                }
            }
        }
    }
}

/// Whether a child that had stopped has been continued: told once.
pub fn has_continued(child: Pid) -> bool {
    let Some(pid) = process::Pid::from_raw(child.as_raw()) else { return false };
    let options = WaitIdOptions::CONTINUED | WaitIdOptions::NOHANG;
    retry_on_intr(|| waitid(WaitId::Pid(pid), options)).is_ok_and(|status| status.is_some())
}

/// Waits for the end of a child.
pub fn ending_of(child: Pid) -> Result<Ending> {
    let pid = process::Pid::from_raw(child.as_raw());
    let status = retry_on_intr(|| waitpid(pid, WaitOptions::empty())).map_err(errno).context("wait")?;
    match status.and_then(|(_, status)| Change::of(status)) {
        Some(Change::Ended(ending)) => Ok(ending),
        _ => bail!("wait: the child has not ended"),
    }
}
