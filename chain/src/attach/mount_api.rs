//! The calls of the mount API of Linux 5.2 (fsopen(2), open_tree(2), move_mount(2)), which nix does not have. Where a
//! seccomp filter refuses one in the kernel's place, the errno is ENOSYS.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Error, Result};
use nix::errno::Errno;
use nix::libc;
use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use crate::sys;

/// A detached copy of the mount tree from `source` down. In a user namespace only a whole tree can be copied: a part
/// would show what its mounts hide.
pub fn copy(source: impl AsFd) -> Result<OwnedFd, Errno> {
    copy_of(source, OpenTreeFlags::AT_RECURSIVE)
}

/// The same without what is mounted below it.
pub fn copy_alone(source: impl AsFd) -> Result<OwnedFd, Errno> {
    copy_of(source, OpenTreeFlags::empty())
}

fn copy_of(source: impl AsFd, depth: OpenTreeFlags) -> Result<OwnedFd, Errno> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    open_tree(source, "", flags | depth).map_err(refused_by(libc::SYS_open_tree))
}

/// The mount at `path`, detached, without what is mounted below it.
pub fn copy_at(path: &Path) -> Result<OwnedFd, Errno> {
    open_tree(CWD, path, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC).map_err(sys::errno)
}

/// A new filesystem, not attached yet.
pub fn unattached(kind: &str, options: &[(&str, Option<&str>)], attributes: u64) -> Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).map_err(refused_by(libc::SYS_fsopen))?;
    let set = |key: &str, value: Option<&str>| match value {
        Some(value) => fsconfig_set_string(&context, key, value),
        None => fsconfig_set_flag(&context, key),
    };
    set("source", Some(kind)).map_err(refused_by(libc::SYS_fsconfig))?;
    for (key, value) in options {
        set(key, *value).map_err(|errno| said(&context, sys::errno(errno)).context(option(key, *value)))?;
    }
    fsconfig_create(&context).map_err(|errno| said(&context, sys::errno(errno)))?;
    let attributes = MountAttrFlags::from_bits_retain(attributes as u32);
    let made = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes);
    Ok(made.map_err(refused_by(libc::SYS_fsmount))?)
}

/// As mount(8) has it behind -o.
pub(super) fn option(key: &str, value: Option<&str>) -> String {
    value.map_or(key.to_owned(), |value| format!("{key}={value}"))
}

/// The context holds the kernel's own message (fsopen(2)).
fn said(context: &OwnedFd, errno: Errno) -> Error {
    let mut buffer = [0; 1024];
    let said = rustix::io::read(context, &mut buffer).map(|length| String::from_utf8_lossy(&buffer[..length]));
    match said {
        Ok(text) if text.starts_with("e ") => Error::new(errno).context(text[2..].trim_end().to_owned()),
        _ => errno.into(),
    }
}

pub fn attach(mount: impl AsFd, target: impl AsFd) -> Result<(), Errno> {
    let both = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", target, "", both).map_err(refused_by(libc::SYS_move_mount))
}

/// What the kernel, or a filter in its place, says of a call.
fn refused_by(call: libc::c_long) -> impl Fn(rustix::io::Errno) -> Errno {
    move |errno| sys::if_filtered(sys::errno(errno), call)
}
