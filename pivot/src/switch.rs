//! The switch: the root's mount becomes `/`, and what becomes of the host's tree.

use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use chain::retry_eintr::open;
use chain::{HostTree, Tool, WithHint, at_root_of_mount_namespace, attach, mounts, open_inside, warn};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;
use nix::unistd::{chdir, fchdir, pivot_root};

use crate::place::{self, Kind};
use crate::tree::{Tree, Wanted};
use crate::{initramfs, why_failed};

const DIRECTORY: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

pub fn enter(tree: &OwnedFd) -> Result<()> {
    match fchdir(tree) {
        Err(Errno::EACCES) => {
            let refused = Err(Errno::EACCES).context("the root directory");
            //: the root directory | fchdir: EACCES | the caller may not search ROOT itself | the only cause |
            //: pivot/roots::a_root_without_execute_permission_is_refused
            refused.hint("chmod +x ROOT")
        }
        result => Ok(result?),
    }
}

/// The working directory, on the new root mount, becomes `/`. Returns where the host's tree is then: stacked on `/`, or
/// gone.
pub fn pivot(tree: &mut Tree, wanted: HostTree) -> Result<HostTree> {
    match pivot_root(".", ".") {
        Ok(()) if wanted == HostTree::Gone => Ok(HostTree::Stacked),
        Ok(()) => Ok(wanted),
        Err(Errno::EINVAL) if why_failed::is_rootfs() => {
            if wanted == HostTree::Kept {
                return Err(anyhow!("/ is an initramfs, which cannot be pivoted, and so cannot be kept"))
                    //: / is an initramfs | pivot_root: EINVAL | / is an initramfs, and the host's tree was to be kept | statfs, and
                    //: its mount has no parent | scripts/test-initramfs
                    .hint("leave out --keep-host and --put-old");
            }
            warn(Tool::Pivot, "/ is an initramfs, which cannot be pivoted: the root's mount is moved over it instead");
            if wanted == HostTree::Stacked {
                initramfs::lend_proc(tree)?;
            }
            initramfs::move_over(tree.root())?;
            // mountclean finds what was lent, and takes it off.
            Ok(if wanted == HostTree::Stacked { HostTree::Kept } else { HostTree::Gone })
        }
        Err(errno) => Err(why_failed::of_pivot_root(errno, tree.root())),
    }
}

/// Detaches the tree that pivot_root stacked on `/`. In a chroot that is a mount point the kernel allows the pivot but
/// leaves the host's tree above: such a root is refused.
pub fn detach_host() -> Result<()> {
    for _ in 0..mounts::MOST {
        umount2(".", MntFlags::MNT_DETACH).context("detach the host's tree")?;
        if at_root_of_mount_namespace()? {
            return Ok(());
        }
        // If ROOT was / itself, what was stacked there goes first.
        if mounts::id_at("/..")? == mounts::id_at("/")? {
            break;
        }
    }
    Err(anyhow!("the host's tree is still above the root: the chain was started in a chroot"))
        .hint("start the chain outside the chroot")
}

/// Finds a directory of the root before the host's tree is stacked on `/`: after that a `..` there leads to the host's
/// tree, even with RESOLVE_IN_ROOT.
pub fn find_start(tree: &mut Tree, dir: &Path, make: bool) -> Result<OwnedFd> {
    if make {
        place::ensure(tree, dir, Kind::Directory, Wanted::Itself)?;
    }
    open_inside(&tree, dir, OFlag::O_PATH | OFlag::O_DIRECTORY)
        .with_context(|| format!("{}: in the root", dir.display()))
}

pub fn find_put_old(tree: &mut Tree, dir: &Path) -> Result<OwnedFd> {
    find_start(tree, dir, false).hint("--put-old names a directory that is there in ROOT")
}

/// Moves the stacked tree to a directory of the new root.
pub fn put_old(target: &OwnedFd, dir: &Path) -> Result<()> {
    let host = open("/..", DIRECTORY, Mode::empty())?;
    let moved = match attach::attach(&host, target) {
        Err(Errno::ENOSYS) => fchdir(target)
            .and_then(|()| mount(Some("/.."), ".", None::<&str>, MsFlags::MS_MOVE, None::<&str>))
            .and_then(|()| chdir("/")),
        result => result,
    };
    match moved {
        Err(Errno::ELOOP | Errno::EINVAL) => {
            Err(anyhow!("{}: the host's tree cannot be moved there", dir.display())).hint(
                //: --put-old DIR | move_mount: ELOOP, EINVAL | DIR is / itself |
                //: the only cause | pivot/refusals_mounts::the_hosts_tree_can_be_kept_only_below_the_root
                "--put-old takes a directory below the root; --keep-host leaves it at /..",
            )
        }
        result => result.with_context(|| format!("move the host's tree to {}", dir.display())),
    }
}
