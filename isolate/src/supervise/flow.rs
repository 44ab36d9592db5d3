//! Bytes on their way from one descriptor to another, in one direction.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use chain::retry_eintr::retry;
use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::unistd::{read, write};

/// Both descriptors are nonblocking: a terminal that nobody reads must not keep isolate from its signals.
pub struct Flow {
    from: Rc<OwnedFd>,
    to: Rc<OwnedFd>,
    buffer: [u8; 4096],
    held: std::ops::Range<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pumped {
    Some,
    /// Nothing to read, or no room to write.
    Nothing,
    /// One of the two is gone.
    Ended,
}

impl Flow {
    pub fn new(from: &Rc<OwnedFd>, to: &Rc<OwnedFd>) -> Flow {
        Flow { from: from.clone(), to: to.clone(), buffer: [0; 4096], held: 0..0 }
    }

    /// What to poll for. Nothing is read before the last of it is written, so a slow reader slows the writer down.
    pub fn interest(&self) -> (BorrowedFd<'_>, PollFlags) {
        match self.held.is_empty() {
            true => (self.from.as_fd(), PollFlags::POLLIN),
            false => (self.to.as_fd(), PollFlags::POLLOUT),
        }
    }

    pub fn descriptors(&self) -> [i32; 2] {
        [self.from.as_raw_fd(), self.to.as_raw_fd()]
    }

    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    pub fn pump(&mut self) -> Pumped {
        if self.held.is_empty() {
            match retry(|| read(&self.from, &mut self.buffer)) {
                Ok(count @ 1..) => self.held = 0..count,
                Err(Errno::EAGAIN) => return Pumped::Nothing,
                Ok(0) | Err(_) => return Pumped::Ended,
            }
        }
        match retry(|| write(&self.to, &self.buffer[self.held.clone()])) {
            Ok(count) => self.held.start += count,
            Err(Errno::EAGAIN) => return Pumped::Nothing,
            Err(_) => return Pumped::Ended,
        }
        Pumped::Some
    }
}
