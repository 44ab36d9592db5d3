//! Locks that last as long as the container: a shared one on ROOT, by which `unpack --replace` knows
//! that it is in use, and one of its own on the directory that takes an overlay's changes.
//!
//! The descriptor stays open in COMMAND and everything that it starts, so it must be no door. It is
//! opened through a read-only copy of the mount that is attached nowhere: nothing is above its root,
//! and nothing can be changed through it.

use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use chain::WithHint;
use chain::attach::{self, READ_ONLY};
use chain::patient::{flock, openat};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, Flock, FlockArg, OFlag, fcntl};
use nix::sys::stat::{Mode, fstat};

use crate::root::{self, identity};

/// High enough that no script's own redirections meet it.
const NUMBER: i32 = 100;

/// ROOT, kept from being removed, and the mount that the lock is held through. What
/// `unpack --replace` has put in its place meanwhile is taken instead.
/// Where COMMAND may write to ROOT anyway, changes through the lock's descriptor are as harmless as through `/`.
pub fn shared(mut root: OwnedFd, path: &Path, writable: bool) -> Result<(OwnedFd, Option<OwnedFd>)> {
    loop {
        let held = hold(&root, FlockArg::LockSharedNonblock, writable);
        // A tree that has lost its name to another may be on its way out, whatever its lock says.
        let named = root::open_root(path)?;
        if identity(&named)? != identity(&root)? {
            root = named;
            continue;
        }
        if fstat(&root)?.st_nlink == 0 {
            return Err(anyhow!("it was removed meanwhile")).hint("start again");
        }
        return match held.map_err(|refused| (refused.downcast_ref() == Some(&Errno::EWOULDBLOCK), refused)) {
            Ok(held) => Ok((root, held.map(keep).transpose()?)),
            Err((true, _)) => Err(anyhow!("another program is about to remove or replace it"))
                .hint("wait for the unpack --replace that runs, then start again"),
            Err((false, refused)) => Err(refused),
        };
    }
}

/// Keeps other containers out.
pub fn alone(dir: &OwnedFd) -> Result<Option<OwnedFd>> {
    let held =
        hold(dir, FlockArg::LockExclusiveNonblock, false).map_err(|refused| match refused.downcast_ref::<Errno>() {
            Some(&Errno::EWOULDBLOCK) => anyhow!("in use by another container")
                .context(chain::Hint("give each container its own --overlay DIR".into())),
            _ => refused,
        })?;
    held.map(keep).transpose()
}

struct Held {
    locked: Flock<OwnedFd>,
    mount: OwnedFd,
}

fn hold(dir: &OwnedFd, how: FlockArg, may_be_writable: bool) -> Result<Option<Held>> {
    // Without the new calls there is no such copy, and a lock is not worth a door.
    let copy = match attach::copy(dir) {
        Err(Errno::ENOSYS) => return Ok(None),
        Err(Errno::EPERM) => {
            return Err(Errno::EPERM)
                .context("no CAP_SYS_ADMIN over the mount namespace")
                .hint("this needs root, or a user namespace: isolate --user --map-root -- …");
        }
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
    match flock(opened, how) {
        Ok(locked) => Ok(Some(Held { locked, mount: copy })),
        // A filesystem without locks has none that unpack could ask for either.
        Err((_, Errno::ENOLCK | Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EBADF | Errno::EINVAL)) => Ok(None),
        Err((_, errno)) => Err(errno.into()),
    }
}

/// Passes the lock on to COMMAND.
fn keep(held: Held) -> Result<OwnedFd> {
    let number = fcntl(&*held.locked, FcntlArg::F_DUPFD(NUMBER)).or_else(|errno| match errno {
        Errno::EINVAL | Errno::EMFILE => fcntl(&*held.locked, FcntlArg::F_DUPFD(3)),
        errno => Err(errno),
    });
    number.context("keep the lock open")?;
    // Left open on purpose. Unlocking through any descriptor of an open file unlocks it for all (flock(2)).
    std::mem::forget(held.locked);
    Ok(held.mount)
}
