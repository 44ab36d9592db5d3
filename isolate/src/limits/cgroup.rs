//! A cgroup for the child: made with its limits, asked afterwards which one was reached, and always removed.

use std::path::{Path, PathBuf};

use anyhow::Result;
use nix::unistd::Pid;

use crate::limits::exceeded::{Exceeded, exceeded};
use crate::limits::files::{enable, enable_others, make, put};
use crate::limits::name::{LEAF, own_name, own_prefix};
use crate::limits::place::Place;
use crate::limits::removal::{remove, sweep};
use crate::limits::room::{lock, make_room, take_back};
use crate::limits::setting::{Limits, Version};

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
            let _lock = lock(place)?;
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
        self.places.iter().filter(|place| place.vacate).for_each(take_back);
    }
}

fn home(place: &Place, dir: &Path) -> PathBuf {
    if place.version == Version::Two { dir.join(LEAF) } else { dir.to_owned() }
}

fn create_at(place: &Place, dir: &Path) -> Result<()> {
    let _lock = lock(place)?;
    sweep(&place.parent, &own_prefix());
    match place.vacate {
        true => make_room(place)?,
        false => enable(&place.parent, &place.enable)?,
    }
    if place.version == Version::Two {
        enable_others(&place.parent);
    }
    // One by our own pid is of an isolate that had it before, and was killed together with its guard.
    remove(dir);
    make(dir, 0o777)?;
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
        make(&leaf, 0o777)?;
    }
    Ok(())
}
