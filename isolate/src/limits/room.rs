//! Room in a group of version 2 that has processes: no such group can hand controllers down (cgroups(7), "no internal processes"),
//! so they move to a leaf below it, and what was handed down is taken back when the last limit in it has ended.

use std::fs::{File, read_to_string, write};
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Error, Result};
use chain::{hinted, wait_to_lock_alone};
use nix::errno::Errno;

use crate::limits::files::{CONTROLLERS, enable, make};
use crate::limits::hierarchy::{Mount, groups_of, mounts};
use crate::limits::name::{WAITING, is_ours};
use crate::limits::place::Place;
use crate::limits::removal::groups_in;
use crate::limits::setting::Version;
use crate::limits::why_refused;

/// systemd's own leaf in a delegated unit, for ExecStartPre= and its like (systemd's CGROUP_DELEGATION.md).
const CONTROL: &str = ".control";

/// One isolate at a time moves processes of a group: one that another isolate still found in it may have gone to a group with
/// limits by now, and must not be taken out of that. Nobody else can make it wait: only the owner can open the leaf that is
/// locked, though all may pass through it to its files.
pub fn lock(place: &Place) -> Result<Option<File>> {
    if !place.vacate {
        return Ok(None);
    }
    let leaf = place.parent.join(WAITING);
    make(&leaf, 0o711).or_else(|error| if leaf.exists() { Ok(()) } else { Err(error) })?;
    let locked = File::open(&leaf).and_then(|dir| wait_to_lock_alone(&dir).map(|()| dir).map_err(std::io::Error::from));
    locked.map(Some).map_err(|error| {
        let hint = why_refused::group(&error, &leaf);
        hinted(Error::new(error).context(format!("{}: lock", leaf.display())), hint)
    })
}

/// Moves every process of the group into a leaf, this one included, and hands the controllers down. A process forked in between
/// is in the group again: then the kernel refuses, and the next round moves it. The lock must be held.
pub fn make_room(place: &Place) -> Result<()> {
    const ROUNDS: u32 = 100;
    let leaf = place.parent.join(WAITING);
    let mounts = mounts()?;
    let unified = mounts.iter().find(|mount| mount.version == Version::Two);
    for round in 1.. {
        let inside = read_to_string(place.parent.join("cgroup.procs")).unwrap_or_default();
        for pid in inside.lines().filter(|pid| is_in(&place.parent, unified, pid)) {
            match write(leaf.join("cgroup.procs"), pid) {
                // It has ended.
                Err(error) if error.raw_os_error() == Some(Errno::ESRCH as i32) => {}
                result => result.with_context(|| format!("{}: {pid}", leaf.join("cgroup.procs").display()))?,
            }
        }
        match enable(&place.parent, &place.controllers) {
            Err(error) if round < ROUNDS && is_busy(&error) => {}
            result => return result,
        }
    }
    Ok(())
}

/// Hands nothing down any more, so that processes can come into the group again: the unit's next command, or one of
/// `docker exec`. The kernel refuses while another isolate's group in it hands controllers on (EBUSY); groups of others may have
/// limits that would be lost.
pub fn take_back(place: &Place) {
    let is_foreign = |name| !is_ours(name) && name != WAITING && name != CONTROL;
    let below = groups_in(&place.parent);
    if !place.parent.join(WAITING).exists() || below.iter().filter_map(|dir| dir.file_name()).any(is_foreign) {
        return;
    }
    let _lock = lock(place);
    for controller in CONTROLLERS {
        let _ = write(place.parent.join("cgroup.subtree_control"), format!("-{controller}"));
    }
}

/// Whether the process is in this very group still: others that move processes take no lock.
fn is_in(group: &Path, unified: Option<&Mount>, pid: &str) -> bool {
    let now = unified.and_then(|mount| mount.dir_of(&groups_of(pid).ok()?).ok());
    now.is_none_or(|now| now == group)
}

fn is_busy(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<std::io::Error>();
    error.is_some_and(|error| error.kind() == ErrorKind::ResourceBusy)
}
