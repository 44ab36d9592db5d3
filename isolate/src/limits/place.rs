//! Where a new group goes: to the version of cgroups that has the controller, on a host with both to each for its own.
//! Always below the group that already limits the process.

use std::fs::read_to_string;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use chain::WithHint;
use nix::unistd::{AccessFlags, access, getpid};

use crate::limits::delegation::{Territory, territory};
use crate::limits::hierarchy::{Mount, groups_of, missing, mounts};
use crate::limits::setting::{Limits, Setting, Version};

/// A group to make below `parent`.
#[derive(Clone)]
pub struct Place {
    pub version: Version,
    pub controllers: Vec<&'static str>,
    pub parent: PathBuf,
    /// Controllers that `parent` must hand down first.
    pub enable: Vec<&'static str>,
    /// Processes that are in `parent`, or come into it meanwhile, must move to a group below it first.
    pub vacate: bool,
    pub settings: Vec<Setting>,
}

/// `who` is the process whose limits hold for the new group too: a pid, or `self`.
pub fn places(limits: &Limits, who: &str) -> Result<Vec<Place>> {
    let mounts = mounts()?;
    let groups = groups_of(who)?;
    let unified = mounts.iter().find(|mount| mount.version == Version::Two);
    let (two, one): (Vec<_>, Vec<_>) = limits
        .controllers()
        .into_iter()
        .partition(|name| unified.is_some_and(|mount| has(&mount.point, "cgroup.controllers", name)));
    let mut places = Vec::new();
    if let (Some(mount), false) = (unified, two.is_empty()) {
        let settings = two.iter().flat_map(|name| limits.settings(name, Version::Two)).collect();
        places.push(in_unified(mount, &mount.dir_of(&groups)?, two, settings)?);
    }
    for name in one {
        let mount = mounts.iter().find(|mount| mount.version == Version::One && mount.has(name));
        let parent = mount.ok_or_else(|| missing(name, &mounts))?.dir_of(&groups)?;
        let settings = limits.settings(name, Version::One);
        // Controllers of version 1 may share a hierarchy, as cpu and cpuacct often do.
        match places.iter_mut().find(|place: &&mut Place| place.version == Version::One && place.parent == parent) {
            Some(place) => {
                place.controllers.push(name);
                place.settings.extend(settings);
            }
            None => places.push(Place {
                version: Version::One,
                controllers: vec![name],
                parent,
                enable: Vec::new(),
                vacate: false,
                settings,
            }),
        }
    }
    Ok(places)
}

/// The nearest group that can hand the controllers down as it is; otherwise the nearest that can once
/// the processes in it have moved to a leaf (cgroups(7), "no internal processes").
fn in_unified(mount: &Mount, own: &Path, controllers: Vec<&'static str>, settings: Vec<Setting>) -> Result<Place> {
    let Territory { dirs, delegated } = territory(own, &mount.point)?;
    if let Some(&absent) = lacks(own_controllers(&dirs), &controllers).first() {
        return Err(missing(absent, std::slice::from_ref(mount)));
    }
    let writable = |path: &Path| access(path, AccessFlags::W_OK).is_ok();
    let mut occupied = false;
    for vacate in [false, true] {
        for dir in &dirs {
            if !writable(dir) || !writable(&dir.join("cgroup.procs")) {
                continue;
            }
            if !lacks(words(dir, "cgroup.controllers"), &controllers).is_empty() {
                continue;
            }
            let enable = lacks(words(dir, "cgroup.subtree_control"), &controllers);
            let inside = read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
            // The root of the hierarchy may have both processes and groups with controllers.
            let is_root = !dir.join("cgroup.type").exists();
            let ready = enable.is_empty() || is_root || inside.is_empty();
            let may_vacate = delegated.as_ref() == Some(dir) || inside.trim() == getpid().to_string();
            if ready || vacate && may_vacate {
                let (parent, vacate) = (dir.clone(), !ready || delegated.as_ref() == Some(dir));
                return Ok(Place { version: Version::Two, controllers, parent, enable, vacate, settings });
            }
            occupied = true;
        }
    }
    let what = match occupied {
        true => anyhow!("{}: there are processes in this cgroup, so it cannot be divided", own.display()),
        false => anyhow!("{}: this cgroup is not delegated to this user", own.display()),
    };
    Err(what).hint(format!(
        "run it where {} are delegated: systemd-run --user --scope -p Delegate=yes -- isolate …",
        controllers.join(", ")
    ))
}

/// The highest group's controllers: no group below can have more.
fn own_controllers(dirs: &[PathBuf]) -> Vec<String> {
    dirs.last().map(|dir| words(dir, "cgroup.controllers")).unwrap_or_default()
}

fn lacks(has: Vec<String>, wanted: &[&'static str]) -> Vec<&'static str> {
    wanted.iter().copied().filter(|name| !has.iter().any(|have| have == name)).collect()
}

fn has(dir: &Path, file: &str, name: &str) -> bool {
    words(dir, file).iter().any(|word| word == name)
}

fn words(dir: &Path, file: &str) -> Vec<String> {
    read_to_string(dir.join(file)).unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}
