//! Locks that last as long as the container: a shared one on ROOT, by which `unpack --replace` knows
//! that it is in use, and one of its own on the directory that takes an overlay's changes.
//!
//! The descriptor stays open in COMMAND and everything that it starts, so it must be no door. It is
//! opened through a read-only copy of the mount that is attached nowhere: nothing is above its root,
//! and nothing can be changed through it.

use std::os::fd::OwnedFd;

use anyhow::{Context, Result, anyhow};
use chain::attach::{self, READ_ONLY};
use chain::patient::{flock, openat};
use chain::{WithHint, mounts};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FlockArg, OFlag, fcntl};
use nix::sys::stat::{Mode, fstat};

/// High enough that no script's own redirections meet it.
const NUMBER: i32 = 100;

/// Keeps ROOT from being removed. The result is the id of the mount that the lock is held through.
/// Changes through the lock's descriptor are as harmless as through `/` where ROOT is not overlaid.
pub fn shared(root: &OwnedFd, overlaid: bool) -> Result<Option<u64>> {
    let id = hold(root, FlockArg::LockSharedNonblock, !overlaid).map_err(|refused| {
        match refused.downcast_ref::<Errno>() {
            Some(&Errno::EWOULDBLOCK) => anyhow!("another program is about to remove or replace it")
                .context(chain::Hint("wait for the unpack --replace that runs, then start again".into())),
            _ => refused,
        }
    })?;
    if fstat(root)?.st_nlink == 0 {
        return Err(anyhow!("it was removed meanwhile")).hint("start again");
    }
    Ok(id)
}

/// Keeps other containers out.
pub fn alone(dir: &OwnedFd) -> Result<Option<u64>> {
    hold(dir, FlockArg::LockExclusiveNonblock, false).map_err(|refused| match refused.downcast_ref::<Errno>() {
        Some(&Errno::EWOULDBLOCK) => anyhow!("in use by another container")
            .context(chain::Hint("give each container its own --overlay DIR".into())),
        _ => refused,
    })
}

fn hold(dir: &OwnedFd, how: FlockArg, may_be_writable: bool) -> Result<Option<u64>> {
    // Without the new calls there is no such copy, and a lock is not worth a door.
    let copy = match attach::copy(dir) {
        Err(Errno::ENOSYS) => return Ok(None),
        copy => copy.context("copy the mount for the lock")?,
    };
    if !attach::set_unattached(&copy, READ_ONLY).context("make the copy for the lock read-only")? && !may_be_writable {
        return Ok(None);
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let opened = match openat(&copy, ".", flags, Mode::empty()) {
        // Whoever may not read it may still enter it; unpack makes none of that kind.
        Err(Errno::EACCES) => return Ok(None),
        opened => opened.context("open for the lock")?,
    };
    let locked = match flock(opened, how) {
        Ok(locked) => locked,
        // A filesystem without locks has none that unpack could ask for either.
        Err((_, Errno::ENOLCK | Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EBADF | Errno::EINVAL)) => return Ok(None),
        Err((_, errno)) => return Err(errno.into()),
    };
    let number = fcntl(&*locked, FcntlArg::F_DUPFD(NUMBER)).or_else(|errno| match errno {
        Errno::EINVAL | Errno::EMFILE => fcntl(&*locked, FcntlArg::F_DUPFD(3)),
        errno => Err(errno),
    });
    number.context("keep the lock open")?;
    // Left open on purpose. Unlocking through any descriptor of an open file unlocks it for all (flock(2)).
    std::mem::forget(locked);
    mounts::id_of(copy).map(Some)
}
