//! Signals to the child's own process group: what the listener in that group has heard and isolate has not yet read.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use rustix::event::{EventfdFlags, eventfd};

use crate::signals::Arrivals;

pub struct GroupSignals {
    /// Each process that reads it reads its own signals (signalfd(2)).
    pub arrivals: Arrivals,
    /// A bit for each signal that the kernel sent, and for each that a member of the group or somebody else did.
    from_kernel: AtomicU64,
    from_member: AtomicU64,
    /// eventfd(2): readable once a bit is set. Writing to it never blocks.
    news: OwnedFd,
}

impl GroupSignals {
    pub fn new() -> Result<GroupSignals> {
        let news = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).context("eventfd")?;
        Ok(GroupSignals { arrivals: Arrivals::open()?, from_kernel: 0.into(), from_member: 0.into(), news })
    }

    pub fn descriptors(&self) -> [i32; 2] {
        [self.arrivals.as_fd().as_raw_fd(), self.news.as_raw_fd()]
    }

    /// What has come since the last call: the kernel's and the members', a bit each.
    pub fn news(&self) -> (Bits, Bits) {
        let _ = rustix::io::read(&self.news, &mut [0; 8]);
        let bits = |set: &AtomicU64| Bits(set.swap(0, Ordering::AcqRel));
        (bits(&self.from_kernel), bits(&self.from_member))
    }

    /// A signal that comes again before isolate has looked counts once, as any pending signal does: a flood costs one bit.
    pub fn note(&self, signal: i32, from_kernel: bool) {
        let set = if from_kernel { &self.from_kernel } else { &self.from_member };
        set.fetch_or(1 << (signal - 1), Ordering::AcqRel);
        let _ = rustix::io::write(&self.news, &1u64.to_ne_bytes());
    }
}

impl AsFd for GroupSignals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.news.as_fd()
    }
}

/// A set of signals, as an iterator over their numbers.
pub struct Bits(u64);

impl Iterator for Bits {
    type Item = i32;

    fn next(&mut self) -> Option<i32> {
        let lowest = self.0.trailing_zeros();
        (lowest < u64::BITS).then(|| {
            self.0 &= self.0 - 1;
            lowest as i32 + 1
        })
    }
}
