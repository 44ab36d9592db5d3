//! The mounts that this process can reach: from listmount(2) and statmount(2), which need no
//! /proc, or on a kernel without them (before 6.8) from proc_pid_mountinfo(5).

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};
use nix::errno::Errno;
use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};

use crate::{WithHint, mountinfo, sys};

/// Linux 6.8: an id that is never given again.
const STATX_MNT_ID_UNIQUE: u32 = 0x4000;
/// A mount namespace holds no more by default (fs.mount-max, proc_sys_fs(5)): who detaches mounts one by one and needs
/// more rounds is up against somebody who mounts.
pub const MOST: usize = 100_000;
const STATMOUNT_MNT_BASIC: u64 = 0x02;
const STATMOUNT_MNT_POINT: u64 = 0x10;
/// Where the strings of struct statmount begin.
const STRINGS: usize = 512;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// As in field 1 of mountinfo, and in statx(2) of a descriptor on the mount.
    pub id: u64,
    pub parent: u64,
    /// Relative to this process's root.
    pub point: PathBuf,
}

/// Every mount that can be reached from `/`, the one of `/` included.
pub fn table() -> Result<Vec<Mount>> {
    match from_syscalls(sys::LSMT_ROOT) {
        // EPERM: older seccomp profiles answer it for calls that they do not know.
        Err(Errno::ENOSYS | Errno::EPERM) => from_mountinfo(),
        result => result.context("list the mounts"),
    }
}

/// The id of the mount that a descriptor is on.
pub fn id_of(fd: impl AsFd) -> Result<u64> {
    id(fd, "")
}

/// The id of the mount that a path leads to.
pub fn id_at(path: &str) -> Result<u64> {
    id(CWD, path)
}

fn id(fd: impl AsFd, path: &str) -> Result<u64> {
    let stat = statx(fd, path, AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT, StatxFlags::MNT_ID)?;
    if stat.stx_mask & StatxFlags::MNT_ID.bits() == 0 {
        return Err(anyhow!("statx(2) gives no mount id")).hint("this needs Linux 5.8 or later");
    }
    Ok(stat.stx_mnt_id)
}

/// The id of the mount of `/` that no other mount ever gets; before Linux 6.8 its ordinary id.
pub(crate) fn lasting_id_of_root() -> Option<u64> {
    let wanted = StatxFlags::MNT_ID | StatxFlags::from_bits_retain(STATX_MNT_ID_UNIQUE);
    let root = statx(CWD, "/", AtFlags::empty(), wanted).ok()?;
    (root.stx_mask & wanted.bits() != 0).then_some(root.stx_mnt_id)
}

/// Whether a descriptor is on the root directory of its mount.
pub fn is_mount_root(fd: impl AsFd) -> Result<bool> {
    let stat = statx(fd, "", AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT, StatxFlags::MNT_ID)?;
    Ok(stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Whether nobody may change the file (chattr(1), +i).
pub fn is_immutable(fd: impl AsFd) -> bool {
    let stat = statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::empty());
    stat.is_ok_and(|stat| stat.stx_attributes.contains(StatxAttributes::IMMUTABLE))
}

/// The ids of the mounts below the one that `tree` is on the root of.
pub fn ids_below(tree: impl AsFd) -> Result<Vec<u64>> {
    let wanted = StatxFlags::from_bits_retain(STATX_MNT_ID_UNIQUE);
    let stat = statx(&tree, "", AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT, wanted)?;
    if stat.stx_mask & STATX_MNT_ID_UNIQUE != 0 {
        match from_syscalls(stat.stx_mnt_id) {
            Err(Errno::ENOSYS | Errno::EPERM) => {}
            mounts => return Ok(mounts.context("list the mounts")?.into_iter().map(|mount| mount.id).collect()),
        }
    }
    let id = id_of(&tree)?;
    Ok(below(&[id], &from_mountinfo()?).into_iter().map(|mount| mount.id).filter(|&below| below != id).collect())
}

/// The mounts with these ids and all that are mounted on them, directly or not.
pub fn below<'a>(ids: &[u64], table: &'a [Mount]) -> Vec<&'a Mount> {
    let mut children = HashMap::<u64, Vec<&Mount>>::new();
    for mount in table.iter().filter(|mount| mount.id != mount.parent) {
        children.entry(mount.parent).or_default().push(mount);
    }
    let ids: HashSet<&u64> = ids.iter().collect();
    let mut found: Vec<&Mount> = table.iter().filter(|mount| ids.contains(&mount.id)).collect();
    let mut next = 0;
    while let Some(mount) = found.get(next) {
        // Taken out, so that none is found twice.
        found.extend(children.remove(&mount.id).unwrap_or_default());
        next += 1;
    }
    found
}

fn from_syscalls(top: u64) -> Result<Vec<Mount>, Errno> {
    let mut mounts = Vec::new();
    let mut ids = [0; 256];
    let mut last = 0;
    let mut buffer = vec![0; STRINGS + 2 * nix::libc::PATH_MAX as usize];
    loop {
        let count = sys::listmount(top, last, &mut ids)?;
        for &unique in &ids[..count] {
            match described(unique, &mut buffer) {
                // Gone since it was listed.
                Err(Errno::ENOENT) => {}
                mount => mounts.push(mount?),
            }
        }
        if count < ids.len() {
            return Ok(mounts);
        }
        last = ids[count - 1];
    }
}

fn described(unique: u64, buffer: &mut Vec<u8>) -> Result<Mount, Errno> {
    loop {
        match sys::statmount(unique, STATMOUNT_MNT_BASIC | STATMOUNT_MNT_POINT, buffer) {
            Err(Errno::EOVERFLOW) if buffer.len() < 1 << 24 => buffer.resize(buffer.len() * 2, 0),
            result => break result?,
        }
    }
    let number = |at: usize| u32::from_ne_bytes([buffer[at], buffer[at + 1], buffer[at + 2], buffer[at + 3]]);
    let (id, parent, point) = (number(56), number(60), number(108) as usize);
    let point = buffer.get(STRINGS + point..).unwrap_or_default();
    let point = point.split(|&b| b == 0).next().unwrap_or_default();
    Ok(Mount { id: id.into(), parent: parent.into(), point: OsString::from_vec(point.to_vec()).into() })
}

fn from_mountinfo() -> Result<Vec<Mount>> {
    let entries = mountinfo::read()?.into_iter();
    Ok(entries.map(|entry| Mount { id: entry.id, parent: entry.parent, point: entry.point }).collect())
}

impl Mount {
    /// Whether `path` is this mount's own point, written as mountinfo would.
    pub fn is_at(&self, path: &str) -> bool {
        self.point.as_os_str().as_bytes() == path.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sources_say_the_same() {
        let Ok(mut called) = from_syscalls(sys::LSMT_ROOT) else {
            return println!("skipped: this kernel has no listmount");
        };
        let mut read = from_mountinfo().unwrap();
        called.sort_by_key(|mount| mount.id);
        read.sort_by_key(|mount| mount.id);
        assert_eq!(called, read);
        let root = rustix::fs::open("/", rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
        let mut below = ids_below(&root).unwrap();
        below.push(id_of(&root).unwrap());
        below.sort_unstable();
        assert_eq!(below, called.iter().map(|mount| mount.id).collect::<Vec<_>>());
        assert!(called.iter().any(|mount| mount.is_at("/") && mount.id == id_at("/").unwrap()));
    }
}
