//! Where a root is made: in a hidden directory beside its place, which only its owner can enter and which is locked while
//! its run lives.

mod mark;
pub mod name;

use std::ffi::{OsStr, OsString};
use std::hash::{BuildHasher, RandomState};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use chain::id_map::why_unknown_here;
use chain::receipt::lock::{self, Lock};
use chain::{Tool, WithHint};
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::publish::lock::is_lock_of;
use crate::stage::mark::{MARK, is_staging};
use crate::stage::name::{prefix, still};
use crate::tree::remove;

pub const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// The tree's name in its staging directory,
pub const TREE: &str = "root";
/// and its receipt's.
pub const RECEIPT: &str = "receipt.json";
/// Hexadecimal digits at the end of a staging directory's name.
const DIGITS: usize = 16;
/// In another user's directory that user may move every new name away at once, again and again.
const ATTEMPTS: usize = 100;

pub struct Stage {
    /// ROOT's parent.
    pub parent: OwnedFd,
    pub parent_path: PathBuf,
    /// ROOT's own name.
    pub name: OsString,
    dir: OwnedFd,
    staged: OsString,
}

impl Stage {
    /// Sweeps what dead runs left and makes a staging directory for `root`.
    pub fn new(root: &Path) -> Result<Stage> {
        let (Some(parent_path), Some(name)) = (root.parent(), root.file_name()) else {
            anyhow::bail!("{}: the root directory cannot be replaced", root.display());
        };
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent = crate::retry_eintr::open(parent_path, flags, Mode::empty())
            .with_context(|| parent_path.display().to_string())?;
        crate::tree::containment(parent.as_fd())?;
        sweep(parent.as_fd(), name);
        let (dir, staged) = make(parent.as_fd(), name)
            .with_context(|| format!("{}: make a staging directory", parent_path.display()))?;
        let stage = Stage { parent, parent_path: parent_path.to_owned(), name: name.to_owned(), dir, staged };
        let made = rustix::fs::mkdirat(&stage.dir, TREE, Mode::RWXU);
        if made.is_err() {
            let _ = stage.remove();
        }
        made.with_context(|| stage.path().display().to_string())?;
        Ok(stage)
    }

    pub fn path(&self) -> PathBuf {
        self.parent_path.join(&self.staged)
    }

    pub fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    pub fn open_tree(&self) -> Result<OwnedFd> {
        crate::retry_eintr::openat(&self.dir, TREE, DIRECTORY, Mode::empty())
            .with_context(|| self.path().join(TREE).display().to_string())
    }

    /// The staged directory, whose mode may not let us read it.
    pub fn find_tree(&self) -> rustix::io::Result<OwnedFd> {
        crate::retry_eintr::openat(&self.dir, TREE, DIRECTORY | OFlags::PATH, Mode::empty())
    }

    /// Removes the staging directory and all that is in it; what a running container still uses stays
    /// for a later run to sweep.
    pub fn remove(&self) -> rustix::io::Result<()> {
        remove_staged(self.parent.as_fd(), &self.staged, self.dir.as_fd())
    }

    /// Removes this directory, from another thread.
    pub fn remover(&self) -> Result<Stage> {
        Ok(Stage {
            parent: self.parent.try_clone()?,
            parent_path: self.parent_path.clone(),
            name: self.name.clone(),
            dir: self.dir.try_clone()?,
            staged: self.staged.clone(),
        })
    }
}

/// Makes and locks a staging directory under a free name.
fn make(parent: BorrowedFd, name: &OsStr) -> Result<(OwnedFd, OsString)> {
    for _ in 0..ATTEMPTS {
        let number = RandomState::new().hash_one(std::process::id());
        let staged = OsString::from_vec([&prefix(name)[..], format!("{number:0DIGITS$x}").as_bytes()].concat());
        match rustix::fs::mkdirat(parent, &staged, Mode::RWXU) {
            Err(Errno::EXIST) => continue,
            Err(error @ (Errno::ACCESS | Errno::PERM | Errno::ROFS)) => {
                //: ROOT | mkdir: EACCES, EPERM, EROFS | nothing can be made in ROOT's parent directory | the only causes |
                //: unpack/not_root::a_place_that_is_not_ours_is_an_error_with_a_hint
                return Err(error).hint("ROOT is made beside its place: its parent directory must be writable");
            }
            Err(error @ Errno::OVERFLOW) => return Err(error).hint(why_unknown_here()),
            result => result?,
        }
        match claim(parent, &staged) {
            Ok(Some(dir)) => return Ok((dir, staged)),
            Ok(None) => continue,
            Err(error) => {
                let _ = rustix::fs::unlinkat(parent, &staged, AtFlags::REMOVEDIR);
                return Err(error);
            }
        }
    }
    anyhow::bail!("somebody moves away what is made here")
}

/// Locks and marks a new directory. None if another run took it for a dead run's and removed it, or if its name now means
/// another directory. Any other failure would be the same under every name.
fn claim(parent: BorrowedFd, staged: &OsStr) -> Result<Option<OwnedFd>> {
    let dir = match crate::retry_eintr::openat(parent, staged, DIRECTORY, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        opened => opened?,
    };
    match crate::retry_eintr::flock(&dir, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => return Ok(None),
        // No other run can lock it either, and none removes what it cannot lock.
        Err(errno @ (Errno::NOLCK | Errno::NOSYS | Errno::OPNOTSUPP)) => chain::warn(
            Tool::Unpack,
            format_args!(
                "{}: no locks here ({errno}): what a killed run leaves is not removed later",
                staged.display()
            ),
        ),
        locked => locked.context("flock")?,
    }
    Ok((still(parent, staged, &dir) && mark::make(&dir)?).then_some(dir))
}

/// Empties a staging directory by its descriptor and removes its name, which removes only an empty directory, whatever
/// it means by now. If a container runs in the tree, all of it stays.
fn remove_staged(parent: BorrowedFd, name: &OsStr, dir: BorrowedFd) -> rustix::io::Result<()> {
    let Ok(_kept_out) = keep_out(dir) else { return Ok(()) };
    let left = remove::empty_but(dir, MARK.as_bytes());
    // The mark goes last: while anything is left, the next run must see that this is staging.
    if left.is_ok() {
        remove::remove(dir, MARK.as_bytes())?;
        match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
            Err(Errno::NOENT) => {}
            removed => removed?,
        }
    }
    left
}

/// Keeps containers out of the tree in a staging directory while the result lives, so that none starts in it while it is
/// being removed. An error means that one runs there: pivot holds a lock on its root's receipt.
fn keep_out(dir: BorrowedFd) -> rustix::io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(receipt) = crate::retry_eintr::openat(dir, RECEIPT, flags, Mode::empty()) else { return Ok(None) };
    match lock::alone(&receipt) {
        Ok(Lock::Busy) => Err(Errno::WOULDBLOCK),
        // Without locks on this filesystem pivot has none either.
        _ => Ok(Some(receipt)),
    }
}

/// Removes what dead runs for this root left, if nothing needs to be staged.
pub fn sweep_beside(root: &Path) {
    let (Some(parent), Some(name)) = (root.parent(), root.file_name()) else { return };
    if let Ok(parent) = crate::retry_eintr::open(parent, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        sweep(parent.as_fd(), name);
    }
}

/// Removes the staging directories of runs that are dead. What cannot be removed is left alone.
fn sweep(parent: BorrowedFd, name: &OsStr) {
    let prefix = prefix(name);
    for found in remove::names(parent).unwrap_or_default() {
        let Some(suffix) = found.strip_prefix(&prefix[..]) else { continue };
        let digit = |b: &u8| b.is_ascii_digit() || (b'a'..=b'f').contains(b);
        let staging = suffix.len() == DIGITS && suffix.iter().all(digit);
        let found = OsStr::from_bytes(&found);
        if staging {
            let _ = sweep_staged(parent, found);
        } else if is_lock_of(found, name) {
            crate::publish::lock::sweep(parent, found);
        }
    }
}

fn sweep_staged(parent: BorrowedFd, name: &OsStr) -> rustix::io::Result<()> {
    // A mount point is never ours.
    let dir = crate::retry_eintr::openat2(parent, name, DIRECTORY, ResolveFlags::NO_XDEV)?;
    let stat = rustix::fs::fstat(&dir)?;
    let made_so = stat.st_uid == rustix::process::geteuid().as_raw() && stat.st_mode & 0o7777 == 0o700;
    let dead = crate::retry_eintr::flock(&dir, FlockOperation::NonBlockingLockExclusive).is_ok();
    if !(made_so && dead && still(parent, name, &dir)) {
        return Ok(());
    }
    if is_staging(dir.as_fd())? {
        return remove_staged(parent, name, dir.as_fd());
    }
    // A run that was killed before it made its mark left an empty directory, which goes. Any other stays.
    rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
}
