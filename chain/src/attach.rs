//! Mounts made where a descriptor says: with the mount API of Linux 5.2, which attaches a finished
//! mount to a directory that is already open, so that no path is resolved twice; with mount(2) and
//! /proc/self/fd where the kernel, or a seccomp filter, does not have it.

mod mount_api;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, anyhow};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::sys::statvfs::{FsFlags, fstatvfs};
use nix::unistd::fchdir;

use crate::retry_eintr::{open, openat};
use crate::{Hint, WithHint, file_kind, mounts, open_inside, sys};

use mount_api::option;
pub use mount_api::{attach, copy, copy_alone, copy_at, unattached};

/// Attributes of a mount, as MOUNT_ATTR_* in mount_setattr(2).
pub use nix::libc::{
    MOUNT_ATTR_NODEV as NODEV, MOUNT_ATTR_NOEXEC as NOEXEC, MOUNT_ATTR_NOSUID as NOSUID, MOUNT_ATTR_RDONLY as READ_ONLY,
};
/// No attribute of the kernel's, whose bits end at 32: what is mounted elsewhere from now on does not appear here. For
/// copies of mounts that receive it (mount_namespaces(7), MS_SLAVE).
pub const PRIVATE: u64 = 1 << 63;

/// How the descriptor's mount keeps access times, as attributes. In a user namespace a new proc or sysfs must keep them
/// as the existing one does (MNT_LOCK_ATIME in Linux's mnt_already_visible).
pub fn atime_of(there: Option<&OwnedFd>) -> u64 {
    let Some(there) = there.and_then(|there| fstatvfs(there).ok()) else { return libc::MOUNT_ATTR_RELATIME };
    let flags = there.flags();
    let directories = if flags.contains(FsFlags::ST_NODIRATIME) { libc::MOUNT_ATTR_NODIRATIME } else { 0 };
    directories
        | match (flags.contains(FsFlags::ST_NOATIME), flags.contains(FsFlags::ST_RELATIME)) {
            (true, _) => libc::MOUNT_ATTR_NOATIME,
            (_, true) => libc::MOUNT_ATTR_RELATIME,
            _ => libc::MOUNT_ATTR_STRICTATIME,
        }
}

/// A place to mount on: a path as a process with this root would resolve it.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    pub root: BorrowedFd<'a>,
    pub path: &'a Path,
}

impl Place<'_> {
    pub fn open(&self) -> Result<OwnedFd> {
        open_inside(self.root, self.path, OFlag::O_PATH)
    }

    pub fn open_if_there(&self) -> Result<Option<OwnedFd>> {
        match self.open() {
            Err(error) if matches!(error.downcast_ref(), Some(Errno::ENOENT | Errno::ENOTDIR)) => Ok(None),
            there => there.map(Some),
        }
    }
}

/// Mounts what is at `source`, with everything mounted below it, at `place`. The attributes apply to all of it.
/// Returns a descriptor on the new mount.
pub fn bind(source: impl AsFd, place: Place, attributes: u64) -> Result<OwnedFd> {
    bind_copy(source.as_fd(), copy(&source), place, attributes, MsFlags::MS_REC)
}

/// The same without what is mounted below it.
pub fn bind_alone(source: impl AsFd, place: Place, attributes: u64) -> Result<OwnedFd> {
    bind_copy(source.as_fd(), copy_alone(&source), place, attributes, MsFlags::empty())
}

/// `deep` is the old call's way to say what the copy holds.
fn bind_copy(
    source: BorrowedFd,
    tree: Result<OwnedFd, Errno>,
    place: Place,
    attributes: u64,
    deep: MsFlags,
) -> Result<OwnedFd> {
    let set_now = match &tree {
        Ok(tree) => attributes == 0 || set_unattached(tree, attributes)?,
        Err(_) => false,
    };
    let attached = match tree {
        Ok(tree) => attach(&tree, place.open()?).map(|()| tree),
        Err(errno) => Err(errno),
    };
    match attached {
        Ok(tree) => {
            if !set_now {
                remount_each(tree.as_fd(), attributes)?;
            }
            Ok(tree)
        }
        Err(Errno::ENOSYS) => bind_by_path(source, place, attributes, deep),
        Err(errno) => Err(why_not_attached(errno)),
    }
}

/// As [`bind`], by mount(2), which copies and attaches in one: what is mounted at the source from then on arrives as
/// well, if the source's mounts receive it. A copy that is not attached yet misses it (Linux's propagate_one).
pub fn bind_receiving(source: impl AsFd, place: Place, attributes: u64) -> Result<OwnedFd> {
    bind_by_path(source.as_fd(), place, attributes, MsFlags::MS_REC)
}

/// The same without what is mounted below the source already.
pub fn bind_alone_receiving(source: impl AsFd, place: Place, attributes: u64) -> Result<OwnedFd> {
    bind_by_path(source.as_fd(), place, attributes, MsFlags::empty())
}

fn bind_by_path(source: BorrowedFd, place: Place, attributes: u64, deep: MsFlags) -> Result<OwnedFd> {
    let flags = MsFlags::MS_BIND | deep;
    mount(Some(&by_number(source)), &by_number(&place.open()?), None::<&str>, flags, None::<&str>)?;
    let made = reopened(place)?;
    let inode = |fd: BorrowedFd| fstat(fd).map(|stat| (stat.st_dev, stat.st_ino));
    if inode(made.as_fd())? != inode(source)? {
        return Err(anyhow!("the place was moved meanwhile"));
    }
    set(&made, attributes)?;
    Ok(made)
}

/// A new filesystem, mounted at `place`. The options are as mount(8) has them after -o.
pub fn filesystem(kind: &str, options: &[(&str, Option<&str>)], attributes: u64, place: Place) -> Result<OwnedFd> {
    let attached = unattached(kind, options, attributes).and_then(|made| {
        attach(&made, place.open()?).map_err(why_not_attached)?;
        Ok(made)
    });
    match attached {
        Ok(made) => Ok(made),
        Err(error) if error.downcast_ref() == Some(&Errno::ENOSYS) => {
            filesystem_by_old_call(kind, options, attributes, place)
        }
        Err(error) => Err(error),
    }
}

/// What mount(2) takes of options.
const PAGE: usize = 4096;

/// The same by mount(2).
pub fn filesystem_by_old_call(
    kind: &str,
    options: &[(&str, Option<&str>)],
    attributes: u64,
    place: Place,
) -> Result<OwnedFd> {
    let options: Vec<String> = options.iter().map(|(key, value)| option(key, *value)).collect();
    let (flags, options) = (old_flags(attributes), options.join(","));
    if options.len() >= PAGE {
        // The kernel would cut them off and say nothing (copy_mount_options in Linux).
        return Err(Errno::E2BIG.into());
    }
    let target = place.open()?;
    match mount_on(&target, |path| mount(Some(kind), path, Some(kind), flags, Some(options.as_str()))) {
        // The old call does not stack a filesystem on itself; a move does (Linux's do_add_mount).
        Err(Errno::EBUSY) => {
            mount(Some(kind), "/", Some(kind), flags, Some(options.as_str()))?;
            mount_on(&target, |path| mount(Some("/.."), path, None::<&str>, MsFlags::MS_MOVE, None::<&str>))?;
        }
        mounted => mounted?,
    }
    reopened(place)
}

/// ENOSPC where a mount is attached: the namespace has as many as fs.mount-max allows (count_mounts in Linux).
pub fn why_not_attached(errno: Errno) -> Error {
    let error = Error::new(errno);
    let most = || std::fs::read_to_string("/proc/sys/fs/mount-max").ok()?.trim().parse::<usize>().ok();
    match (errno, most(), mounts::table().map(|table| table.len())) {
        (Errno::ENOSPC, Some(most), Ok(there)) => error.context(Hint(format!(
            //: a mount | move_mount: ENOSPC | the mount namespace would have more than fs.mount-max | the mounts are
            //: counted | pivot/refusals_mounts::a_full_mount_namespace_is_named
            "fs.mount-max is {most}, and this mount namespace has {there}: unmount some, or raise it with sysctl"
        ))),
        _ => error,
    }
}

/// Adds attributes to a mount and to every mount below it.
pub fn set(tree: impl AsFd, attributes: u64) -> Result<()> {
    if attributes != 0 && !set_unattached(&tree, attributes)? {
        remount_each(tree.as_fd(), attributes)?;
    }
    Ok(())
}

/// Adds attributes to a mount, and to none below it.
pub fn set_alone(mounted: &OwnedFd, attributes: u64) -> Result<()> {
    if !set_unattached_alone(mounted, attributes)? {
        remount(mounted, attributes)?;
    }
    Ok(())
}

/// The same for mounts that may still be detached. False: the kernel cannot (before Linux 5.12).
pub fn set_unattached(tree: impl AsFd, attributes: u64) -> Result<bool> {
    set_by_call(tree, libc::AT_RECURSIVE, attributes)
}

/// The same, and none below it.
pub fn set_unattached_alone(mounted: impl AsFd, attributes: u64) -> Result<bool> {
    set_by_call(mounted, 0, attributes)
}

fn set_by_call(mounted: impl AsFd, flags: libc::c_int, attributes: u64) -> Result<bool> {
    let propagation = if attributes & PRIVATE == 0 { 0 } else { libc::MS_PRIVATE };
    let attributes = libc::mount_attr { attr_set: attributes & !PRIVATE, attr_clr: 0, propagation, userns_fd: 0 };
    let set = sys::mount_setattr(mounted, flags, &attributes);
    match set.map_err(|errno| sys::if_filtered(errno, libc::SYS_mount_setattr)) {
        Err(Errno::ENOSYS) => Ok(false),
        result => Ok(result.map(|()| true)?),
    }
}

/// Shows the owners of a copy that is not attached yet as a user namespace maps them (Linux 5.12).
pub fn map_owners(tree: impl AsFd, recursive: bool, namespace: impl AsFd) -> Result<(), Errno> {
    let userns_fd = namespace.as_fd().as_raw_fd() as u64;
    let attributes = libc::mount_attr { attr_set: libc::MOUNT_ATTR_IDMAP, attr_clr: 0, propagation: 0, userns_fd };
    sys::mount_setattr(tree, if recursive { libc::AT_RECURSIVE } else { 0 }, &attributes)
}

fn remount_each(tree: BorrowedFd, attributes: u64) -> Result<()> {
    let root = mounts::id_of(tree)?;
    for mounted in mounts::below(&[root], &mounts::table()?) {
        let point = &mounted.point;
        let fd = if mounted.id == root {
            tree.try_clone_to_owned()?
        } else {
            open(point, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?
        };
        if mounts::id_of(&fd)? != mounted.id {
            return Err(anyhow!("{}: hidden below another mount", point.display()))
                .hint("on Linux before 5.12 each mount is changed by its path: unmount what hides it");
        }
        remount(&fd, attributes).with_context(|| point.display().to_string())?;
    }
    Ok(())
}

/// A remount replaces all flags, and those of a more privileged namespace's mount are locked.
fn remount(mounted: &OwnedFd, attributes: u64) -> Result<()> {
    if attributes & PRIVATE != 0 {
        mount_on(mounted, |path| mount(None::<&str>, path, None::<&str>, MsFlags::MS_PRIVATE, None::<&str>))?;
    }
    if attributes & !PRIVATE == 0 {
        return Ok(());
    }
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | old_flags(attributes) | held_flags(mounted)?;
    Ok(mount_on(mounted, |path| mount(None::<&str>, path, None::<&str>, flags, None::<&str>))?)
}

/// The same in the old call's flags (mount(2)).
pub fn old_flags(attributes: u64) -> MsFlags {
    let pairs = [
        (READ_ONLY, MsFlags::MS_RDONLY),
        (NOSUID, MsFlags::MS_NOSUID),
        (NODEV, MsFlags::MS_NODEV),
        (NOEXEC, MsFlags::MS_NOEXEC),
        (libc::MOUNT_ATTR_NOATIME, MsFlags::MS_NOATIME),
        (libc::MOUNT_ATTR_STRICTATIME, MsFlags::MS_STRICTATIME),
        (libc::MOUNT_ATTR_NODIRATIME, MsFlags::MS_NODIRATIME),
    ];
    pairs.into_iter().filter(|(bit, _)| attributes & bit != 0).map(|(_, flag)| flag).collect()
}

fn held_flags(mounted: &OwnedFd) -> Result<MsFlags> {
    let held = fstatvfs(mounted)?.flags();
    let pairs = [
        (FsFlags::ST_RDONLY, MsFlags::MS_RDONLY),
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
        (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
        (FsFlags::ST_RELATIME, MsFlags::MS_RELATIME),
    ];
    let kept: MsFlags = pairs.into_iter().filter(|(has, _)| held.contains(*has)).map(|(_, flag)| flag).collect();
    // Without a word on files the kernel takes nodiratime to go with relatime, and that may be locked (path_mount in Linux).
    let strict = kept.contains(MsFlags::MS_NODIRATIME) && !kept.intersects(MsFlags::MS_NOATIME | MsFlags::MS_RELATIME);
    Ok(if strict { kept | MsFlags::MS_STRICTATIME } else { kept })
}

/// Lets a call that takes a path work on an open target. A directory becomes the working directory for the moment, since
/// there may be no /proc; anything else goes by its number.
fn mount_on(target: &OwnedFd, call: impl FnOnce(&Path) -> Result<(), Errno>) -> Result<(), Errno> {
    if file_kind(target)? != SFlag::S_IFDIR {
        return call(&by_number(target));
    }
    let cwd = open(".", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    fchdir(target)?;
    let called = call(Path::new("."));
    fchdir(&cwd)?;
    called
}

/// For calls that take only paths: leads to what the descriptor is open on and nowhere else.
pub fn by_number(fd: impl AsFd) -> PathBuf {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()).into()
}

/// The name of what is open (proc_pid_fd(5)).
pub fn path_of(fd: impl AsFd) -> std::io::Result<PathBuf> {
    std::fs::read_link(by_number(fd))
}

/// What is mounted at a place now. A descriptor from before the mount does not see it.
fn reopened(place: Place) -> Result<OwnedFd> {
    let mut made = place.open()?;
    let same = |fd: BorrowedFd| -> Result<_> { Ok((mounts::id_of(fd)?, fstat(fd)?.st_ino)) };
    if same(made.as_fd())? == same(place.root)? {
        // What is stacked on the root directory itself is found above it.
        made = openat(&made, "..", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    }
    if !mounts::is_mount_root(&made)? {
        return Err(anyhow!("the place was moved meanwhile")).hint("let nothing change ROOT while it is being set up");
    }
    Ok(made)
}
