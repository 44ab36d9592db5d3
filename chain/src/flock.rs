//! flock(2), by rustix: nix's lock unlocks when it is dropped, and panics if that fails.

use std::os::fd::AsFd;

use nix::errno::Errno;
use rustix::fs::{FlockOperation, flock};
use rustix::io::retry_on_intr;

use crate::sys::errno;

/// Locks a file against everybody else, for as long as it is open anywhere. EWOULDBLOCK: somebody has locked it.
pub fn lock_alone(file: impl AsFd) -> Result<(), Errno> {
    retry_on_intr(|| flock(&file, FlockOperation::NonBlockingLockExclusive)).map_err(errno)
}

/// The same, once nobody else has it locked. Only for a file that its owner alone can open:
/// a process that has it open can make this wait.
pub fn wait_to_lock_alone(file: impl AsFd) -> Result<(), Errno> {
    retry_on_intr(|| flock(&file, FlockOperation::LockExclusive)).map_err(errno)
}
