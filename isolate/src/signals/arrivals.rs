//! Signals as they arrive, with who sent them (signalfd(2)).

use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::libc;
use rustix::io::{read, retry_on_intr};
use rustix::process::getpid;

use crate::signals::SET_SIZE;

/// Signals that have arrived at the process that reads this (signalfd(2)). They must be blocked.
pub struct Arrivals(OwnedFd);

/// One that has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    pub signal: i32,
    /// The kernel itself sent it: the terminal's signals (SI_KERNEL in sigaction(2)).
    pub from_kernel: bool,
    /// This process caused it: SIGPIPE.
    pub from_self: bool,
    /// A process did that has no number in our pid namespace.
    pub from_outside: bool,
}

impl Arrivals {
    pub fn open() -> Result<Arrivals> {
        let (all, flags) = (u64::MAX, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        // SAFETY: a set of the kernel's own size; the descriptor is new and nobody else's.
        unsafe {
            let fd = libc::syscall(libc::SYS_signalfd4, -1, &raw const all, SET_SIZE, flags);
            Ok(Arrivals(OwnedFd::from_raw_fd(Errno::result(fd).context("signalfd")? as i32)))
        }
    }

    /// The next one. Without an allocation or the C library's errno: the listener, which shares both, reads it as well.
    pub fn next(&self) -> Option<Arrival> {
        let mut info = [0; size_of::<libc::signalfd_siginfo>()];
        let count = retry_on_intr(|| read(&self.0, &mut info));
        if count != Ok(info.len()) {
            return None;
        }
        let word = |at: usize| i32::from_ne_bytes([info[at], info[at + 1], info[at + 2], info[at + 3]]);
        let sender = getpid().as_raw_nonzero().get();
        let code = word(8);
        Some(Arrival {
            signal: word(0),
            from_kernel: code == libc::SI_KERNEL,
            from_self: word(12) == sender,
            from_outside: code == libc::SI_USER && word(12) == 0,
        })
    }
}

impl AsFd for Arrivals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
