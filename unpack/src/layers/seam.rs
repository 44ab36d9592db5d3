//! The seam: directories alone, above all layers. Overlayfs takes a directory's owner, mode and times from the uppermost
//! layer that has it, even one that has it only for what is in it; in the seam it has those of the flat tree.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{BorrowedFd, OwnedFd};

use anyhow::{Context, Result};
use rustix::fs::{Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::view::{Placed, Seen, look};
use crate::stage::DIRECTORY;
use crate::tree::shown;

/// Fills the seam's root with the directories whose metadata the uppermost layer has wrong, and their parents.
pub fn fill(root: BorrowedFd, stack: &[Placed]) -> Result<()> {
    let implied: BTreeSet<&Vec<u8>> = stack.iter().flat_map(|layer| &layer.needs.implied).collect();
    let root_path = Vec::new();
    let mut wanted = BTreeMap::new();
    for path in [&root_path].into_iter().chain(implied) {
        match source(stack, path)? {
            Some((source, true)) => drop(wanted.insert(path.clone(), source)),
            Some((source, false)) if path.is_empty() => drop(wanted.insert(path.clone(), source)),
            _ => {}
        }
    }
    for path in wanted.keys().cloned().collect::<Vec<_>>() {
        for end in (0..path.len()).filter(|&at| path[at] == b'/') {
            if let Some((source, _)) = source(stack, &path[..end])? {
                wanted.insert(path[..end].to_vec(), source);
            }
        }
    }
    // In order, so that each parent is made before what is in it, and has its times after.
    for path in wanted.keys().filter(|path| !path.is_empty()) {
        rustix::fs::mkdirat(root, &path[..], Mode::RWXU).with_context(|| shown(path))?;
    }
    for (path, source) in wanted.iter().rev() {
        let from = stack[*source].open(path, OFlags::DIRECTORY).with_context(|| shown(path))?;
        let to = open(root, path).with_context(|| shown(path))?;
        copy_metadata(&from, &to).with_context(|| format!("{}: give it its owner, mode and times", shown(path)))?;
    }
    Ok(())
}

/// The layer whose metadata a directory has, and whether it is not the uppermost that has the directory.
fn source(stack: &[Placed], path: &[u8]) -> Result<Option<(usize, bool)>> {
    let Seen::Directory(merged) = look(stack, path, true)? else { return Ok(None) };
    let says = merged.iter().find(|&&number| !stack[number].needs.implied.contains(path));
    let Some(&first) = merged.first() else { return Ok(None) };
    let source = *says.unwrap_or(&first);
    Ok(Some((source, source != first)))
}

fn open(root: BorrowedFd, path: &[u8]) -> rustix::io::Result<OwnedFd> {
    let path = if path.is_empty() { b"." } else { path };
    crate::retry_eintr::openat(root, path, DIRECTORY, Mode::empty())
}

fn copy_metadata(from: &OwnedFd, to: &OwnedFd) -> Result<()> {
    let stat = rustix::fs::fstat(from)?;
    let made = rustix::fs::fstat(to)?;
    if (made.st_uid, made.st_gid) != (stat.st_uid, stat.st_gid) {
        rustix::fs::fchown(to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    }
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    let mut names = vec![0; 65536];
    let length = match rustix::fs::flistxattr(from, &mut names[..]) {
        Err(Errno::OPNOTSUPP) => 0,
        length => length?,
    };
    let counts = |name: &&[u8]| !name.is_empty() && !name.starts_with(b"user.overlay.");
    for name in names[..length].split(|&b| b == 0).filter(counts) {
        let mut value = vec![0; 65536];
        let length = rustix::fs::fgetxattr(from, name, &mut value[..])?;
        match rustix::fs::fsetxattr(to, name, &value[..length], XattrFlags::empty()) {
            // What a security module sets by itself.
            Err(Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP) if name.starts_with(b"security.") => {}
            set => set?,
        }
    }
    let time = |seconds, nanoseconds: u64| Timespec { tv_sec: seconds, tv_nsec: nanoseconds as _ };
    let times = Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    };
    Ok(rustix::fs::futimens(to, &times)?)
}
