//! Calls of rustix that are repeated while a signal interrupts them (on a network filesystem or one in user space): no
//! part of unpack wants a call to end for a signal. The tree is written with rustix, whose flags and errors these take;
//! chain's module of this name is for nix.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Dir, FlockOperation, Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, Result, retry_on_intr};
use rustix::path::Arg;

pub fn open<P: Arg + Copy>(path: P, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
    retry_on_intr(|| rustix::fs::open(path, flags, mode))
}

pub fn openat<P: Arg + Copy>(dir: impl AsFd, path: P, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
    retry_on_intr(|| rustix::fs::openat(&dir, path, flags, mode))
}

/// The names in a directory, for which it is opened once more.
pub fn names(dir: impl AsFd) -> Result<Dir> {
    retry_on_intr(|| Dir::read_from(&dir))
}

/// How often openat2 may be unsure in a row.
const UNSURE: u32 = 10_000;

/// Any rename or mount on the machine meanwhile can make the kernel unsure as well: openat2(2).
pub fn openat2<P: Arg + Copy>(dir: impl AsFd, path: P, flags: OFlags, resolve: ResolveFlags) -> Result<OwnedFd> {
    let mut unsure = 0;
    loop {
        match rustix::fs::openat2(&dir, path, flags, Mode::empty(), resolve) {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if unsure < UNSURE => unsure += 1,
            result => return result,
        }
    }
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
