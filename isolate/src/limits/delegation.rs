//! Which groups of version 2 isolate may divide. Where systemd owns the tree, a group beside or above a unit's would take
//! COMMAND out of that unit, and one below a unit without delegation loses its controllers at the next
//! `systemctl daemon-reload` (systemd's CGROUP_DELEGATION.md).

use std::ffi::OsStr;
use std::fs::read_to_string;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};
use chain::{WithHint, xattr};
use nix::unistd::geteuid;

use crate::limits::name::is_ours;

/// From this process's group up to the highest that may be divided.
pub struct Territory {
    pub dirs: Vec<PathBuf>,
    /// The one that was delegated, with every process in it.
    pub delegated: Option<PathBuf>,
}

pub fn territory(own: &Path, mount_point: &Path) -> Result<Territory> {
    let mut dirs = Vec::new();
    // A group above one with limits would escape those limits.
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
    // No manager owns the tree.
    Ok(Territory { dirs, delegated: None })
}

/// This process's group is a unit's, or below one, and not marked as delegated. A user's manager never sets the mark, and
/// before systemd 251 an ordinary user could not see it: so the manager itself is asked.
fn within_a_unit(own: &Path, manager: &Path, mount_point: &Path) -> Result<Territory> {
    let below: Vec<&Path> = own.ancestors().take_while(|dir| *dir != manager).collect();
    let is_unit = |dir: &&&Path| dir.extension().is_some_and(|kind| kind == "service" || kind == "scope");
    let unit = below.iter().rev().find(is_unit);
    let of_user = (manager != mount_point).then_some(manager);
    let run = if geteuid().is_root() { "systemd-run --scope" } else { "systemd-run --user --scope" };
    let hint = format!("Delegate=yes in the unit; or {run} -p Delegate=yes -- isolate …");
    if let Some(unit) = unit
        && says_delegated(unit.file_name().unwrap_or_default(), of_user)
            .with_context(|| format!("{}: systemd does not say whether this cgroup is delegated", own.display()))
            .hint(&hint)?
    {
        let dirs = below.iter().take_while(|dir| *dir != unit).chain([unit]).map(|dir| dir.to_path_buf()).collect();
        return Ok(Territory { dirs, delegated: Some(unit.to_path_buf()) });
    }
    Err(anyhow!("{}: systemd has not delegated this cgroup, so a limit would not last", own.display())).hint(hint)
}

/// `of_user` is the group of a user's manager. systemctl looks for that manager below $XDG_RUNTIME_DIR, which the caller may
/// have cleared (as `env -i` does).
fn says_delegated(unit: &OsStr, of_user: Option<&Path>) -> Result<bool> {
    let mut systemctl = Command::new("systemctl");
    if let Some(manager) = of_user {
        let name = manager.file_name().and_then(OsStr::to_str).unwrap_or_default();
        let uid = name.strip_prefix("user@").and_then(|name| name.strip_suffix(".service")).unwrap_or_default();
        systemctl
            .arg("--user")
            .env("XDG_RUNTIME_DIR", format!("/run/user/{uid}"))
            .env_remove("DBUS_SESSION_BUS_ADDRESS");
    }
    systemctl.args(["show", "--property=Delegate", "--value", "--"]).arg(unit);
    let said = systemctl.stdin(Stdio::null()).output().context("systemctl")?;
    if !said.status.success() {
        let why = String::from_utf8_lossy(&said.stderr);
        bail!("systemctl show: {}", why.lines().next().unwrap_or("no answer"));
    }
    Ok(said.stdout.trim_ascii() == b"yes")
}

/// systemd lives in this group of the tree that it manages.
fn has_manager(dir: &Path) -> bool {
    dir.join("init.scope").exists()
}

/// Only root can read the older of the two marks.
fn is_delegated(dir: &Path) -> bool {
    ["user.delegate", "trusted.delegate"].iter().any(|name| {
        let mut value = [0; 8];
        xattr::get(dir, name, &mut value).is_ok_and(|length| value.get(..length) == Some(b"1"))
    })
}

/// Whether it has a limit: without one the file is missing (as in the root) or says `max`.
fn is_limited(dir: &Path) -> bool {
    ["memory.max", "memory.high", "pids.max", "cpu.max"]
        .iter()
        .any(|file| read_to_string(dir.join(file)).is_ok_and(|text| !text.starts_with("max")))
}

/// In a cgroup namespace the visible top has a type, because there are groups above it.
fn is_namespace_root(dir: &Path) -> bool {
    dir.join("cgroup.type").exists()
}
