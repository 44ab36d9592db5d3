//! The users and groups of a new user namespace, and who may write its maps.

pub mod mapping;
pub mod owner;
mod subordinate;
mod why_refused;

use std::fs::write;
use std::process::{Command, Stdio};

use anyhow::{Context, Error, Result, anyhow};
use chain::account::Sort;
use chain::capabilities::{CapabilitySet, are_effective};
use chain::id_map::{self, Range};
use chain::sys::errno_of;
use chain::{WithHint, hinted};
use nix::errno::Errno;
use nix::unistd::{Pid, getegid, geteuid};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maps {
    pub users: Vec<Range>,
    pub groups: Vec<Range>,
    /// What to write to /proc/PID/setgroups; None leaves it alone.
    pub setgroups: Option<bool>,
}

impl Maps {
    pub fn is_empty(&self) -> bool {
        self.users.is_empty() && self.groups.is_empty() && self.setgroups.is_none()
    }

    /// The id inside of a user outside.
    pub fn inner_user(&self, own: u32) -> Option<u32> {
        let at = |range: &Range| own.checked_sub(range.outer).filter(|&at| at < range.count).map(|at| range.inner + at);
        self.users.iter().find_map(at)
    }

    /// Whether the process may write these maps itself: only its own ids, one each.
    pub fn can_write_own(&self) -> bool {
        let own = |map: &[Range], id: u32| match map {
            [] => true,
            [range] => range.count == 1 && range.outer == id,
            _ => false,
        };
        own(&self.users, geteuid().as_raw())
            && own(&self.groups, getegid().as_raw())
            && (self.groups.is_empty() || self.setgroups == Some(false))
    }

    /// Writes the maps of the user namespace that `pid` has just entered: this process, or its child in a namespace right
    /// below.
    pub fn write(&self, pid: Option<Pid>) -> Result<()> {
        let proc = pid.map_or("/proc/self".to_owned(), |pid| format!("/proc/{pid}"));
        if let Some(allow) = self.setgroups {
            let path = format!("{proc}/setgroups");
            write(&path, if allow { "allow" } else { "deny" }).map_err(|error| {
                let errno = errno_of(&error).unwrap_or(Errno::UnknownErrno);
                hinted(Error::new(error).context(path.clone()), why_refused::of_setgroups(errno, allow))
            })?;
        }
        let direct =
            pid.is_none() || self.can_write_own() || are_effective(CapabilitySet::SETUID | CapabilitySet::SETGID);
        for (map, file, helper) in [(&self.users, "uid_map", "newuidmap"), (&self.groups, "gid_map", "newgidmap")] {
            if map.is_empty() {
                continue;
            }
            match pid {
                Some(pid) if !direct => run_helper(helper, pid, map)?,
                _ => {
                    let lines: String = map.iter().map(|range| format!("{range}\n")).collect();
                    let path = format!("{proc}/{file}");
                    // The kernel takes the whole map in one write or not at all.
                    write(&path, &lines).map_err(|error| {
                        let errno = errno_of(&error).unwrap_or(Errno::UnknownErrno);
                        let ours = pid.map(|_| format!("/proc/self/{file}"));
                        let error =
                            Error::new(error).context(format!("{path}: {}", lines.trim_end().replace('\n', "; ")));
                        hinted(error, why_refused::by_the_kernel(errno, map, file, ours.as_deref()))
                    })?;
                }
            }
        }
        Ok(())
    }
}

fn run_helper(helper: &str, pid: Pid, map: &[Range]) -> Result<()> {
    let numbers = map.iter().flat_map(|r| [r.inner, r.outer, r.count]).map(|n| n.to_string());
    let output = Command::new(helper)
        .arg(pid.to_string())
        .args(numbers)
        .stdin(Stdio::null())
        .output()
        .with_context(|| helper.to_owned())
        .hint(format!("mapping more than the own id without privilege needs {helper}: install the package uidmap"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().next().unwrap_or("it failed and does not say why").to_owned();
        let said = said.strip_prefix(&format!("{helper}: ")).unwrap_or(&said).to_owned();
        return Err(anyhow!("{said}").context(helper.to_owned())).hint(why_refused::by_the_program(helper));
    }
    Ok(())
}

/// Whether our ids have no mapping in our user namespace.
pub fn is_unmapped() -> bool {
    let absent = |sort, id| id_map::read(sort).is_ok_and(|map| !id_map::contains(&map, id));
    absent(Sort::User, geteuid().as_raw()) || absent(Sort::Group, getegid().as_raw())
}
