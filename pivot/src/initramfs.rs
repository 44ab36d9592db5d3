//! The kernel's first filesystem has no mount above it and cannot be pivoted (pivot_root(2), rootfs).
//! The root's mount is moved over it instead, as switch_root(8) does.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result};
use chain::attach::{self, NODEV, NOEXEC, NOSUID, Place, READ_ONLY};
use chain::mounts::{self, Mount};
use chain::retry_eintr::{fstatfs, open};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;
use nix::sys::statfs::FsType;
use nix::unistd::{chdir, chroot};

use crate::place::{self, Kind};
use crate::tree::{Tree, Wanted};

const PROC_SUPER_MAGIC: FsType = FsType(0x9fa0);

/// Lends the host's proc to the root: in a user namespace mountclean may mount a fresh one only where one is mounted.
pub fn lend_proc(tree: &mut Tree) -> Result<()> {
    let Ok(proc) = open("/proc", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()) else {
        return Ok(());
    };
    if fstatfs(&proc)?.filesystem_type() != PROC_SUPER_MAGIC {
        return Ok(());
    }
    let path = Path::new("proc");
    place::ensure(tree, path, Kind::Directory, Wanted::AsPlace)?;
    attach::bind(&proc, Place { root: tree.as_fd(), path }, 0).map(drop).context("/proc")
}

/// The first filesystem stays below, out of reach of any path. Its mounts go first: the host's proc or sys down there
/// would be one umount away.
pub fn move_over(tree: &OwnedFd) -> Result<()> {
    let (host, ours) = (mounts::id_at("/")?, mounts::id_of(tree)?);
    let table = mounts::table()?;
    for mount in table.iter().rev().filter(|mount| mount.parent == host && mount.id != host) {
        if !mounts::below(&[mount.id], &table).iter().any(|below| below.id == ours) {
            take_away(mount)?;
        }
    }
    mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>).context("move the root's mount over /")?;
    chroot(".").and_then(|()| chdir("/")).context("chroot")
}

fn take_away(mounted: &Mount) -> Result<()> {
    match umount2(&mounted.point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        // Locked in a user namespace, but it can be covered.
        Err(Errno::EINVAL) => {
            let root = open("/", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
            let place = Place { root: root.as_fd(), path: &mounted.point };
            attach::filesystem("tmpfs", &[], READ_ONLY | NOSUID | NODEV | NOEXEC, place).map(drop)
        }
        result => Ok(result?),
    }
    .with_context(|| mounted.point.display().to_string())
}
