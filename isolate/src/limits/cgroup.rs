//! A cgroup for the child: made with its limits, asked afterwards which of them was reached, and
//! removed whatever happened.

use std::fmt;
use std::fs::{create_dir, read_dir, read_to_string, remove_dir, write};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use chain::{Tool, WithHint};
use nix::errno::Errno;
use nix::unistd::{Pid, getpid};
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::limits::Limits;
use crate::limits::hierarchy::Place;

/// The group in every hierarchy that has a part in the limits.
pub struct Group {
    limits: Limits,
    dirs: Vec<PathBuf>,
}

/// A limit that was reached.
pub struct Exceeded {
    pub limit: &'static str,
    text: String,
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Group {
    pub fn create(limits: &Limits, places: &[Place]) -> Result<Group> {
        let mut group = Group { limits: limits.clone(), dirs: Vec::new() };
        let made = places.iter().try_for_each(|place| group.create_at(place));
        match made {
            Ok(()) => Ok(group),
            Err(error) => {
                group.remove();
                Err(error)
            }
        }
    }

    fn create_at(&mut self, place: &Place) -> Result<()> {
        sweep(&place.parent);
        if place.alone {
            // Below a group that hands controllers down there may be no process in it (cgroups(7)).
            let waiting = place.parent.join("isolate-waiting");
            let _ = create_dir(&waiting);
            put(&waiting.join("cgroup.procs"), &getpid().to_string())?;
        }
        for controller in &place.enable {
            put(&place.parent.join("cgroup.subtree_control"), &format!("+{controller}"))?;
        }
        let dir = place.parent.join(own_name());
        create_dir(&dir)
            .with_context(|| dir.display().to_string())
            .hint("limits need root, or a cgroup that is delegated to the own user")?;
        self.dirs.push(dir.clone());
        for setting in &place.settings {
            let file = dir.join(setting.file);
            if setting.optional && !file.exists() {
                continue;
            }
            put(&file, &setting.value)?;
        }
        Ok(())
    }

    pub fn add(&self, pid: Pid) -> Result<()> {
        self.dirs.iter().try_for_each(|dir| {
            put(&dir.join("cgroup.procs"), &pid.to_string())
                .hint("to move a process, its old group and the new one must both be the own user's, or it takes root")
        })
    }

    /// The child is dead: what it had too much of. Then the group goes.
    pub fn finish(&self) -> Option<Exceeded> {
        let exceeded = self.exceeded();
        self.remove();
        exceeded
    }

    fn exceeded(&self) -> Option<Exceeded> {
        let count = |file: &str, key: &str| {
            self.dirs.iter().find_map(|dir| {
                let text = read_to_string(dir.join(file)).ok()?;
                let value = text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse::<u64>().ok())?;
                (value > 0).then_some(value)
            })
        };
        if let Some(killed) = self.limits.memory.and_then(|_| {
            // Version 2, then version 1 (Linux 4.13).
            count("memory.events", "oom_kill ").or_else(|| count("memory.oom_control", "oom_kill "))
        }) {
            let text = format!("the limit of memory was reached: the kernel killed {}", counted(killed, "process"));
            return Some(Exceeded { limit: "memory", text });
        }
        let refused = self.limits.pids.and_then(|_| count("pids.events", "max "))?;
        let text = format!("the limit of processes was reached: {} failed", counted(refused, "fork"));
        Some(Exceeded { limit: "pids", text })
    }

    pub fn remove(&self) {
        self.dirs.iter().for_each(|dir| remove(dir));
    }
}

/// Puts a process under the limits that hold for others. It works without them as well: whoever may
/// enter a chain need not be able to move processes between groups.
pub fn join(groups: &[PathBuf], pid: Pid) {
    for group in groups {
        if let Err(error) = write(group.join("cgroup.procs"), pid.to_string()) {
            let why = error.raw_os_error().map_or("it cannot be written", |number| Errno::from_raw(number).desc());
            chain::warn(Tool::Isolate, format_args!("the limits of {} do not hold here: {why}", group.display()));
        }
    }
}

fn counted(count: u64, noun: &str) -> String {
    let plural = match count {
        1 => "",
        _ if noun.ends_with('s') => "es",
        _ => "s",
    };
    format!("{count} {noun}{plural}")
}

/// Ends what is left in a group, and removes it.
fn remove(dir: &Path) {
    // Whoever leaves a group is gone from it a moment after its parent has learnt of its end, and
    // version 1 tells nobody: so this asks again.
    for _ in 0..1000 {
        match remove_dir(dir) {
            Err(error) if error.kind() == ErrorKind::ResourceBusy => {}
            _ => return,
        }
        if write(dir.join("cgroup.kill"), "1").is_err() {
            let pids = read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
            for pid in pids.lines().filter_map(|pid| rustix::process::Pid::from_raw(pid.parse().ok()?)) {
                if let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) {
                    let _ = pidfd_send_signal(process, Signal::KILL);
                }
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Ours, among those of every isolate in any pid namespace.
fn own_name() -> String {
    format!("isolate-{}-{}", pid_namespace(), getpid())
}

fn pid_namespace() -> u64 {
    std::fs::metadata("/proc/self/ns/pid").map_or(0, |file| file.ino())
}

/// Removes the groups of isolates that were killed together with their guards.
fn sweep(parent: &Path) {
    let prefix = format!("isolate-{}-", pid_namespace());
    for entry in read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(&prefix)?.parse::<i32>().ok());
        if owner.is_some_and(|pid| nix::sys::signal::kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH)) {
            let _ = remove_dir(entry.path());
        }
    }
}

fn put(file: &Path, value: &str) -> Result<()> {
    write(file, value).with_context(|| format!("{}: {value}", file.display()))
}
