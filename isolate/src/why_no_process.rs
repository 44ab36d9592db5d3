//! Which limit leaves no room for a further process: fork(2) has one errno for all of them.

use std::fs::{read_dir, read_to_string};

use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::getuid;

use crate::limits::hierarchy::mounts;

pub fn explain() -> String {
    full_group()
        .or_else(full_user)
        .unwrap_or_else(|| "RLIMIT_NPROC (ulimit -u), the pids.max of the cgroup or kernel.pid_max is reached".into())
}

/// This process's cgroup, or one above it.
fn full_group() -> Option<String> {
    let groups = read_to_string("/proc/self/cgroup").ok()?;
    mounts().ok()?.iter().find_map(|mount| {
        let own = mount.dir_of(&groups).ok()?;
        own.ancestors().take_while(|dir| dir.starts_with(&mount.point)).find_map(|dir| {
            let number = |file: &str| read_to_string(dir.join(file)).ok()?.trim().parse::<u64>().ok();
            let (most, there) = (number("pids.max")?, number("pids.current")?);
            (there >= most)
                .then(|| format!("{} is {most}, and as many are there: raise it", dir.join("pids.max").display()))
        })
    })
}

/// Root of the host has no such limit.
fn full_user() -> Option<String> {
    let (most, _) = getrlimit(Resource::RLIMIT_NPROC).ok()?;
    if getuid().is_root() && chain::id_map::is_the_hosts() {
        return None;
    }
    let there: u64 =
        read_dir("/proc").ok()?.flatten().filter_map(|entry| threads_of_ours(&entry.path().join("status"))).sum();
    (there >= most)
        .then(|| format!("RLIMIT_NPROC is {most}, and this user has as many processes: raise it with ulimit -u"))
}

/// Each thread counts (getrlimit(2)).
fn threads_of_ours(status: &std::path::Path) -> Option<u64> {
    let text = read_to_string(status).ok()?;
    let first = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next());
    (first("Uid:")?.parse() == Ok(getuid().as_raw())).then(|| first("Threads:")?.parse().ok()).flatten()
}
