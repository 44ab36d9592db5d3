//! Where isolate and its child wait for each other: the child for what is done from outside, the parent for the
//! namespaces that the child makes for itself.
//!
//! Where the two share memory (`clone_sharing`), only one of them may use it at a time, and the gate says which: the
//! parent until it tells the child to go on, the child until it is at the gate again, has become COMMAND or is dead.
//! Whoever waits here waits in read(2): no allocation, and no errno, of which the two have one.

use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd};

use anyhow::{Context, Result};
use nix::fcntl::OFlag;
use nix::libc;
use nix::unistd::pipe2;
use rustix::io::{Errno, read, retry_on_intr, write};

/// One process's side. Its descriptors are numbers, since each of the two closes the other's in its own table.
#[derive(Clone, Copy)]
pub struct Side {
    hears: BorrowedFd<'static>,
    tells: BorrowedFd<'static>,
}

/// The parent's side and the child's.
pub fn make() -> Result<(Side, Side)> {
    let ends = || -> nix::Result<_> {
        let (hears, tells) = pipe2(OFlag::O_CLOEXEC)?;
        // SAFETY: they stay open until `close`, which nothing is used after.
        Ok(unsafe { (BorrowedFd::borrow_raw(hears.into_raw_fd()), BorrowedFd::borrow_raw(tells.into_raw_fd())) })
    };
    let (parents, childs) = (ends()?, ends()?);
    Ok((Side { hears: parents.0, tells: childs.1 }, Side { hears: childs.0, tells: parents.1 }))
}

impl Side {
    /// In this process alone, which does not use it any more.
    pub fn close(&self) {
        for end in [self.hears, self.tells] {
            // SAFETY: nothing else of this process owns it.
            unsafe { libc::close(end.as_raw_fd()) };
        }
    }

    pub fn tell(&self) -> Result<()> {
        match retry_on_intr(|| write(self.tells, b"!")) {
            // The other is gone already, and has said why.
            Err(Errno::PIPE) => Ok(()),
            result => result.map(drop).context("the gate between parent and child"),
        }
    }

    /// Whether the other has told something; it is gone otherwise.
    pub fn hear(&self) -> Result<bool> {
        let count = retry_on_intr(|| read(self.hears, &mut [0; 1])).context("the gate between parent and child")?;
        Ok(count != 0)
    }

    /// Waits until the parent has done its part; leaves without a word if it never will, since the
    /// parent says why.
    pub fn wait(&self) -> Result<()> {
        if !self.hear()? {
            chain::leave(chain::FAILED);
        }
        Ok(())
    }
}
