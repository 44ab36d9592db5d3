//! The lock under which a receipt and its root are put in place together.

use std::ffi::{OsStr, OsString};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use anyhow::{Result, bail};
use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::stage::name::{prefix, still};

/// The holder removes the lock file. In another user's directory that user may do so again and again.
const ATTEMPTS: usize = 1000;
const FLAGS: OFlags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

pub struct Publishing<'a> {
    parent: BorrowedFd<'a>,
    /// None: there is nothing to lock.
    locked: Option<(OsString, OwnedFd)>,
}

impl Publishing<'_> {
    /// Where others may write, both names may be taken. Then there is no lock: it only keeps our own runs apart, and a receipt
    /// beside another run's root vouches for nothing.
    pub fn lock<'a>(parent: BorrowedFd<'a>, root: &OsStr) -> Result<Publishing<'a>> {
        for name in names(root) {
            if let Some(file) = lock(parent, &name)? {
                return Ok(Publishing { parent, locked: Some((name, file)) });
            }
        }
        Ok(Publishing { parent, locked: None })
    }
}

impl Drop for Publishing<'_> {
    fn drop(&mut self) {
        if let Some((name, _)) = &self.locked {
            let _ = rustix::fs::unlinkat(self.parent, name, AtFlags::empty());
        }
    }
}

/// One for everybody, and this user's own in case another user has the first.
fn names(root: &OsStr) -> [OsString; 2] {
    let name = |suffix: &str| OsString::from_vec([&prefix(root)[..], suffix.as_bytes()].concat());
    [name("lock"), name(&format!("lock-{}", rustix::process::geteuid().as_raw()))]
}

pub fn is_lock_of(name: &OsStr, root: &OsStr) -> bool {
    names(root).iter().any(|lock| lock == name)
}

/// Waits for the lock. None if the name is another user's.
fn lock(parent: BorrowedFd, name: &OsStr) -> Result<Option<OwnedFd>> {
    for _ in 0..ATTEMPTS {
        let flags = FLAGS | OFlags::CREATE | OFlags::RDWR;
        let file = match crate::retry_eintr::openat(parent, name, flags, Mode::RUSR | Mode::WUSR) {
            // A link, a directory, a device, or a file of another user's, which protected_regular (proc_sys_fs(5)) does
            // not let root open either.
            Err(Errno::LOOP | Errno::ISDIR | Errno::NXIO | Errno::NODEV | Errno::ACCESS | Errno::PERM) => {
                return Ok(None);
            }
            opened => opened?,
        };
        if !is_ours(&file) {
            return Ok(None);
        }
        match crate::retry_eintr::flock(&file, FlockOperation::LockExclusive) {
            // A filesystem without locks.
            Err(Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS) => {
                let _ = rustix::fs::unlinkat(parent, name, AtFlags::empty());
                return Ok(None);
            }
            locked => locked?,
        }
        if still(parent, name, &file) {
            return Ok(Some(file));
        }
    }
    bail!("{}: somebody keeps removing it", name.display())
}

/// Whether nobody else can have opened it, and so locked it.
fn is_ours(file: &OwnedFd) -> bool {
    rustix::fs::fstat(file).is_ok_and(|stat| {
        stat.st_uid == rustix::process::geteuid().as_raw()
            && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            && stat.st_mode & 0o077 == 0
    })
}

/// Removes a dead run's lock file.
pub fn sweep(parent: BorrowedFd, name: &OsStr) {
    let Ok(file) = crate::retry_eintr::openat(parent, name, FLAGS | OFlags::RDONLY, Mode::empty()) else { return };
    let dead = crate::retry_eintr::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
    if is_ours(&file) && dead && still(parent, name, &file) {
        // A run that waits for it checks the name once it has the lock.
        let _ = rustix::fs::unlinkat(parent, name, AtFlags::empty());
    }
}
