//! A finished tree becomes ROOT, by one rename, with its receipt there before it.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::stage::{Publishing, Stage, TREE, replaceable};

const RECEIPT: &str = "receipt.json";

#[derive(Debug, PartialEq, Eq)]
pub enum Published {
    Here,
    /// Another run's ROOT came first.
    Lost,
}

/// Puts the receipt and the tree of `stage` in place. With `replace` what was there is in the staging
/// directory afterwards.
pub fn publish(stage: &Stage, root: &Path, receipt: &[u8], replace: bool, sync: bool) -> Result<Published> {
    write_receipt(stage, receipt)?;
    if sync {
        rustix::fs::syncfs(stage.dir()).context("make the tree durable")?;
    }
    let lock = Publishing::lock(stage.parent.as_fd(), &stage.name)?;
    let beside = receipt_name(&stage.name);
    let there = match rustix::fs::statat(&stage.parent, &stage.name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => false,
        // Not knowing is no reason to put a receipt where that of a root may lie.
        result => result.map(|_| true).with_context(|| root.display().to_string())?,
    };
    let published = match (there, replace) {
        (true, false) => Published::Lost,
        (true, true) => exchange(stage, root, &beside)?,
        (false, _) => appear(stage, root, &beside)?,
    };
    drop(lock);
    if sync {
        let what = || format!("{}: is in place and complete, but may not outlive a power failure", root.display());
        crate::patient::fsync(&stage.parent).with_context(what)?;
    }
    Ok(published)
}

fn write_receipt(stage: &Stage, receipt: &[u8]) -> Result<()> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
    let fd = crate::patient::openat(stage.dir(), RECEIPT, flags, mode).context("write the receipt")?;
    std::fs::File::from(fd).write_all(receipt).context("write the receipt")
}

fn appear(stage: &Stage, root: &Path, beside: &OsStr) -> Result<Published> {
    let what = || format!("{}: put it in place", root.display());
    // A receipt that lies there vouches for no root: there is none.
    rustix::fs::renameat(stage.dir(), RECEIPT, &stage.parent, beside).with_context(what)?;
    match rustix::fs::renameat_with(stage.dir(), TREE, &stage.parent, &stage.name, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(Published::Here),
        Err(Errno::EXIST) => {
            let _ = rustix::fs::unlinkat(&stage.parent, beside, AtFlags::empty());
            Ok(Published::Lost)
        }
        // A filesystem without the flag: a plain rename takes the place of an empty directory at most.
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

fn exchange(stage: &Stage, root: &Path, beside: &OsStr) -> Result<Published> {
    replaceable(root)?;
    let what = || format!("{}: replace it", root.display());
    let swap = RenameFlags::EXCHANGE;
    let receipt = match rustix::fs::renameat_with(stage.dir(), RECEIPT, &stage.parent, beside, swap) {
        Err(Errno::NOENT) => {
            rustix::fs::renameat(stage.dir(), RECEIPT, &stage.parent, beside).with_context(what)?;
            false
        }
        result => {
            result.with_context(what)?;
            true
        }
    };
    if let Err(error) = rustix::fs::renameat_with(stage.dir(), TREE, &stage.parent, &stage.name, swap) {
        let _ = match receipt {
            true => rustix::fs::renameat_with(stage.dir(), RECEIPT, &stage.parent, beside, swap),
            false => rustix::fs::unlinkat(&stage.parent, beside, AtFlags::empty()),
        };
        return Err(error).with_context(what);
    }
    Ok(Published::Here)
}

fn receipt_name(name: &OsStr) -> OsString {
    chain::handoff::receipt_path(Path::new(name)).into_os_string()
}
