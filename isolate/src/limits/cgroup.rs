//! A cgroup for the child: made with its limits, asked afterwards which one was reached, and always removed.

use std::fs::{File, create_dir, read_to_string, write};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result};
use chain::{hinted, lock_alone};
use nix::errno::Errno;
use nix::unistd::Pid;

use crate::limits::exceeded::{Exceeded, exceeded};
use crate::limits::hierarchy::{Mount, groups_of, mounts};
use crate::limits::name::{LEAF, WAITING, own_name, own_prefix};
use crate::limits::place::Place;
use crate::limits::removal::{remove, sweep};
use crate::limits::setting::{Limits, Version};
use crate::limits::why_refused;

/// The group, in every hierarchy that the limits need.
pub struct Group {
    limits: Limits,
    places: Vec<Place>,
    /// The directories with the limits, named before they are made: a removal must know them all.
    dirs: Vec<PathBuf>,
}

impl Group {
    pub fn new(limits: Limits, places: Vec<Place>) -> Group {
        let dirs = places.iter().map(|place| place.parent.join(own_name())).collect();
        Group { limits, places, dirs }
    }

    /// On failure, `remove` cleans up what was made.
    pub fn create(&self) -> Result<()> {
        self.places.iter().zip(&self.dirs).try_for_each(|(place, dir)| create_at(place, dir))
    }

    pub fn add(&self, pid: Pid) -> Result<()> {
        self.places.iter().zip(&self.dirs).try_for_each(|(place, dir)| {
            let _lock = lock(&place.parent);
            put(&home(place, dir).join("cgroup.procs"), &pid.to_string())
        })
    }

    /// After the child's death: which limit it reached. Then removes the group.
    pub fn finish(&self) -> Option<Exceeded> {
        let exceeded = exceeded(&self.limits, &self.dirs);
        self.remove();
        exceeded
    }

    pub fn remove(&self) {
        self.dirs.iter().for_each(|dir| remove(dir));
    }
}

fn home(place: &Place, dir: &Path) -> PathBuf {
    if place.version == Version::Two { dir.join(LEAF) } else { dir.to_owned() }
}

fn create_at(place: &Place, dir: &Path) -> Result<()> {
    let _lock = lock(&place.parent);
    sweep(&place.parent, &own_prefix());
    match place.vacate {
        true => vacate(place)?,
        false => enable(&place.parent, &place.enable)?,
    }
    if place.version == Version::Two {
        // For other kinds of limits inside this one, which can get their controllers only from here.
        enable_others(&place.parent);
    }
    // One by our own pid is of an isolate that had it before, and was killed together with its guard.
    remove(dir);
    make(dir)?;
    for setting in &place.settings {
        let file = dir.join(setting.file);
        if !setting.optional || file.exists() {
            put(&file, &setting.value)?;
        }
    }
    if place.version == Version::Two {
        enable(dir, &place.controllers)?;
        enable_others(dir);
        let leaf = dir.join(LEAF);
        make(&leaf)?;
    }
    Ok(())
}

fn make(dir: &Path) -> Result<()> {
    create_dir(dir).map_err(|error| {
        let hint = why_refused::group(&error, dir);
        hinted(Error::new(error).context(dir.display().to_string()), hint)
    })
}

fn enable(dir: &Path, controllers: &[&str]) -> Result<()> {
    let file = dir.join("cgroup.subtree_control");
    controllers.iter().try_for_each(|controller| put(&file, &format!("+{controller}")))
}

fn enable_others(dir: &Path) {
    for controller in ["memory", "cpu", "pids"] {
        let _ = enable(dir, &[controller]);
    }
}

/// One isolate at a time moves processes of this group: from the list that it read one may have gone to a group with limits by
/// now, and must not be taken out of that. Anybody who sees the group can hold this lock, so it is not waited for without end.
fn lock(parent: &Path) -> Option<File> {
    const PATIENCE: Duration = Duration::from_secs(2);
    let dir = File::open(parent).ok()?;
    let begun = Instant::now();
    while lock_alone(&dir).is_err() {
        if begun.elapsed() > PATIENCE {
            return None;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Some(dir)
}

/// Moves every process of the group into a leaf, this one included. A process forked in between is in the group again:
/// then the kernel refuses to hand controllers down, and the next round moves it.
fn vacate(place: &Place) -> Result<()> {
    const ROUNDS: u32 = 100;
    let leaf = place.parent.join(WAITING);
    make(&leaf).or_else(|error| if leaf.exists() { Ok(()) } else { Err(error) })?;
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
        match enable(&place.parent, &place.enable) {
            Err(error) if round < ROUNDS && is_busy(&error) => {}
            result => return result,
        }
    }
    Ok(())
}

/// Whether the process is in this very group still: whoever else moves processes takes no lock.
fn is_in(group: &Path, unified: Option<&Mount>, pid: &str) -> bool {
    let now = unified.and_then(|mount| mount.dir_of(&groups_of(pid).ok()?).ok());
    now.is_none_or(|now| now == group)
}

fn is_busy(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<std::io::Error>();
    error.is_some_and(|error| error.kind() == ErrorKind::ResourceBusy)
}

fn put(file: &Path, value: &str) -> Result<()> {
    write(file, value).map_err(|error| {
        let hint = why_refused::value(&error, file);
        hinted(Error::new(error).context(format!("{}: {value}", file.display())), hint)
    })
}
