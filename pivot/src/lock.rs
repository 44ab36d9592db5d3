//! The shared lock on ROOT by which `unpack --replace` knows that a container lives in it.
//!
//! The descriptor stays open in COMMAND and everything that it starts, so it must be no door. It is
//! opened through a read-only copy of the mount that is attached nowhere: nothing is above its root,
//! and nothing can be changed through it.

use std::os::fd::OwnedFd;

use anyhow::{Context, Result, anyhow};
use chain::{WithHint, mounts, sys};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, Flock, FlockArg, OFlag, fcntl, openat};
use nix::libc::{AT_RECURSIVE, MOUNT_ATTR_RDONLY};
use nix::sys::stat::{Mode, fstat};
use rustix::mount::{OpenTreeFlags, open_tree};

/// High enough that no script's own redirections meet it.
const NUMBER: i32 = 100;

/// Locks the directory `root`, and says the id of the mount that it is held through.
pub fn hold(root: &OwnedFd) -> Result<Option<u64>> {
    let copy = detached_copy(root)?;
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = match openat(copy.as_ref().unwrap_or(root), ".", flags, Mode::empty()) {
        // Whoever may not read ROOT may still enter it; unpack makes none of that kind.
        Err(Errno::EACCES) => return Ok(None),
        root => root.context("open for the lock")?,
    };
    let locked = match Flock::lock(root, FlockArg::LockSharedNonblock) {
        Ok(locked) => locked,
        Err((_, Errno::EWOULDBLOCK)) => {
            return Err(anyhow!("another program is about to remove or replace it"))
                .hint("wait for the unpack --replace that runs, then start again");
        }
        // A filesystem without locks has none that unpack could ask for either.
        Err((_, Errno::ENOLCK | Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EBADF | Errno::EINVAL)) => return Ok(None),
        Err((_, errno)) => return Err(errno).context("flock"),
    };
    if fstat(&*locked)?.st_nlink == 0 {
        return Err(anyhow!("it was removed meanwhile")).hint("start again");
    }
    // Left open on purpose: the lock lasts as long as any process of the container.
    let number = fcntl(&*locked, FcntlArg::F_DUPFD(NUMBER)).or_else(|errno| match errno {
        Errno::EINVAL | Errno::EMFILE => fcntl(&*locked, FcntlArg::F_DUPFD(3)),
        errno => Err(errno),
    });
    number.context("keep the lock open")?;
    // Unlocking through any descriptor of an open file unlocks it for all (flock(2)).
    std::mem::forget(locked);
    copy.map(mounts::id_of).transpose()
}

/// Where the kernel has no such thing the lock is held through the root mount, whose `..` is itself.
fn detached_copy(root: &OwnedFd) -> Result<Option<OwnedFd>> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_EMPTY_PATH;
    let copy = match open_tree(root, "", flags) {
        Err(rustix::io::Errno::NOSYS) => return Ok(None),
        copy => copy.context("copy the mount for the lock")?,
    };
    match sys::mount_setattr(&copy, AT_RECURSIVE, MOUNT_ATTR_RDONLY, 0) {
        Err(Errno::ENOSYS) => Ok(None),
        result => result.map(|()| Some(copy)).context("copy the mount for the lock"),
    }
}
