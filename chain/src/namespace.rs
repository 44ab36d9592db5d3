//! The mount namespace that a chain works in: its own, and private, so that nothing it mounts or
//! unmounts is seen outside.

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::stat;
use nix::sys::statfs::{FsType, statfs};

use crate::{Carry, WithHint};

const NSFS_MAGIC: FsType = FsType(0x6e73_6673);

/// The inode of this process's mount namespace (namespaces(7)), looked up in the /proc that is
/// mounted or, between pivot_root and the detach, in the host's.
pub fn mount_namespace_id() -> Option<u64> {
    ["/proc/self/ns/mnt", "/../proc/self/ns/mnt"].into_iter().find_map(|path| {
        // An image may ship a file of this name; only the kernel's is on nsfs.
        let real = statfs(path).is_ok_and(|fs| fs.filesystem_type() == NSFS_MAGIC);
        real.then(|| stat(path).ok()).flatten().map(|file| file.st_ino)
    })
}

/// Enters a mount namespace of the chain's own, unless a link before us made the one we are in.
pub fn own_mount_namespace(carry: &mut Carry) -> Result<()> {
    let current = mount_namespace_id();
    if current.is_some() && current == carry.mount_namespace {
        return Ok(());
    }
    match unshare(CloneFlags::CLONE_NEWNS) {
        Err(Errno::EPERM) => {
            return Err(Errno::EPERM)
                .context("new mount namespace")
                .hint("this needs root, or a user namespace: isolate --user --map-root -- …");
        }
        result => result.context("new mount namespace")?,
    }
    // With shared propagation an unmount in here would be one out there (mount_namespaces(7)).
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .context("make every mount private")?;
    *carry =
        Carry { mount_namespace: mount_namespace_id(), host_tree: None, mounts: Vec::new(), ..std::mem::take(carry) };
    Ok(())
}
