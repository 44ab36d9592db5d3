//! Calls that a signal may interrupt (a filesystem on the network, one in user space), made again
//! until it did not: no part of unpack wants a call to end for a signal.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::{Result, retry_on_intr};
use rustix::path::Arg;

pub fn open<P: Arg + Copy>(path: P, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
    retry_on_intr(|| rustix::fs::open(path, flags, mode))
}

pub fn openat<P: Arg + Copy>(dir: impl AsFd, path: P, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
    retry_on_intr(|| rustix::fs::openat(&dir, path, flags, mode))
}

pub fn flock(file: impl AsFd, how: FlockOperation) -> Result<()> {
    retry_on_intr(|| rustix::fs::flock(&file, how))
}

pub fn ftruncate(file: impl AsFd, size: u64) -> Result<()> {
    retry_on_intr(|| rustix::fs::ftruncate(&file, size))
}

pub fn fsync(file: impl AsFd) -> Result<()> {
    retry_on_intr(|| rustix::fs::fsync(&file))
}
