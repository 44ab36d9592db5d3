//! Which groups of version 2 are ours to divide. Where systemd owns the tree, a group beside or above
//! a unit's would take a command out of that unit, and one below a unit that was not delegated loses
//! its controllers at the next `systemctl daemon-reload` (systemd's CGROUP_DELEGATION.md).

use std::ffi::OsStr;
use std::fs::read_to_string;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Result, anyhow};
use chain::WithHint;
use nix::unistd::geteuid;
use rustix::fs::getxattr;

use crate::limits::name::is_ours;

/// From the own group up to the highest that may be divided.
pub struct Territory {
    pub dirs: Vec<PathBuf>,
    /// The one of them that was handed over with every process in it.
    pub delegated: Option<PathBuf>,
}

pub fn territory(own: &Path, mount_point: &Path) -> Result<Territory> {
    let mut dirs = Vec::new();
    // Above a group with limits what holds for us would not hold.
    let mut limited = false;
    for dir in own.ancestors() {
        if !limited {
            dirs.push(dir.to_owned());
        }
        if dir.file_name().is_some_and(is_ours) {
            return Ok(Territory { dirs, delegated: None });
        }
        if has_manager(dir) {
            return within_a_unit(own, dir, mount_point);
        }
        if is_delegated(dir) || dir == mount_point && is_namespace_root(dir) {
            let delegated = Some(dir.to_owned()).filter(|_| !limited);
            return Ok(Territory { dirs, delegated });
        }
        if dir == mount_point {
            break;
        }
        limited |= is_limited(dir);
    }
    // Nobody's system: no manager minds.
    Ok(Territory { dirs, delegated: None })
}

/// The own group is that of a unit of `manager`'s systemd, or below one, and not marked as delegated. A
/// user's manager never marks any, and before systemd 251 an ordinary user could not see the mark: there
/// the manager itself has to be asked.
fn within_a_unit(own: &Path, manager: &Path, mount_point: &Path) -> Result<Territory> {
    let below: Vec<&Path> = own.ancestors().take_while(|dir| *dir != manager).collect();
    let is_unit = |dir: &&&Path| dir.extension().is_some_and(|kind| kind == "service" || kind == "scope");
    let unit = below.iter().rev().find(is_unit);
    let of_user = (manager != mount_point).then_some("--user");
    if let Some(unit) = unit.filter(|unit| says_delegated(unit.file_name().unwrap_or_default(), of_user)) {
        let dirs = below.iter().take_while(|dir| *dir != unit).chain([unit]).map(|dir| dir.to_path_buf()).collect();
        return Ok(Territory { dirs, delegated: Some(unit.to_path_buf()) });
    }
    let run = if geteuid().is_root() { "systemd-run --scope" } else { "systemd-run --user --scope" };
    Err(anyhow!("{}: systemd has not delegated this cgroup, so a limit would not last", own.display()))
        .hint(format!("Delegate=yes in the unit; or {run} -p Delegate=yes -- isolate …"))
}

fn says_delegated(unit: &OsStr, of_user: Option<&str>) -> bool {
    let mut systemctl = Command::new("systemctl");
    systemctl.args(of_user).args(["show", "--property=Delegate", "--value", "--"]).arg(unit);
    let said = systemctl.stdin(Stdio::null()).stderr(Stdio::null()).output();
    said.is_ok_and(|said| said.stdout.trim_ascii() == b"yes")
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
