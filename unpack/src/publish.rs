//! A finished tree becomes ROOT, by one rename, with its receipt there before it.

pub mod lock;
mod replaceable;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use chain::WithHint;
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

pub use replaceable::{Old, replaceable};

use crate::stage::{RECEIPT, Stage, TREE};
use lock::Publishing;

#[derive(Debug, PartialEq, Eq)]
pub enum Published {
    Here,
    /// Another run's ROOT came first.
    Lost,
}

/// Puts the receipt and the tree of `stage` in place. With `replace`, what was there ends up in the staging directory.
pub fn publish(stage: &Stage, root: &Path, receipt: &[u8], replace: bool, sync: bool) -> Result<Published> {
    // Until both are in place no container takes the receipt for that of the tree beside it.
    let receipt = write_receipt(stage, receipt)?;
    let _ = chain::receipt::lock::alone(&receipt);
    if sync {
        rustix::fs::syncfs(stage.dir()).context("make the tree durable")?;
    }
    let lock = Publishing::lock(stage.parent.as_fd(), &stage.name)?;
    let beside = receipt_name(&stage.name);
    let there = match rustix::fs::statat(&stage.parent, &stage.name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => false,
        // If we cannot tell, we must not put a receipt where that of another root may lie.
        result => result.map(|_| true).with_context(|| root.display().to_string())?,
    };
    let published = match (there, replace) {
        (true, false) => Published::Lost,
        (true, true) => match replaceable(root)? {
            Old::Root(old) => exchange(stage, root, &beside, &old)?,
            Old::Nothing | Old::Empty => appear(stage, root, &beside, RenameFlags::empty())?,
        },
        (false, _) => appear(stage, root, &beside, RenameFlags::NOREPLACE)?,
    };
    drop(lock);
    if sync {
        let what = || format!("{}: is in place and complete, but may not outlive a power failure", root.display());
        crate::retry_eintr::fsync(&stage.parent).with_context(what)?;
    }
    Ok(published)
}

fn write_receipt(stage: &Stage, receipt: &[u8]) -> Result<File> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
    let fd = crate::retry_eintr::openat(stage.dir(), RECEIPT, flags, mode).context("write the receipt")?;
    let mut file = File::from(fd);
    file.write_all(receipt).context("write the receipt")?;
    Ok(file)
}

/// Removes a receipt that vouches for nothing, since there is no root. Anything else of that name stays, even if it has
/// just come.
fn put_receipt(stage: &Stage, root: &Path, beside: &OsStr) -> Result<()> {
    let rename = |flags| rustix::fs::renameat_with(stage.dir(), RECEIPT, &stage.parent, beside, flags);
    let renamed = match rename(RenameFlags::NOREPLACE) {
        // INVAL: a filesystem without the flag.
        Err(Errno::EXIST | Errno::INVAL) => {
            crate::receipt::may_be_written(root)?;
            rename(RenameFlags::empty())
        }
        result => result,
    };
    renamed.with_context(|| format!("{}: put its receipt in place", root.display()))
}

/// A rename without flags replaces an empty directory and nothing else.
fn appear(stage: &Stage, root: &Path, beside: &OsStr, flags: RenameFlags) -> Result<Published> {
    let what = || format!("{}: put it in place", root.display());
    put_receipt(stage, root, beside)?;
    match rustix::fs::renameat_with(stage.dir(), TREE, &stage.parent, &stage.name, flags) {
        Ok(()) => Ok(Published::Here),
        Err(Errno::EXIST) if flags == RenameFlags::NOREPLACE => {
            let _ = rustix::fs::unlinkat(&stage.parent, beside, AtFlags::empty());
            Ok(Published::Lost)
        }
        // The filesystem lacks the flag: a plain rename replaces at most an empty directory.
        Err(Errno::INVAL) => {
            rustix::fs::renameat(stage.dir(), TREE, &stage.parent, &stage.name).with_context(what)?;
            Ok(Published::Here)
        }
        Err(error) => {
            let _ = rustix::fs::unlinkat(&stage.parent, beside, AtFlags::empty());
            Err(error).with_context(what)
        }
    }
}

/// Exchanges receipt and tree with the old ones, and back again if the old tree is not `old`.
fn exchange(stage: &Stage, root: &Path, beside: &OsStr, old: &OwnedFd) -> Result<Published> {
    let what = || format!("{}: replace it", root.display());
    let swap = |ours: &str, theirs: &OsStr| {
        rustix::fs::renameat_with(stage.dir(), ours, &stage.parent, theirs, RenameFlags::EXCHANGE)
    };
    swap(RECEIPT, beside).with_context(what)?;
    if let Err(error) = swap(TREE, &stage.name) {
        let _ = swap(RECEIPT, beside);
        return Err(error).with_context(what);
    }
    if !stage.find_tree().is_ok_and(|tree| is_same(&tree, old)) {
        swap(TREE, &stage.name).with_context(what)?;
        swap(RECEIPT, beside).with_context(what)?;
        return Err(anyhow!("{}: it became another directory meanwhile", root.display())).hint("start again");
    }
    Ok(Published::Here)
}

fn is_same(one: &OwnedFd, other: &OwnedFd) -> bool {
    let inode = |file: &OwnedFd| rustix::fs::fstat(file).map(|stat| (stat.st_dev, stat.st_ino));
    inode(one).is_ok_and(|one| inode(other) == Ok(one))
}

fn receipt_name(name: &OsStr) -> OsString {
    chain::receipt::path(Path::new(name)).into_os_string()
}
