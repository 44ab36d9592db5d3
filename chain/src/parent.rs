//! Not outliving the isolate that waits for this chain.

use std::os::fd::AsFd;

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;

use crate::retry_eintr::poll;

/// Has the kernel send `signal` to this process once its parent, whose pidfd `parent` is, is dead.
///
/// To be called again after every change of ids: the kernel forgets it then (PR_SET_PDEATHSIG in
/// prctl(2)). A parent that died before the call is noticed here: getppid() would not tell, it is 0
/// in a new pid namespace whether the parent lives or not.
pub fn die_with_parent(parent: impl AsFd, signal: Signal) -> Result<()> {
    set_pdeathsig(signal).context("parent-death signal")?;
    let mut poll_fd = [PollFd::new(parent.as_fd(), PollFlags::POLLIN)];
    if poll(&mut poll_fd, PollTimeout::ZERO).context("pidfd of the parent")? > 0 {
        leave(128 + Signal::SIGKILL as u8);
    }
    Ok(())
}

/// Ends this process and nothing that it may share with another: its parent's memory.
pub fn leave(status: u8) -> ! {
    // SAFETY: nothing is to run after it.
    unsafe { nix::libc::_exit(status.into()) }
}
