//! What an entry says about a file beyond its content, and how it is set: owner first, since that
//! clears setuid bits and capabilities, then attributes, mode, ACLs, and times last.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use chain::capabilities::{CapabilitySet, are_effective};
use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use serde_json::Value;

use super::owner::{Owned, Owners};
use super::{acl, shown};
use crate::args::{Args, Owner};
use crate::ledger::{Change, Ledger};

const ACL_ACCESS: &str = "system.posix_acl_access";
/// xattr(7): as long as a list of names can be.
const XATTR_LIST_MAX: usize = 65536;
pub const ACL_DEFAULT: &str = "system.posix_acl_default";

/// As an archive stores it.
#[derive(Clone, Debug)]
pub struct Meta {
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub mtime: Timespec,
    pub atime: Option<Timespec>,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Text, as in acl(5).
    pub acl_access: Option<Vec<u8>>,
    pub acl_default: Option<Vec<u8>>,
    /// It has an NFSv4 ACL, which no local Linux filesystem can hold (acl(5) knows POSIX ones only).
    pub acl_nfs: bool,
}

impl Meta {
    /// For a directory with files in the image, but without an entry.
    pub fn implied(epoch: i64) -> Meta {
        let mtime = Timespec { tv_sec: epoch, tv_nsec: 0 };
        Meta {
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime,
            atime: None,
            xattrs: Vec::new(),
            acl_access: None,
            acl_default: None,
            acl_nfs: false,
        }
    }
}

/// As it is going to be set.
#[derive(Debug)]
pub struct Final {
    pub owned: Owned,
    pub mode: u32,
    /// In place of `mode` where the access ACL cannot be set: under an ACL the mode's group bits are the ACL's mask
    /// (acl(5)), which may allow more than the owning group has.
    pub mode_without_acl: u32,
    pub times: Timestamps,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What may be set, and where to note what could not be.
#[derive(Debug)]
pub struct Policy {
    pub owners: Owners,
    pub ledger: Ledger,
    /// Make every device node.
    pub devices: bool,
    /// The tree becomes a layer of an overlay, where a device 0:0 is a whiteout.
    pub overlaid: bool,
    /// Modes do not restrict this process (CAP_DAC_OVERRIDE).
    pub privileged: bool,
    /// How many files run as their owner or group.
    pub setuid: AtomicU64,
    /// How many others run with capabilities.
    pub capable: AtomicU64,
}

/// EPERM of chown(2).
fn why_not_given(may_give: bool) -> &'static str {
    match may_give {
        //: set its owner | chown: EPERM | the filesystem has no owners, or its server takes none from root | CAP_CHOWN is
        //: there | unpack/refusals::why_an_owner_cannot_be_set_is_told
        true => {
            "the filesystem takes no other owner (FAT, or NFS with root_squash); --owner squash keeps them the caller's"
        }
        //: set its owner | chown: EPERM | no CAP_CHOWN | capget | unpack/refusals::why_an_owner_cannot_be_set_is_told
        false => "only root may give files away; --owner squash keeps them the caller's",
    }
}

impl Policy {
    pub fn new(owners: Owners, args: &Args) -> Policy {
        Policy {
            owners,
            ledger: Ledger::default(),
            devices: args.devices,
            overlaid: args.layers.is_some(),
            privileged: are_effective(CapabilitySet::DAC_OVERRIDE),
            setuid: 0.into(),
            capable: 0.into(),
        }
    }

    /// Counts what a layer's receipt says as this tree's.
    pub fn absorb(&self, receipt: &Value) {
        self.ledger.absorb(&receipt["skipped"]);
        for (count, key) in [(&self.setuid, "setuid"), (&self.capable, "capable")] {
            count.fetch_add(receipt["layer"][key].as_u64().unwrap_or(0), Ordering::Relaxed);
        }
    }

    pub fn decide(&self, meta: Meta, path: &[u8], directory: bool) -> Result<Final> {
        let owned = self.owners.of(meta.uid, meta.gid, path, &self.ledger)?;
        let mut mode = meta.mode & 0o7777;
        // A setuid bit is meant for its stored owner. For another it would be a gift.
        let strip = match (directory, owned.kept_uid, owned.kept_gid) {
            (true, ..) | (_, true, true) => 0,
            (_, true, false) => 0o2000,
            (_, false, true) => 0o4000,
            (_, false, false) => 0o6000,
        };
        if mode & strip != 0 {
            self.ledger.note(Change::Setuid, path);
            mode &= !strip;
        }
        if directory && !self.privileged && mode & 0o700 != 0o700 {
            self.ledger.note(Change::Mode, path);
            mode |= 0o700;
        }
        let mut mode_without_acl = mode;
        if let Some(group) = meta.acl_access.as_deref().and_then(acl::owning_group) {
            mode_without_acl &= !0o070 | u32::from(group) << 3;
        }
        let mut xattrs = meta.xattrs;
        xattrs.retain(|(name, _)| {
            let overlay = name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.");
            if overlay {
                self.ledger.note(Change::Overlay, path);
            }
            !overlay
        });
        for (name, text) in [(ACL_ACCESS, meta.acl_access), (ACL_DEFAULT, meta.acl_default)] {
            let Some(text) = text.filter(|text| !text.is_empty()) else { continue };
            match acl::binary(&text) {
                Some(value) => xattrs.push((name.into(), value)),
                None => {
                    self.ledger.note(Change::Acl, path);
                    if name == ACL_ACCESS {
                        mode = mode_without_acl;
                    }
                }
            }
        }
        if meta.acl_nfs {
            self.ledger.note(Change::Acl, path);
        }
        let times = Timestamps { last_access: meta.atime.unwrap_or(meta.mtime), last_modification: meta.mtime };
        Ok(Final { owned, mode, mode_without_acl, times, xattrs })
    }

    /// For a directory that no entry speaks of: root's where that can be, and no change to note.
    pub fn decide_implied(&self, meta: Meta) -> Result<Final> {
        let uid = if self.owners.how == Owner::Squash { self.owners.uid } else { 0 };
        let gid = if self.owners.how == Owner::Squash { self.owners.gid } else { 0 };
        let owned = Owned { uid, gid, kept_uid: true, kept_gid: true };
        let times = Timestamps { last_access: meta.mtime, last_modification: meta.mtime };
        Ok(Final { owned, mode: meta.mode, mode_without_acl: meta.mode, times, xattrs: meta.xattrs })
    }

    /// The mode that a file is made with. Setuid and the like come last: writing to a file clears them. And its owner sets
    /// an attribute of a file only while the user may write to it (xattr(7)).
    pub fn made_as(&self, last: &Final) -> u32 {
        let writable = if self.privileged || last.xattrs.is_empty() { 0 } else { 0o200 };
        last.mode & 0o777 | writable
    }

    /// Everything for a regular file or a directory. `made` is the mode of one that we just made; what is
    /// ours by its making is not set again.
    pub fn set_by_fd(&self, fd: BorrowedFd, last: &Final, made: Option<u32>, path: &[u8]) -> Result<()> {
        let chown = made.is_none() || !self.owners.comes_with(last.owned);
        if chown {
            let (uid, gid) = (Uid::from_raw(last.owned.uid), Gid::from_raw(last.owned.gid));
            self.chowned(rustix::fs::fchown(fd, Some(uid), Some(gid)), path)?;
        }
        let is_acl = |name: &[u8]| name == ACL_ACCESS.as_bytes() || name == ACL_DEFAULT.as_bytes();
        for (name, value) in last.xattrs.iter().filter(|(name, _)| !is_acl(name)) {
            let result = rustix::fs::fsetxattr(fd, name.as_slice(), value, XattrFlags::empty());
            self.attributed(result, name, fd, path)?;
        }
        if made != Some(last.mode) || (last.mode & 0o6000 != 0 && chown) {
            rustix::fs::fchmod(fd, Mode::from_raw_mode(last.mode))
                .with_context(|| format!("{}: set its mode", shown(path)))?;
        }
        // An ACL and the mode change each other (acl(5)): the ACL has the last word.
        for (name, value) in last.xattrs.iter().filter(|(name, _)| is_acl(name)) {
            let result = rustix::fs::fsetxattr(fd, name.as_slice(), value, XattrFlags::empty());
            let set = self.attributed(result, name, fd, path)?;
            if !set && name == ACL_ACCESS.as_bytes() && last.mode_without_acl != last.mode {
                rustix::fs::fchmod(fd, Mode::from_raw_mode(last.mode_without_acl))
                    .with_context(|| format!("{}: set its mode", shown(path)))?;
            }
        }
        rustix::fs::futimens(fd, &last.times).with_context(|| format!("{}: set its times", shown(path)))
    }

    /// Everything for what has no descriptor to write through: a link, device or fifo just made.
    pub fn set_by_name(&self, dir: BorrowedFd, name: &[u8], last: &Final, symlink: bool, path: &[u8]) -> Result<()> {
        let caller = self.owners.comes_with(last.owned);
        if !caller {
            let (uid, gid) = (Uid::from_raw(last.owned.uid), Gid::from_raw(last.owned.gid));
            self.chowned(rustix::fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW), path)?;
        }
        // Through the directory's own descriptor: the last component is never followed.
        let by_proc = || [format!("/proc/self/fd/{}/", dir.as_raw_fd()).as_bytes(), name].concat();
        let set_mode = |mode| -> Result<()> {
            let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::CLOEXEC;
            let node = crate::retry_eintr::openat(dir, name, flags, Mode::empty()).with_context(|| shown(path))?;
            rustix::fs::chmod(format!("/proc/self/fd/{}", node.as_raw_fd()), Mode::from_raw_mode(mode))
                .with_context(|| format!("{}: set its mode", shown(path)))
        };
        if !symlink && !caller && last.mode & 0o6000 != 0 {
            set_mode(last.mode)?;
        }
        for (attribute, value) in &last.xattrs {
            let result = rustix::fs::lsetxattr(by_proc(), attribute.as_slice(), value, XattrFlags::empty());
            let set = self.attributed(result, attribute, dir, path)?;
            if !set && !symlink && attribute == ACL_ACCESS.as_bytes() && last.mode_without_acl != last.mode {
                set_mode(last.mode_without_acl)?;
            }
        }
        rustix::fs::utimensat(dir, name, &last.times, AtFlags::SYMLINK_NOFOLLOW)
            .with_context(|| format!("{}: set its times", shown(path)))
    }

    fn chowned(&self, result: rustix::io::Result<()>, path: &[u8]) -> Result<()> {
        match result {
            Err(Errno::PERM | Errno::INVAL) if self.owners.how != Owner::Keep => {
                self.ledger.note(Change::Owner, path);
                Ok(())
            }
            Err(error @ Errno::PERM) => {
                let error = Err(error).with_context(|| format!("{}: set its owner", shown(path)));
                chain::WithHint::hint(error, why_not_given(are_effective(CapabilitySet::CHOWN)))
            }
            result => result.with_context(|| format!("{}: set its owner", shown(path))),
        }
    }

    /// Whether it was set; `on` is the filesystem.
    fn attributed(&self, result: rustix::io::Result<()>, name: &[u8], on: BorrowedFd, path: &[u8]) -> Result<bool> {
        let acl = name == ACL_ACCESS.as_bytes() || name == ACL_DEFAULT.as_bytes();
        let left_out = match result {
            // Not this user, or a kind of attribute that the filesystem does not have; too long a name or value, or a
            // value that the kernel refuses: an ACL without a mask, a capability of no known version (setxattr(2)).
            Err(
                Errno::PERM
                | Errno::ACCESS
                | Errno::OPNOTSUPP
                | Errno::TOOBIG
                | Errno::RANGE
                | Errno::NAMETOOLONG
                | Errno::INVAL,
            ) => true,
            // ext4, btrfs and tmpfs say this of one attribute too many as well as of a full disk.
            Err(Errno::NOSPC) => {
                rustix::io::retry_on_intr(|| rustix::fs::fstatvfs(on)).is_ok_and(|filesystem| filesystem.f_bavail > 0)
            }
            _ => false,
        };
        if left_out {
            self.ledger.note(if acl { Change::Acl } else { Change::Xattr }, path);
            return Ok(false);
        }
        result.map(|()| true).with_context(|| format!("{}: set {}", shown(path), String::from_utf8_lossy(name)))
    }
}

/// Removes every extended attribute: the entry lists all that there should be.
pub fn clear_xattrs(fd: BorrowedFd) -> rustix::io::Result<()> {
    let mut names = vec![0; XATTR_LIST_MAX];
    let length = match rustix::fs::flistxattr(fd, &mut names[..]) {
        Err(Errno::OPNOTSUPP) => 0,
        result => result?,
    };
    for name in names[..length].split(|&b| b == 0).filter(|name| !name.is_empty()) {
        match rustix::fs::fremovexattr(fd, name) {
            // What a security module sets by itself stays.
            Ok(()) | Err(Errno::NODATA | Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
