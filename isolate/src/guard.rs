//! A second hand on the child's life. The kernel's parent-death signal is forgotten when a process
//! changes its ids, which any command may do (su, a daemon that drops root); then only somebody
//! outside can end the child of an isolate that was killed.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::CloneFlags;
use nix::sys::signal::Signal;
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, setsid};
use rustix::process::{PidfdFlags, Signal as RustixSignal, pidfd_open, pidfd_send_signal};

use crate::process::{clone_into, close_all_but, let_go_of};

pub struct Guard(Pid);

impl Guard {
    /// Forks it. Every signal must be blocked already.
    pub fn start(us: BorrowedFd, child: Pid) -> Result<Guard> {
        let child = rustix::process::Pid::from_raw(child.as_raw()).context("pid of the child")?;
        let child = pidfd_open(child, PidfdFlags::empty()).context("pidfd of the child")?;
        if let Some(guard) = clone_into(CloneFlags::empty()).context("fork")? {
            return Ok(Guard(guard));
        }
        // Out of the job, so that what is sent to all of it leaves the guard alive.
        let _ = setsid();
        close_all_but(&[us.as_raw_fd(), child.as_raw_fd()]);
        let_go_of(&[0, 1, 2]);
        let mut either = [PollFd::new(us, PollFlags::POLLIN), PollFd::new(child.as_fd(), PollFlags::POLLIN)];
        while poll(&mut either, PollTimeout::NONE) == Err(Errno::EINTR) {}
        if either[1].any() != Some(true) {
            let _ = pidfd_send_signal(&child, RustixSignal::KILL);
        }
        // SAFETY: ends this process without running what its parent has registered for its exit.
        unsafe { nix::libc::_exit(0) }
    }

    /// The child is dead: the guard has seen it too and is gone or about to be.
    pub fn dismiss(self) {
        let _ = nix::sys::signal::kill(self.0, Signal::SIGKILL);
        let _ = waitpid(self.0, None);
    }
}
