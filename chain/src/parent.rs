//! Dying with the isolate that waits for this chain.

use std::os::fd::AsFd;

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;

use crate::retry_eintr::poll;

/// Makes the kernel kill this process when its parent (`parent` is its pidfd) dies.
///
/// Must be called again after every change of ids, at which the kernel forgets it (PR_SET_PDEATHSIG in prctl(2)). Also
/// notices a parent that died before the call. getppid() would not tell: in a new pid namespace it is 0 either way.
pub fn die_with_parent(parent: impl AsFd) -> Result<()> {
    set_pdeathsig(Signal::SIGKILL).context("parent-death signal")?;
    let mut poll_fd = [PollFd::new(parent.as_fd(), PollFlags::POLLIN)];
    if poll(&mut poll_fd, PollTimeout::ZERO).context("pidfd of the parent")? > 0 {
        leave(128 + Signal::SIGKILL as u8);
    }
    Ok(())
}

/// `_exit`: skips std's cleanup, which would touch memory that may be the parent's.
pub fn leave(status: u8) -> ! {
    // SAFETY: it does not return.
    unsafe { nix::libc::_exit(status.into()) }
}
