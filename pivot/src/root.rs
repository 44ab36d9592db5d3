//! ROOT as a mount of its own, attached where it lies so that pivot_root can take it.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, anyhow, ensure};
use chain::{Hint, WithHint, mounts, open_inside, sys};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::libc::{AT_RECURSIVE, MOUNT_ATTR_RDONLY};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, fstat};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{chdir, fchdir};
use rustix::fs::OFlags;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

/// A copy of the mount that ROOT is on, from ROOT down, on top of ROOT: the new root mount.
pub fn bind(root: &Path) -> Result<OwnedFd> {
    let source = directory(root)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_EMPTY_PATH;
    match open_tree(&source, "", flags) {
        Ok(tree) => {
            let both = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
            move_mount(&tree, "", &source, "", both)?;
            Ok(tree)
        }
        Err(rustix::io::Errno::NOSYS) => bind_by_path(root, &source),
        Err(errno) => Err(errno.into()),
    }
}

/// Before Linux 5.2. The path is resolved again, so what it leads to is compared.
fn bind_by_path(root: &Path, source: &OwnedFd) -> Result<OwnedFd> {
    mount(Some(root), root, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)?;
    // What is stacked on the root itself is found above it.
    let here = if root.canonicalize()? == Path::new("/") { Path::new("/..") } else { root };
    let bound = directory(here)?;
    let inode = |fd: &OwnedFd| fstat(fd).map(|stat| (stat.st_dev, stat.st_ino));
    ensure!(inode(&bound)? == inode(source)?, "{}: was replaced meanwhile", root.display());
    Ok(bound)
}

fn directory(root: &Path) -> Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open(root, flags, Mode::empty()).map_err(|errno| {
        let error = Error::new(errno).context(root.display().to_string());
        match errno {
            Errno::ENOENT => error.context(Hint(format!("make it first: unpack IMAGE {}", root.display()))),
            Errno::ENOTDIR if root.is_file() => error.context(Hint(format!(
                "an image becomes a directory with unpack: unpack {} ./root -- pivot ./root",
                root.display()
            ))),
            _ => error,
        }
    })
}

/// Makes the root mount and every mount below it read-only.
pub fn make_read_only(tree: &OwnedFd) -> Result<()> {
    match sys::mount_setattr(tree, AT_RECURSIVE, MOUNT_ATTR_RDONLY, 0) {
        // Linux 5.12.
        Err(Errno::ENOSYS) => remount_each(tree),
        result => Ok(result?),
    }
}

fn remount_each(tree: &OwnedFd) -> Result<()> {
    let root = mounts::id_of(tree)?;
    let table = mounts::table()?;
    let mut below = vec![root];
    let mut next = 0;
    while let Some(&id) = below.get(next) {
        below.extend(table.iter().filter(|mount| mount.parent == id && mount.id != id).map(|mount| mount.id));
        next += 1;
    }
    for point in table.iter().filter(|mount| below.contains(&mount.id)).map(|mount| &mount.point) {
        // A remount sets every flag anew, and those of another user namespace's mount are locked.
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | flags_of(point)?;
        mount(None::<&str>, point, None::<&str>, flags, None::<&str>)
            .with_context(|| format!("{}: read-only", point.display()))?;
    }
    Ok(())
}

fn flags_of(point: &PathBuf) -> Result<MsFlags> {
    let held = statvfs(point)?.flags();
    let pairs = [
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
        (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
        (FsFlags::ST_RELATIME, MsFlags::MS_RELATIME),
    ];
    Ok(pairs.into_iter().filter(|(has, _)| held.contains(*has)).map(|(_, flag)| flag).collect())
}

/// The working directory is the new root mount's, and the host's tree ends up stacked on it.
pub fn pivot() -> Result<()> {
    nix::unistd::pivot_root(".", ".").context("pivot_root")
}

/// Takes the tree off that pivot_root stacked on `/`.
pub fn detach_host() -> Result<()> {
    umount2(".", MntFlags::MNT_DETACH).context("detach the host's tree")
}

/// Moves the stacked tree to a directory of the new root.
pub fn put_old(dir: &Path) -> Result<()> {
    let root = open("/", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let target = open_inside(&root, dir, OFlags::PATH | OFlags::DIRECTORY)
        .with_context(|| format!("{}: in the root", dir.display()))
        .hint("--put-old names a directory that is there in ROOT")?;
    let host = directory(Path::new("/.."))?;
    let both = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    match move_mount(&host, "", &target, "", both) {
        Err(rustix::io::Errno::NOSYS) => {
            fchdir(&target)?;
            mount(Some("/.."), ".", None::<&str>, MsFlags::MS_MOVE, None::<&str>)?;
            chdir("/")?;
        }
        result => result.with_context(|| format!("move the host's tree to {}", dir.display()))?,
    }
    Ok(())
}

/// Enters a directory of the root; `..` in it may still lead to a stacked host, so the kernel
/// resolves it inside.
pub fn enter(dir: &Path) -> Result<()> {
    let root = open("/", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let target = open_inside(root.as_fd(), dir, OFlags::PATH | OFlags::DIRECTORY)
        .with_context(|| format!("{}: in the root", dir.display()))?;
    fchdir(&target).with_context(|| dir.display().to_string())
}

pub fn enter_tree(tree: &OwnedFd) -> Result<()> {
    fchdir(tree).map_err(|errno| match errno {
        Errno::EACCES => anyhow!("no execute permission on the directory"),
        errno => errno.into(),
    })
}
