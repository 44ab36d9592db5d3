//! The fresh /proc.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Error, Result, anyhow};
use chain::{WithHint, mounts};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::Mode;
use nix::unistd::{fchdir, mkdir};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen, move_mount,
};

use crate::owner;
use crate::step::State;

/// As every distribution mounts it (proc(5)).
const ATTRIBUTES: MountAttrFlags =
    MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NODEV).union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

pub fn mount_fresh(options: &[String], state: &mut State) -> Result<()> {
    let point = point()?;
    let proc = match made(options) {
        Ok(proc) => {
            attach(&proc, &point)?;
            proc
        }
        Err(Errno::ENOSYS) => by_old_call(options, &point)?,
        Err(errno) => return Err(refused(errno, options)),
    };
    state.own.push(mounts::id_of(&proc)?);
    state.proc = Some(proc);
    Ok(())
}

/// The directory /proc, which no link of the image's redirects.
pub fn point() -> Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let open_it = || open("/proc", flags, Mode::empty());
    match open_it() {
        Err(Errno::ENOENT) => {
            mkdir("/proc", Mode::from_bits_truncate(0o555)).context("/proc: not in the root, and cannot be made")?;
            open_it().context("/proc")
        }
        Err(Errno::ENOTDIR | Errno::ELOOP) => {
            Err(anyhow!("/proc: not a directory")).hint("the root needs a directory /proc of its own, not a link")
        }
        result => result.context("/proc"),
    }
}

fn made(options: &[String]) -> Result<OwnedFd, Errno> {
    let errno = |errno: rustix::io::Errno| Errno::from_raw(errno.raw_os_error());
    let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC).map_err(errno)?;
    fsconfig_set_string(&context, "source", "proc").map_err(errno)?;
    for option in options {
        match option.split_once('=') {
            Some((key, value)) => fsconfig_set_string(&context, key, value),
            None => fsconfig_set_flag(&context, option.as_str()),
        }
        .map_err(errno)?;
    }
    fsconfig_create(&context).map_err(errno)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, ATTRIBUTES).map_err(errno)
}

pub fn attach(proc: &OwnedFd, point: impl AsFd) -> Result<()> {
    let both = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(proc, "", point, "", both).context("attach")
}

/// Before Linux 5.2.
fn by_old_call(options: &[String], point: &OwnedFd) -> Result<OwnedFd> {
    let path = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let cwd = open(".", path, Mode::empty())?;
    fchdir(point)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let mounted = mount(Some("proc"), ".", Some("proc"), flags, Some(options.join(",").as_str()));
    fchdir(&cwd)?;
    mounted.map_err(|errno| refused(errno, options))?;
    Ok(open(Path::new("/proc"), path | OFlag::O_NOFOLLOW, Mode::empty())?)
}

/// Tells the kernel's reasons apart.
fn refused(errno: Errno, options: &[String]) -> Error {
    let error = Error::new(errno);
    let hint = |text: &str| Err::<(), _>(anyhow!("{}", errno.desc())).hint(text).unwrap_err();
    match errno {
        Errno::EPERM if !owner::pid_namespace_is_ours() => {
            hint("in a user namespace /proc needs a pid namespace of its own: isolate --user --map-root --pid -- …")
        }
        Errno::EPERM => hint(
            "in a user namespace the kernel allows a new proc only where one is mounted already, with nothing over \
             any part of it: let mountclean follow pivot directly",
        ),
        Errno::EINVAL if !options.is_empty() => hint("the kernel knows hidepid=0|1|2|4, gid=GID and (5.8) subset=pid"),
        _ => error,
    }
}
