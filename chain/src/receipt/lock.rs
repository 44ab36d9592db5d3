//! The lock by which `unpack --replace` knows that a root is in use: a record lock on its receipt.
//!
//! Not flock(2) on ROOT: a container has its root open, and so has every user who can read the directory, and
//! any of them could lock it exclusively. A record lock for writing needs a descriptor that is open for writing
//! (fcntl(2)), which nobody but the receipt's owner gets; all that others can do is hold a lock for reading,
//! which keeps nobody from starting. Open-file-description locks, since the lock stays with the descriptor
//! that COMMAND inherits.

use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use crate::retry_eintr::retry;

/// What a lock came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    Held,
    /// Somebody else's lock is in the way.
    Busy,
    /// The filesystem has no locks.
    None,
}

pub type Locked = nix::Result<Lock>;

/// For the user of a root.
pub fn in_use(receipt: impl AsFd) -> Locked {
    set(receipt, libc::F_RDLCK, WHOLE, false)
}

/// The same, but waits until nobody replaces or removes the root.
pub fn in_use_soon(receipt: impl AsFd) -> Locked {
    set(receipt, libc::F_RDLCK, WHOLE, true)
}

/// For replacing or removing it.
pub fn alone(receipt: impl AsFd) -> Locked {
    set(receipt, libc::F_WRLCK, WHOLE, false)
}

/// A read lock on one byte, once nobody has it for himself.
pub(crate) fn byte_in_use(file: impl AsFd, byte: i64) -> Locked {
    set(file, libc::F_RDLCK, (byte, 1), true)
}

/// A write lock on one byte; with `wait` once nobody else has it.
pub(crate) fn byte_alone(file: impl AsFd, byte: i64, wait: bool) -> Locked {
    set(file, libc::F_WRLCK, (byte, 1), wait)
}

pub(crate) fn byte_free(file: impl AsFd, byte: i64) -> Locked {
    set(file, libc::F_UNLCK, (byte, 1), false)
}

/// Of a file: where it begins, and its length. 0 is up to the end (fcntl(2)).
type Range = (i64, i64);
const WHOLE: Range = (0, 0);

fn set(file: impl AsFd, kind: i32, range: Range, wait: bool) -> Locked {
    let (l_start, l_len) = range;
    let range = libc::flock { l_type: kind as i16, l_whence: libc::SEEK_SET as i16, l_start, l_len, l_pid: 0 };
    let lock = || match wait {
        true => fcntl(file.as_fd(), FcntlArg::F_OFD_SETLKW(&range)),
        false => fcntl(file.as_fd(), FcntlArg::F_OFD_SETLK(&range)),
    };
    match retry(lock) {
        Ok(_) => Ok(Lock::Held),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(Lock::Busy),
        Err(Errno::ENOLCK | Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINVAL) => Ok(Lock::None),
        Err(errno) => Err(errno),
    }
}
