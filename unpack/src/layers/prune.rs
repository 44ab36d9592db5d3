//! `--prune STORE`: the layers that no stack uses and no container runs on go.

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use chain::Hint;
use chain::receipt::lock::Lock;
use chain::receipt::{others, path as receipt_path};
use chain::store::{Locks, is_layer_name};
use indicatif::BinaryBytes;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::store::staged;
use crate::interrupt::Interrupts;
use crate::stage::{DIRECTORY, RECEIPT, TREE, sweep_beside};
use crate::tree::remove::names;

/// Prunes a store, and says what that came to.
pub fn prune(store: &Path, interrupts: &Interrupts) -> Result<String> {
    let what = || store.display().to_string();
    let dir = crate::retry_eintr::open(store, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).with_context(what)?;
    let path = store.canonicalize().with_context(what)?;
    let stat = rustix::fs::fstat(&dir)?;
    let locks = Locks::open(&dir).filter(|_| others(stat.st_uid, stat.st_mode).is_none());
    let Some(locks) = locks else { return Err(cannot_lock(store)) };
    let names = layers(&dir)?;
    let mut pruning = Pruning { dir, path, locks, interrupts, removed: 0, bytes: 0, kept: 0, running: 0 };
    for name in names {
        pruning.layer(&name).with_context(|| pruning.path.join(&name).display().to_string())?;
    }
    let Pruning { removed, bytes, kept, running, .. } = pruning;
    let running = if running > 0 { format!(", of those only because it runs: {running}") } else { String::new() };
    Ok(format!("layers removed: {removed} ({}), kept: {kept}{running}", BinaryBytes(bytes)))
}

fn cannot_lock(store: &Path) -> anyhow::Error {
    let error = anyhow!("{}: its layers cannot be locked", store.display());
    error.context(Hint(
        "only its owner, or root, prunes a store, on a filesystem that can be written to and has locks".into(),
    ))
}

/// By their directories, their receipts, and what killed runs left of them.
fn layers(dir: &OwnedFd) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for name in names(dir.as_fd())? {
        let Ok(name) = std::str::from_utf8(&name) else { continue };
        let name = staged(name.as_bytes()).unwrap_or(name.strip_suffix(".image.json").unwrap_or(name));
        if is_layer_name(name) && !name.contains('.') {
            found.insert(name.to_owned());
        }
    }
    Ok(found)
}

struct Pruning<'a> {
    dir: OwnedFd,
    path: PathBuf,
    locks: Locks,
    interrupts: &'a Interrupts,
    removed: u64,
    bytes: u64,
    kept: u64,
    /// Of those that are kept: no stack uses them.
    running: u64,
}

impl Pruning<'_> {
    fn layer(&mut self, name: &str) -> Result<()> {
        sweep_beside(&self.path.join(name));
        let receipt = receipt_path(Path::new(name));
        // A run that links a layer holds its lock from before it looks for it until the link is there.
        let free = match self.locks.unused(name)? {
            Lock::None => return Err(cannot_lock(&self.path)),
            lock => lock == Lock::Held,
        };
        let linked = match rustix::fs::statat(&self.dir, &receipt, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => false,
            stat => stat?.st_nlink > 1,
        };
        if free && !linked {
            self.removed += u64::from(self.remove(name, &receipt)?);
        } else {
            self.kept += 1;
            self.running += u64::from(!linked);
        }
        if free {
            self.locks.no_longer_in_use(name)?;
        }
        Ok(())
    }

    /// Whether there was a layer. It loses its name first: killed meanwhile, this leaves what the next run sweeps.
    fn remove(&mut self, name: &str, receipt: &Path) -> Result<bool> {
        let Pruning { dir, path, interrupts, bytes, .. } = self;
        interrupts.with_stage(&path.join(name), |stage| {
            let _inside = interrupts.gate.pass();
            // The empty directory that was staged makes way.
            let moved = match rustix::fs::renameat(&*dir, name, stage.dir(), TREE) {
                Err(Errno::NOENT) => false,
                renamed => renamed.map(|()| true)?,
            };
            match rustix::fs::renameat_with(&*dir, receipt, stage.dir(), RECEIPT, RenameFlags::NOREPLACE) {
                Err(Errno::NOENT) => {}
                renamed => renamed?,
            }
            if moved {
                *bytes += size(stage.open_tree()?.as_fd(), &mut HashSet::new())?;
            }
            Ok(moved)
        })
    }
}

/// Bytes on disk, those of a file with many names once.
fn size(dir: BorrowedFd, seen: &mut HashSet<u64>) -> Result<u64> {
    let mut bytes = 0;
    for name in names(dir)? {
        let name = OsStr::from_bytes(&name);
        let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if stat.st_nlink < 2 || FileType::from_raw_mode(stat.st_mode) == FileType::Directory || seen.insert(stat.st_ino)
        {
            bytes += stat.st_blocks as u64 * 512;
        }
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            // As deep as the budget for depth lets layers be.
            let below = crate::retry_eintr::openat(dir, name, DIRECTORY, Mode::empty());
            bytes += below.map_or(Ok(0), |below| size(below.as_fd(), seen))?;
        }
    }
    Ok(bytes)
}
