//! The limits of a process that is joined: they apply to those who join it.

use std::fs::write;
use std::path::PathBuf;

use anyhow::Result;
use chain::Tool;
use chain::sys::errno_of;
use nix::errno::Errno;
use nix::unistd::Pid;

use crate::limits::hierarchy::{groups_of, mounts};
use crate::limits::name::is_ours;

/// The groups of a process that an isolate made for its limits, and those below them, unless this process is in them too.
pub fn limiting(pid: i32) -> Result<Vec<PathBuf>> {
    let (own, theirs) = (groups_of("self")?, groups_of(&pid.to_string())?);
    let mut groups: Vec<PathBuf> = Vec::new();
    for mount in mounts()? {
        match mount.dir_of(&theirs) {
            Ok(dir) if !dir.iter().any(is_ours) || groups.contains(&dir) => {}
            Ok(dir) => groups.extend((mount.dir_of(&own).ok().as_ref() != Some(&dir)).then_some(dir)),
            Err(error) if theirs.contains("/isolate-") => {
                chain::warn(Tool::Isolate, format_args!("the limits of process {pid} do not hold here: {error}"));
            }
            Err(_) => {}
        }
    }
    Ok(groups)
}

/// Puts a process under those limits. Only warns on failure: a user who may enter a container need not be able to move
/// processes between groups.
pub fn join(groups: &[PathBuf], pid: Pid) {
    for group in groups {
        if let Err(error) = write(group.join("cgroup.procs"), pid.to_string()) {
            let why = errno_of(&error).map_or("it cannot be written", Errno::desc);
            chain::warn(Tool::Isolate, format_args!("the limits of {} do not hold here: {why}", group.display()));
        }
    }
}
