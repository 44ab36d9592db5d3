//! Processes by descriptor (pidfd_open(2), Linux 5.3): a number may be another process's by the time it is used. nix has
//! none of these calls.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};

use crate::sys::errno;

/// This process's own.
pub fn own() -> Result<OwnedFd, Errno> {
    pidfd_open(getpid(), PidfdFlags::empty()).map_err(errno)
}

pub fn of(pid: i32) -> Result<OwnedFd, Errno> {
    // As the kernel says of a number that is none.
    let pid = Pid::from_raw(pid).ok_or(Errno::EINVAL)?;
    pidfd_open(pid, PidfdFlags::empty()).map_err(errno)
}

/// The process's number in the pid namespace of the proc that this fdinfo is from (pidfd_open(2)); 0 and -1 are none. That
/// proc may be an outer namespace's, where the process has another number than here.
pub fn number(fdinfo: &str) -> Option<i32> {
    fdinfo.lines().find_map(|line| line.strip_prefix("Pid:"))?.trim().parse().ok().filter(|&number| number > 0)
}

/// pidfd_send_signal(2): without an allocation or the C library's errno, for helpers that share them.
pub fn send(process: impl AsFd, signal: i32) -> Result<(), Errno> {
    if signal <= 0 {
        return Err(Errno::EINVAL);
    }
    // SAFETY: it is not 0, and the kernel refuses what is no signal.
    let signal = unsafe { Signal::from_raw_unchecked(signal) };
    pidfd_send_signal(process, signal).map_err(errno)
}
