//! A /sys: the devices and the network of a net namespace.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Error, Result, anyhow};
use chain::attach::{self, NODEV, NOEXEC, NOSUID, Place, READ_ONLY};
use chain::{Hint, mounts, why_no_new_sysfs};
use nix::errno::Errno;
use nix::sys::stat::fstat;
use nix::sys::statfs::FsType;
use nix::sys::statvfs::{FsFlags, fstatvfs};

use crate::args::Sys;
use crate::fresh::Fresh;
use crate::procfs;

const PLACE: &str = "/sys";
const SYSFS_MAGIC: FsType = FsType(0x6265_6572);

pub fn mount_fresh(how: Sys) -> Result<Fresh> {
    procfs::check_place(PLACE)?;
    let hosts = procfs::there_before(["/../sys", PLACE], SYSFS_MAGIC);
    let root = procfs::root()?;
    let place = Place { root: root.as_fd(), path: Path::new(PLACE) };
    let plain = NOSUID | NODEV | NOEXEC | attach::atime_of(hosts.as_ref());
    let attributes = if how == Sys::Ro { plain | READ_ONLY } else { plain };
    let made = match (attach::filesystem("sysfs", &[], attributes, place), &hosts) {
        // A user namespace that does not own the net namespace may still bind the mounted one.
        (Err(error), Some(hosts)) if error.downcast_ref() == Some(&Errno::EPERM) && how == Sys::Ro => {
            attach::bind(hosts, place, attributes)?
        }
        (Err(error), hosts) if error.downcast_ref() == Some(&Errno::EPERM) => {
            let flags = hosts.as_ref().and_then(|hosts| fstatvfs(hosts).ok());
            let why = why_no_new_sysfs(flags.is_some_and(|fs| fs.flags().contains(FsFlags::ST_RDONLY)));
            return Err(why.map_or_else(not_ours, |hint| error.context(Hint(hint))));
        }
        (made, _) => made?,
    };
    if how == Sys::Own && !differs(&made, hosts.as_ref())? {
        return Err(not_ours());
    }
    let (id, below) = (mounts::id_of(&made)?, mounts::ids_below(&made)?);
    Ok(Fresh { mount: made, point: PLACE, id, below })
}

/// Each net namespace has its own sysfs with its own device number. Once the host's is out of sight, nothing tells ours
/// apart from it.
fn differs(made: &OwnedFd, hosts: Option<&OwnedFd>) -> Result<bool> {
    match hosts {
        Some(hosts) => Ok(fstat(made)?.st_dev != fstat(hosts)?.st_dev),
        None => Ok(false),
    }
}

fn not_ours() -> Error {
    anyhow!("/sys would be the host's: this is not known to be a net namespace of the chain's own").context(Hint(
        //: --sys | fsmount, mount: EPERM; or the new one is the host's | the net namespace is not the chain's own, or that is
        //: not known any more | the devices of both are compared | mountclean/mounts::a_sys_is_mounted_for_an_own_net_namespace_only
        "add --net to isolate and let mountclean follow pivot directly, or take the host's read-only: --sys=ro".into(),
    ))
}
