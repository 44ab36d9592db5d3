//! Which limit leaves no room for a further process: fork(2) has one errno for all of them.

use std::fs::{read_dir, read_to_string};

use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::getuid;

use crate::limits::hierarchy::mounts;

pub fn explain() -> String {
    //: fork: too many processes | fork, clone: EAGAIN | none of the others can be seen to hold | the files of cgroups and
    //: /proc are read | isolate/refusals::the_limit_that_leaves_no_room_for_a_process_is_named
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
            let file = dir.join("pids.max");
            let file = file.display();
            //: fork: too many processes | fork, clone: EAGAIN | a cgroup's limit is reached | pids.max and pids.current of
            //: each group above | isolate/refusals::the_limit_that_leaves_no_room_for_a_process_is_named
            (there >= most).then(|| format!("{file} is {most}, and as many are there: raise it"))
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
    //: fork: too many processes | fork, clone: EAGAIN | the user's limit is reached | the user's threads are counted |
    //: isolate/refusals::the_limit_that_leaves_no_room_for_a_process_is_named
    (there >= most)
        .then(|| format!("RLIMIT_NPROC is {most}, and this user has as many processes: raise it with ulimit -u"))
}

/// Each thread counts (getrlimit(2)).
fn threads_of_ours(status: &std::path::Path) -> Option<u64> {
    let text = read_to_string(status).ok()?;
    let first = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next());
    (first("Uid:")?.parse() == Ok(getuid().as_raw())).then(|| first("Threads:")?.parse().ok()).flatten()
}
