//! Why pivot_root or a bind failed: one errno has several causes (pivot_root(2), mount(2)), told apart here.

use std::os::fd::OwnedFd;

use anyhow::{Error, anyhow};
use chain::capabilities::{CapabilitySet, are_effective};
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
    //: ROOT, --bind SRC; pivot_root | open_tree, pivot_root: EPERM | no CAP_SYS_ADMIN over the mount namespace | capget,
    //: or the only cause | pivot/refusals::why_the_kernel_refuses_to_pivot_is_found_by_looking
    "this needs root, or a user namespace: isolate --user --map-root -- …",
);

/// What open_tree(2) with OPEN_TREE_CLONE, or mount(2) with MS_BIND, says of a source. (That it cannot be bound is none of
/// the causes: in the chain's own namespace every mount is private.)
pub fn of_bind(errno: Errno, source: &OwnedFd) -> Error {
    let error = Error::new(errno);
    match errno {
        Errno::EPERM if !are_effective(CapabilitySet::SYS_ADMIN) => {
            error.context(NO_ADMIN.0).context(Hint(NO_ADMIN.1.into()))
        }
        Errno::EINVAL if !is_mounted(source) => {
            //: ROOT, --bind SRC | open_tree, mount MS_BIND: EINVAL | it is in another mount namespace, as below /proc/PID/root |
            //: its mount is not in the table | pivot/refusals_mounts::a_source_in_another_mount_namespace_is_named
            error.context(Hint("it is in another mount namespace: name it by a path of this one".into()))
        }
        _ => error,
    }
}

const GONE: (&str, &str) = (
    "ROOT's mount is gone",
    //: pivot_root | pivot_root: ENOENT, EINVAL | ROOT's mount is gone | the table of mounts |
    //: pivot/refusals::why_the_kernel_refuses_to_pivot_is_found_by_looking
    "ROOT was unmounted or removed while pivot worked on it; start again",
);

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
        Ok((false, _)) => (
            "/ is not a mount point: this is a chroot",
            //: pivot_root | pivot_root: EINVAL | / is not a mount point: this is a chroot | statx of / |
            //: pivot/refusals::a_chroot_that_is_no_mount_is_told_from_other_causes
            "start the chain outside the chroot",
        ),
        Ok((true, false)) => GONE,
        _ if is_rootfs() => (
            "/ is an initramfs, which cannot be pivoted",
            //: pivot_root | pivot_root: EINVAL | / is an initramfs | statfs, and its mount has no parent |
            //: scripts/test-initramfs
            "leave out what keeps pivot from its fallback, or switch_root to a real root first",
        ),
        _ if shared() => (
            "a mount involved is shared with other namespaces",
            //: pivot_root | pivot_root: EINVAL | a mount is shared with other namespaces | mountinfo |
            //: pivot/refusals::why_the_kernel_refuses_to_pivot_is_found_by_looking
            "make it private: mount --make-rprivate /",
        ),
        _ => (
            "none of its documented causes holds",
            //: pivot_root | pivot_root: EINVAL | none of these | all of them are looked for |
            //: pivot/refusals::what_the_kernel_says_of_the_pivot_is_explained
            "please report this, with the output of findmnt -o +PROPAGATION",
        ),
    }
}

fn busy(tree: &OwnedFd) -> (&'static str, &'static str) {
    let same = mounts::id_of(tree).ok().zip(mounts::id_at("/").ok()).is_some_and(|(new, old)| new == old);
    if same {
        (
            "ROOT's mount is / already",
            //: pivot_root | pivot_root: EBUSY | ROOT's mount is / already | both ids |
            //: pivot/refusals::why_the_kernel_refuses_to_pivot_is_found_by_looking
            "another process pivoted in this mount namespace meanwhile; start again",
        )
    } else {
        (
            "ROOT or / is in use by the pivot",
            //: pivot_root | pivot_root: EBUSY | another pivot works on the same mounts | the ids differ |
            //: pivot/refusals::what_the_kernel_says_of_the_pivot_is_explained
            "start again",
        )
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
