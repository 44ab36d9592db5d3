//! Which groups of version 2 are ours to divide. Where systemd owns the tree, a group beside or above
//! a unit's would take a command out of that unit, and one below a unit that was not delegated loses
//! its controllers at the next `systemctl daemon-reload` (systemd's CGROUP_DELEGATION.md).

use std::fs::read_to_string;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use chain::WithHint;
use nix::unistd::geteuid;
use rustix::fs::getxattr;

use crate::limits::cgroup::is_ours;

/// From the own group up to the highest that may be divided.
pub struct Territory {
    pub dirs: Vec<PathBuf>,
    /// The one of them that was handed over with every process in it.
    pub delegated: Option<PathBuf>,
}

pub fn territory(own: &Path, mount_point: &Path) -> Result<Territory> {
    let mut dirs = Vec::new();
    for dir in own.ancestors() {
        dirs.push(dir.to_owned());
        // Above it what holds for us would not hold.
        if dir.file_name().is_some_and(is_ours) {
            return Ok(Territory { dirs, delegated: None });
        }
        if has_manager(dir) {
            return within_a_unit(own, dir);
        }
        if is_delegated(dir) || dir == mount_point && is_namespace_root(dir) {
            let delegated = Some(dir.to_owned());
            return Ok(Territory { dirs, delegated });
        }
        if is_limited(dir) {
            return Ok(Territory { dirs, delegated: None });
        }
        if dir == mount_point {
            break;
        }
    }
    // Nobody's system: no manager minds.
    Ok(Territory { dirs, delegated: None })
}

/// The own group is that of a unit, or below one, that `manager`'s systemd has made and not delegated.
fn within_a_unit(own: &Path, manager: &Path) -> Result<Territory> {
    // Before systemd 251 an ordinary user could not see what is delegated, not even to the user's own
    // manager. The unit itself is then the one place that is not outside the unit.
    let cannot_tell = manager.join("cgroup.type").exists() && !is_delegated(manager) && !is_namespace_root(manager);
    if cannot_tell && !geteuid().is_root() {
        return Ok(Territory { dirs: vec![own.to_owned()], delegated: Some(own.to_owned()) });
    }
    let run = if geteuid().is_root() { "systemd-run --scope" } else { "systemd-run --user --scope" };
    Err(anyhow!("{}: systemd has not delegated this cgroup, so a limit would not last", own.display()))
        .hint(format!("Delegate=yes in the unit; or {run} -p Delegate=yes -- isolate …"))
}

/// A systemd keeps itself in this group of the tree that it manages.
fn has_manager(dir: &Path) -> bool {
    dir.join("init.scope").exists()
}

/// Root alone can read the older of the two.
fn is_delegated(dir: &Path) -> bool {
    ["user.delegate", "trusted.delegate"].iter().any(|name| {
        let mut value = [0; 8];
        getxattr(dir, *name, &mut value).is_ok_and(|length| value.get(..length) == Some(b"1"))
    })
}

/// Somebody gave it a limit; the root, and a group that has none, has no such file or `max` in it.
fn is_limited(dir: &Path) -> bool {
    ["memory.max", "memory.high", "pids.max", "cpu.max"]
        .iter()
        .any(|file| read_to_string(dir.join(file)).is_ok_and(|text| !text.starts_with("max")))
}

/// The top of what can be seen has a type only where there is something above it, outside a cgroup
/// namespace.
fn is_namespace_root(dir: &Path) -> bool {
    dir.join("cgroup.type").exists()
}
