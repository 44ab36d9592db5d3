//! Why pivot_root failed: EINVAL and EBUSY have several causes each (pivot_root(2)), told apart here.

use std::os::fd::OwnedFd;

use anyhow::{Error, anyhow};
use chain::retry_eintr::{open, statfs};
use chain::{Hint, mountinfo, mounts};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::sys::statfs::FsType;

const RAMFS_MAGIC: FsType = FsType(0x8584_58f6);
const TMPFS_MAGIC: FsType = FsType(0x0102_1994);

pub fn of_pivot_root(errno: Errno, tree: &OwnedFd) -> Error {
    let (what, hint) = match errno {
        Errno::EINVAL => invalid(tree),
        Errno::EBUSY => busy(tree),
        Errno::ENOENT if !is_mounted(tree) => GONE,
        Errno::EPERM => NO_ADMIN,
        _ => return Error::new(errno).context("pivot_root"),
    };
    anyhow!("pivot_root: {}: {what}", errno.desc()).context(Hint(hint.into()))
}

const NO_ADMIN: (&str, &str) = (
    "no CAP_SYS_ADMIN over the mount namespace",
    "this needs root, or a user namespace: isolate --user --map-root -- …",
);

/// On an open directory, open_tree(2) with OPEN_TREE_CLONE and mount(2) have one cause for EPERM.
pub fn of_bind(errno: Errno) -> Error {
    let error = Error::new(errno);
    match errno {
        Errno::EPERM => error.context(NO_ADMIN.0).context(Hint(NO_ADMIN.1.into())),
        _ => error,
    }
}

const GONE: (&str, &str) =
    ("ROOT's mount is gone", "ROOT was unmounted or removed while pivot worked on it; start again");

fn is_mounted(tree: &OwnedFd) -> bool {
    let id = mounts::id_of(tree).ok();
    mounts::table().is_ok_and(|table| table.iter().any(|mount| Some(mount.id) == id))
}

fn invalid(tree: &OwnedFd) -> (&'static str, &'static str) {
    let looked = (|| {
        let root = open("/", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
        anyhow::Ok((mounts::is_mount_root(&root)?, is_mounted(tree)))
    })();
    match looked {
        Ok((false, _)) => ("/ is not a mount point: this is a chroot", "start the chain outside the chroot"),
        Ok((true, false)) => GONE,
        _ if is_rootfs() => (
            "/ is an initramfs, which cannot be pivoted",
            "leave out what keeps pivot from its fallback, or switch_root to a real root first",
        ),
        _ if shared() => {
            ("a mount involved is shared with other namespaces", "make it private: mount --make-rprivate /")
        }
        _ => ("none of its documented causes holds", "please report this, with the output of findmnt -o +PROPAGATION"),
    }
}

fn busy(tree: &OwnedFd) -> (&'static str, &'static str) {
    let same = mounts::id_of(tree).ok().zip(mounts::id_at("/").ok()).is_some_and(|(new, old)| new == old);
    if same {
        ("ROOT's mount is / already", "another process pivoted in this mount namespace meanwhile; start again")
    } else {
        ("ROOT or / is in use by the pivot", "start again")
    }
}

/// Whether the current root is the kernel's first filesystem: it has no parent mount to go to.
pub fn is_rootfs() -> bool {
    let in_memory = statfs("/").is_ok_and(|fs| [RAMFS_MAGIC, TMPFS_MAGIC].contains(&fs.filesystem_type()));
    in_memory
        && mounts::id_at("/").is_ok_and(|id| {
            mounts::table().is_ok_and(|table| table.iter().any(|mount| mount.id == id && mount.parent == id))
        })
}

/// Whether the mount of `/` or the one above it passes mounts on to others (mountinfo's `shared:`).
fn shared() -> bool {
    mountinfo::read().is_ok_and(|table| table.iter().any(|mount| mount.is_shared))
}
