//! Kills what is left in a group and in the groups below it, and removes them from the bottom up: the kernel removes no
//! group that has others in it.

use std::fs::{File, read_dir, read_to_string, remove_dir, write};
use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chain::{Tool, pidfd};
use nix::errno::Errno;
use nix::libc::SIGKILL;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::kill;
use nix::unistd::Pid;

/// How long to wait for a group to become empty. A process in an uninterruptible wait, such as on a dead network
/// filesystem, takes no signal.
const PATIENCE: Duration = Duration::from_secs(5);

pub fn remove(dir: &Path) {
    if !dir.exists() {
        return;
    }
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if remove_tree(dir) {
            return;
        }
        kill_all(dir);
        wait_a_moment(dir);
    }
    chain::warn(Tool::Isolate, format_args!("{}: a process in this cgroup does not end, so it stays", dir.display()));
}

/// Removes the empty groups of isolates that were killed together with their guards.
pub fn sweep(parent: &Path, prefix: &str) {
    for group in groups_in(parent) {
        let name = group.file_name().and_then(|name| name.to_str()?.strip_prefix(prefix)?.parse().ok());
        if name.is_some_and(|pid| kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH)) {
            remove_tree(&group);
        }
    }
}

/// Whether it is gone.
fn remove_tree(dir: &Path) -> bool {
    for below in groups_in(dir) {
        remove_tree(&below);
    }
    !matches!(remove_dir(dir), Err(error) if error.kind() != ErrorKind::NotFound)
}

fn kill_all(dir: &Path) {
    // Since Linux 5.14, for all groups below at once.
    if write(dir.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    groups_in(dir).iter().for_each(|below| kill_all(below));
    let pids = read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    for pid in pids.lines().filter_map(|pid| pid.parse().ok()) {
        if let Ok(process) = pidfd::of(pid) {
            let _ = pidfd::send(process, SIGKILL);
        }
    }
}

/// Waits until the kernel reports that the last process has left (version 2), or for a millisecond: version 1 reports
/// nothing.
fn wait_a_moment(dir: &Path) {
    let mut text = String::new();
    let events = File::open(dir.join("cgroup.events")).ok();
    // The event is a change after this descriptor has read the file.
    match events.filter(|mut events| events.read_to_string(&mut text).is_ok() && text.contains("populated 1")) {
        Some(events) => {
            let _ = poll(&mut [PollFd::new(events.as_fd(), PollFlags::POLLPRI)], PollTimeout::from(100u8));
        }
        None => std::thread::sleep(Duration::from_millis(1)),
    }
}

pub fn groups_in(dir: &Path) -> Vec<PathBuf> {
    let entries = read_dir(dir).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}
