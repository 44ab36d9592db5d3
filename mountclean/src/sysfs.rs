//! A /sys, which shows the devices and the network of a net namespace.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Error, Result, anyhow};
use chain::attach::{self, NODEV, NOEXEC, NOSUID, Place, READ_ONLY};
use chain::patient::{fstatfs, open};
use chain::{Hint, mounts};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, fstat};
use nix::sys::statfs::FsType;

use crate::args::Sys;
use crate::procfs;
use crate::step::{Fresh, State};

pub const PLACE: &str = "/sys";
const SYSFS_MAGIC: FsType = FsType(0x6265_6572);
const PATH: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

pub fn mount_fresh(how: Sys, state: &mut State) -> Result<()> {
    procfs::check_place(PLACE)?;
    let hosts = hosts();
    let root = procfs::root()?;
    let place = Place { root: root.as_fd(), path: Path::new(PLACE) };
    let plain = NOSUID | NODEV | NOEXEC;
    let attributes = if how == Sys::Ro { plain | READ_ONLY } else { plain };
    let made = match (attach::filesystem("sysfs", &[], attributes, place), &hosts) {
        // A user namespace that does not own the net namespace may look at what is mounted already.
        (Err(error), Some(hosts)) if error.downcast_ref() == Some(&Errno::EPERM) && how == Sys::Ro => {
            attach::bind(hosts, place, attributes)?
        }
        (Err(error), _) if error.downcast_ref() == Some(&Errno::EPERM) => return Err(not_ours()),
        (made, _) => made?,
    };
    if how == Sys::Own && !differs(&made, hosts.as_ref())? {
        return Err(not_ours());
    }
    state.own.push(mounts::id_of(&made)?);
    // The host's brings what is mounted below it.
    state.own.extend(mounts::ids_below(&made)?);
    state.fresh.push(Fresh { mount: made, point: PLACE });
    Ok(())
}

/// The sysfs that was there before: above a stacked pivot, or at its usual place.
fn hosts() -> Option<OwnedFd> {
    ["/../sys", PLACE].into_iter().find_map(|path| {
        let sys = open(path, PATH, Mode::empty()).ok()?;
        (fstatfs(&sys).ok()?.filesystem_type() == SYSFS_MAGIC).then_some(sys)
    })
}

/// Each net namespace has a sysfs of its own, and with it a device number. Where the host's cannot be
/// seen any more, nothing tells that ours is another.
fn differs(made: &OwnedFd, hosts: Option<&OwnedFd>) -> Result<bool> {
    match hosts {
        Some(hosts) => Ok(fstat(made)?.st_dev != fstat(hosts)?.st_dev),
        None => Ok(false),
    }
}

fn not_ours() -> Error {
    anyhow!("/sys would be the host's: this is not known to be a net namespace of the chain's own").context(Hint(
        "add --net to isolate and let mountclean follow pivot directly, or take the host's read-only: --sys=ro".into(),
    ))
}
