//! Locks that last as long as the container: one on ROOT's receipt, which tells `unpack --replace` that ROOT is in use,
//! and one on the directory that takes an overlay's changes.
//!
//! The descriptor stays open in COMMAND and everything that it starts, so it must not lead to the host's tree. It is
//! opened through a detached read-only copy of the mount: nothing is above its root, and nothing can be changed through
//! it.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use chain::attach::{self, READ_ONLY};
use chain::receipt::lock::{Lock, in_use, in_use_soon};
use chain::receipt::{self, Doubt, Found, others};
use chain::retry_eintr::{open, openat};
use chain::store::{LOCK, Locks, is_layer_name};
use chain::{WithHint, file_kind, lock_alone};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::{Mode, SFlag, fstat};

use crate::root::{self, identity};
use crate::why_failed;

/// Above the numbers that scripts use for redirections.
const NUMBER: i32 = 100;

/// How often ROOT may be replaced while it is being locked.
const ATTEMPTS: usize = 1000;

/// ROOT, locked against removal, if `unpack --replace` has replaced it in the meantime, the new one; and the mount
/// through which the lock was taken, with the receipt that it is of.
pub fn shared(mut root: OwnedFd, path: &Path) -> Result<(OwnedFd, Option<(OwnedFd, OwnedFd)>)> {
    for _ in 0..ATTEMPTS {
        let receipt = find_receipt(path);
        let inode = |receipt: Option<&Found>| receipt.map(|receipt| receipt.inode);
        let locked = receipt.as_ref().map(hold).transpose()?.flatten();
        // A tree that has lost its name may be about to go, and the receipt may be the new tree's: unpack puts both in
        // place under a lock on the new receipt.
        let named = root::open_root(path)?;
        let same_receipt = inode(receipt.as_ref()) == inode(find_receipt(path).as_ref());
        if identity(&named)? != identity(&root)? || !same_receipt {
            root = named;
            continue;
        }
        if fstat(&root)?.st_nlink == 0 {
            return Err(anyhow!("it was removed meanwhile")).hint("start again");
        }
        let Some((opened, mount)) = locked else { return Ok((root, None)) };
        keep(opened)?;
        return Ok((root, receipt.map(|receipt| (mount, receipt.file))));
    }
    Err(anyhow!("it is replaced again and again")).hint("start again once no unpack --replace works on it")
}

/// The receipt beside ROOT, or beside the target if ROOT is a link, if it is a regular file. Without one unpack does not
/// replace ROOT.
fn find_receipt(path: &Path) -> Option<Found> {
    let found = match receipt::find(&receipt::path(path)) {
        Err(Doubt::Missing) if path.is_symlink() || path.file_name().is_none() => {
            receipt::find(&receipt::path(&path.canonicalize().ok()?))
        }
        found => found,
    };
    found.ok()
}

/// The receipt, locked, and the mount that it was opened through. None if it cannot be locked, or if another user holds a
/// lock that they should not.
fn hold(receipt: &Found) -> Result<Option<(OwnedFd, OwnedFd)>> {
    // Kernels without the new calls make no such copy, and a lock is not worth a way out.
    let Some(copy) = read_only(&receipt.file)? else { return Ok(None) };
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    // The copy of a file's own mount has no directory to open it from, and a user who may not read it gets no lock.
    let Ok(opened) = open(&attach::by_number(&copy), flags, Mode::empty()) else { return Ok(None) };
    let locked = match in_use(&opened) {
        // A replacement holds it for two renames, a removal of the old tree until that is gone.
        Ok(Lock::Busy) if receipt.ours => in_use_soon(&opened),
        locked => locked,
    };
    Ok((locked.context("lock ROOT's receipt")? == Lock::Held).then_some((opened, copy)))
}

/// Keeps the layers that are in stores from being removed, as long as COMMAND runs. Returns the mounts through which the
/// locks were taken, with the files that they are of.
pub fn layers(layers: &[OwnedFd]) -> Result<Vec<(OwnedFd, OwnedFd)>> {
    let mut stores: Vec<((u64, u64), Option<Locks>)> = Vec::new();
    let mut through = Vec::new();
    for layer in layers {
        let Some(name) = attach::path_of(layer).ok().and_then(|path| path.file_name().map(OsStr::to_owned)) else {
            continue;
        };
        let Some(name) = name.to_str().filter(|name| is_layer_name(name)) else { continue };
        let store = openat(layer, "..", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
        let identity = identity(&store)?;
        let index = match stores.iter().position(|(known, _)| *known == identity) {
            Some(index) => index,
            None => {
                let opened = locks_of(&store)?;
                let locks = opened.map(|(opened, mount, file)| {
                    through.push((mount, file));
                    opened
                });
                stores.push((identity, locks));
                stores.len() - 1
            }
        };
        if let Some(locks) = &stores[index].1 {
            locks.in_use(name).context("lock a layer of the store")?;
        }
    }
    for locks in stores.into_iter().filter_map(|(_, locks)| locks) {
        keep(locks.into_file())?;
    }
    Ok(through)
}

/// The lock file of a store, opened through a copy of its mount. None where the caller may not open it, as in another
/// user's store: nobody removes layers there for this user.
fn locks_of(store: &OwnedFd) -> Result<Option<(Locks, OwnedFd, OwnedFd)>> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let Ok(file) = openat(store, LOCK, flags, Mode::empty()) else { return Ok(None) };
    let stat = fstat(&file)?;
    // Another process that can open it can make this one wait.
    if file_kind(&file)? != SFlag::S_IFREG || stat.st_mode & 0o077 != 0 || others(stat.st_uid, stat.st_mode).is_some() {
        return Ok(None);
    }
    let Some(copy) = read_only(&file)? else { return Ok(None) };
    let opened = open(&attach::by_number(&copy), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty());
    Ok(opened.ok().map(|opened| (Locks::from(opened), copy, file)))
}

/// Keeps other containers out.
pub fn alone(dir: &OwnedFd) -> Result<Option<OwnedFd>> {
    let Some(copy) = read_only(dir)? else { return Ok(None) };
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let opened = match openat(&copy, ".", flags, Mode::empty()) {
        // A user who may not read it may still enter it. unpack makes no such directory.
        Err(Errno::EACCES) => return Ok(None),
        opened => opened.context("open for the lock")?,
    };
    match lock_alone(&opened) {
        Ok(()) => {
            keep(&opened)?;
            Ok(Some(copy))
        }
        Err(Errno::EWOULDBLOCK) => {
            Err(anyhow!("in use by another container")).hint("give each container its own --overlay DIR")
        }
        // Without locks on this filesystem, nobody else can ask for one either.
        Err(Errno::ENOLCK | Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EBADF | Errno::EINVAL) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// A read-only copy of the mount. None if the kernel cannot make one.
fn read_only(of: &OwnedFd) -> Result<Option<OwnedFd>> {
    let copy = match attach::copy(of) {
        Err(Errno::ENOSYS) => return Ok(None),
        copy => copy.map_err(|errno| why_failed::of_bind(errno, of)).context("copy the mount for the lock")?,
    };
    let set = attach::set_unattached(&copy, READ_ONLY).context("make the copy for the lock read-only")?;
    Ok(set.then_some(copy))
}

/// Passes the lock on to COMMAND.
fn keep(locked: impl AsFd) -> Result<()> {
    let number = fcntl(&locked, FcntlArg::F_DUPFD(NUMBER)).or_else(|errno| match errno {
        Errno::EINVAL | Errno::EMFILE => fcntl(&locked, FcntlArg::F_DUPFD(3)),
        errno => Err(errno),
    });
    number.context("keep the lock open")?;
    Ok(())
}
