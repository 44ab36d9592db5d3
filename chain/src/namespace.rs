//! The mount namespace that a chain works in: its own, and private, so that nothing it mounts or
//! unmounts is seen outside.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Error, Result};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::{Mode, fstat};
use nix::sys::wait::WaitStatus;
use nix::unistd::{ForkResult, chroot, fchdir, fork};

use crate::capabilities::{CapabilitySet, are_effective};
use crate::mounts;
use crate::retry_eintr::{open, waitpid};
use crate::{Carry, WithHint, hinted, leave, pidfd, why_no_new_namespace};

/// Tells mount namespaces apart without a /proc: the id of the mount of `/`, for every namespace has
/// its own copies of all mounts. (A chroot into another mount counts as another; that is no harm.)
pub fn mount_namespace_id() -> Option<u64> {
    mounts::lasting_id_of_root()
}

/// Whether an earlier link made this mount namespace.
pub fn in_own_mount_namespace(carry: &Carry) -> bool {
    carry.mount_namespace.is_some() && carry.mount_namespace == mount_namespace_id()
}

/// Enters a new mount namespace, unless an earlier link made this one. Nothing mounted in it is seen outside; whether
/// what is mounted outside appears in it is for the caller to say: MS_SLAVE or MS_PRIVATE.
pub fn own_mount_namespace(carry: &mut Carry, propagation: MsFlags) -> Result<()> {
    if in_own_mount_namespace(carry) {
        return Ok(());
    }
    unshare(CloneFlags::CLONE_NEWNS).map_err(not_made)?;
    // With shared propagation an unmount in here would be one out there (mount_namespaces(7)).
    match mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | propagation, None::<&str>) {
        Err(Errno::EINVAL) => {
            let refused =
                Err(Errno::EINVAL).context("make every mount private: / is not a mount point, so this is a chroot");
            //: make every mount private | mount MS_PRIVATE: EINVAL | / is not a mount point, as in a chroot | the only
            //: cause | pivot/refusals_mounts::where_there_is_no_new_mount_namespace_the_cause_is_named
            return refused
                .hint("start the chain outside the chroot, or make the chroot a mount first: mount --rbind DIR DIR");
        }
        result => result.context("make every mount private")?,
    }
    *carry =
        Carry { mount_namespace: mount_namespace_id(), host_tree: None, mounts: Vec::new(), ..std::mem::take(carry) };
    Ok(())
}

fn not_made(errno: Errno) -> Error {
    let hint = match errno {
        Errno::EPERM if are_effective(CapabilitySet::SYS_ADMIN) => {
            //: new mount namespace | unshare: EPERM | a filter or module, since the capability is there | capget |
            //: pivot/refusals_mounts::where_there_is_no_new_mount_namespace_the_cause_is_named
            Some("a seccomp filter or security module forbids new mount namespaces here".into())
        }
        //: new mount namespace | unshare: EPERM | no CAP_SYS_ADMIN | capget |
        //: pivot/refusals_mounts::where_there_is_no_new_mount_namespace_the_cause_is_named
        Errno::EPERM => Some("this needs root, or a user namespace: isolate --user --map-root -- …".into()),
        Errno::ENOSPC => why_no_new_namespace("mnt"),
        _ => None,
    };
    hinted(Error::new(errno).context("new mount namespace"), hint)
}

/// Whether `/` is the root of this mount namespace, and nothing is stacked on it. In a chroot it is
/// not, and no mount table tells: they all end at the process's root. Entering the namespace that
/// one is in already puts a process at the root of it (setns(2)), and that is compared. That takes
/// CAP_SYS_CHROOT, which podman and buildah leave out: without it, a child tries what no chroot may.
pub fn at_root_of_mount_namespace() -> Result<bool> {
    match by_entering_it_again() {
        Err(error) if error.downcast_ref() == Some(&Errno::EPERM) => by_a_user_namespace()
            .context("find out whether this is a chroot")
            //: find out whether this is a chroot | setns, then unshare: EPERM | no CAP_SYS_CHROOT, and no user
            //: namespace | both ways are tried | mountclean/proof::without_cap_sys_chroot_and_user_namespaces_it_says_so
            .hint("this takes CAP_SYS_CHROOT, or a kernel that allows user namespaces"),
        result => result,
    }
}

/// A user namespace is refused in a chroot, with EPERM and after every limit was looked at (`current_chrooted` in
/// Linux's create_user_ns). What else may refuse it leaves the question open.
fn by_a_user_namespace() -> Result<bool> {
    // SAFETY: the child makes one system call and exits, and this process has one thread.
    match unsafe { fork() }? {
        ForkResult::Child => leave(unshare(CloneFlags::CLONE_NEWUSER).map_or_else(|errno| errno as i32 as u8, |()| 0)),
        ForkResult::Parent { child } => match waitpid(child, None)? {
            WaitStatus::Exited(_, 0) => Ok(true),
            WaitStatus::Exited(_, errno) => Err(Errno::from_raw(errno).into()),
            _ => Err(Errno::ECHILD.into()),
        },
    }
}

fn by_entering_it_again() -> Result<bool> {
    let directory = |path: &str| open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty());
    let root = directory("/").context("/")?;
    let cwd = directory(".").context("the working directory")?;
    re_enter().context("enter our own mount namespace again")?;
    let same = same_directory(&root, &directory("/").context("/")?)?;
    if !same {
        fchdir(&root).and_then(|()| chroot(".")).context("go back to the root that we had")?;
    }
    fchdir(&cwd).context("go back to the working directory")?;
    Ok(same)
}

fn re_enter() -> Result<()> {
    // A pidfd needs no /proc; setns takes one since Linux 5.8.
    let by_pidfd = pidfd::own().and_then(|pidfd| setns(pidfd, CloneFlags::CLONE_NEWNS));
    if let Err(Errno::EINVAL | Errno::ENOSYS) = by_pidfd {
        let namespace = OwnedFd::from(File::open("/proc/self/ns/mnt").context("/proc/self/ns/mnt")?);
        return Ok(setns(namespace, CloneFlags::CLONE_NEWNS)?);
    }
    Ok(by_pidfd?)
}

fn same_directory(one: impl AsFd, other: impl AsFd) -> Result<bool> {
    Ok(identity(one.as_fd())? == identity(other.as_fd())?)
}

fn identity(directory: BorrowedFd) -> Result<(u64, u64, u64)> {
    let stat = fstat(directory)?;
    Ok((stat.st_dev, stat.st_ino, mounts::id_of(directory)?))
}
