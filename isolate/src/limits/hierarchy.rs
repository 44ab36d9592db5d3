//! Where a new cgroup goes: version 2 where it has the controllers, version 1 where that has them,
//! each for its own on a host with both (cgroups(7)).

use std::ffi::OsStr;
use std::fs::{read_dir, read_to_string};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use chain::WithHint;
use nix::unistd::{AccessFlags, access, getpid};

use crate::limits::{Limits, Setting, Version};

/// A group to make below `parent`.
pub struct Place {
    pub version: Version,
    pub controllers: Vec<&'static str>,
    pub parent: PathBuf,
    /// Controllers that `parent` has to hand down first.
    pub enable: Vec<&'static str>,
    /// This process is the only one in `parent`, and has to leave it first.
    pub alone: bool,
    pub settings: Vec<Setting>,
}

pub fn places(limits: &Limits) -> Result<Vec<Place>> {
    let mounts = mounts().context("/proc/self/mountinfo")?;
    let own = read_to_string("/proc/self/cgroup").context("/proc/self/cgroup")?;
    let unified = mounts.iter().find(|mount| mount.version == Version::Two).map(|mount| mount.own_dir(&own));
    let available = unified.as_deref().map(|dir| words(dir, "cgroup.controllers")).unwrap_or_default();
    let (two, one): (Vec<_>, Vec<_>) =
        limits.controllers().into_iter().partition(|&name| available.iter().any(|have| have == name));
    let mut places = Vec::new();
    if let (Some(dir), false) = (&unified, two.is_empty()) {
        let settings = two.iter().flat_map(|name| limits.settings(name, Version::Two)).collect();
        places.push(in_unified(dir, two, settings)?);
    }
    for name in one {
        let mount = mounts.iter().find(|mount| mount.version == Version::One && mount.has(name));
        let parent = mount.ok_or_else(|| missing(name, &mounts))?.own_dir(&own);
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
                alone: false,
                settings,
            }),
        }
    }
    Ok(places)
}

/// The own group of version 2, or the nearest one above it, that can hand the controllers down.
fn in_unified(own: &Path, controllers: Vec<&'static str>, settings: Vec<Setting>) -> Result<Place> {
    let mut place = Place {
        version: Version::Two,
        controllers,
        parent: own.to_owned(),
        enable: Vec::new(),
        alone: false,
        settings,
    };
    for dir in own.ancestors().take_while(|dir| dir.join("cgroup.procs").exists()) {
        let writable = |path: &Path| access(path, AccessFlags::W_OK).is_ok();
        if !writable(dir) || !writable(&dir.join("cgroup.procs")) {
            continue;
        }
        let handed = words(dir, "cgroup.subtree_control");
        let has = words(dir, "cgroup.controllers");
        let lacks = |list: &[String]| {
            place.controllers.iter().copied().filter(|name| !list.iter().any(|have| have == name)).collect::<Vec<_>>()
        };
        if !lacks(&has).is_empty() {
            continue;
        }
        let enable = lacks(&handed);
        let inside = read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
        let only_us = inside.trim() == getpid().to_string();
        // The root of the hierarchy may have both processes and groups with controllers.
        let is_root = !dir.join("cgroup.type").exists();
        if enable.is_empty() || is_root || inside.is_empty() || only_us {
            place.alone = only_us && !enable.is_empty() && !is_root;
            place.enable = enable;
            place.parent = dir.to_owned();
            return Ok(place);
        }
    }
    Err(anyhow!("{}: this cgroup may not be divided, nor one above it", own.display())).hint(format!(
        "run it where {} are delegated: systemd-run --user --scope -p Delegate=yes -- isolate …",
        place.controllers.join(", ")
    ))
}

/// The groups of a process that an isolate made for its limits, or that lie below such a one, where
/// this process is not in them.
pub fn limiting(pid: i32) -> Result<Vec<PathBuf>> {
    let of = |who: &str| match read_to_string(format!("/proc/{who}/cgroup")) {
        // The kernel has none.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        result => result.with_context(|| format!("/proc/{who}/cgroup")),
    };
    let (own, theirs) = (of("self")?, of(&pid.to_string())?);
    let is_ours = |name: &OsStr| {
        let name = name.to_str().and_then(|name| name.strip_prefix("isolate-"));
        name.is_some_and(|name| name.starts_with(|c: char| c.is_ascii_digit()))
    };
    let mut groups: Vec<PathBuf> = Vec::new();
    for mount in mounts()? {
        let dir = mount.own_dir(&theirs);
        if dir.iter().any(is_ours) && dir != mount.own_dir(&own) && !groups.contains(&dir) {
            groups.push(dir);
        }
    }
    Ok(groups)
}

fn missing(controller: &str, mounts: &[Mount]) -> anyhow::Error {
    let known = read_to_string("/proc/cgroups").unwrap_or_default();
    let known = known.lines().any(|line| line.split_whitespace().next() == Some(controller));
    let (what, hint) = if mounts.is_empty() {
        ("no cgroups are mounted".to_owned(), "mount -t cgroup2 cgroup2 /sys/fs/cgroup".to_owned())
    } else if known {
        (
            format!("the cgroup controller {controller} is not to be had here"),
            "it is in no version 1 hierarchy that is mounted, and version 2 does not hand it down to this group".into(),
        )
    } else {
        let config = match controller {
            "memory" => "CONFIG_MEMCG",
            "cpu" => "CONFIG_CFS_BANDWIDTH",
            _ => "CONFIG_CGROUP_PIDS",
        };
        (
            format!("this kernel has no cgroup controller {controller}"),
            format!("it must be built with {config}, and not be started with cgroup_disable={controller}"),
        )
    };
    anyhow!("{what}").context(chain::Hint(hint))
}

fn words(dir: &Path, file: &str) -> Vec<String> {
    read_to_string(dir.join(file)).unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

/// A mounted hierarchy.
struct Mount {
    version: Version,
    /// What of the hierarchy is mounted here.
    root: PathBuf,
    point: PathBuf,
    options: String,
}

impl Mount {
    fn has(&self, controller: &str) -> bool {
        self.options.split(',').any(|option| option == controller)
    }

    /// The directory of the group that we are in, or of the nearest that can be seen.
    fn own_dir(&self, own: &str) -> PathBuf {
        let path = own.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (id, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
            let ours = match self.version {
                Version::Two => id == "0" && controllers.is_empty(),
                Version::One => !controllers.is_empty() && controllers.split(',').all(|name| self.has(name)),
            };
            ours.then(|| PathBuf::from(path))
        });
        let below = path.as_deref().and_then(|path| path.strip_prefix(&self.root).ok());
        let dir = match below {
            Some(below) if below.as_os_str() != "" => self.point.join(below),
            _ => self.point.clone(),
        };
        if read_dir(&dir).is_ok() { dir } else { self.point.clone() }
    }
}

fn mounts() -> Result<Vec<Mount>> {
    let table = read_to_string("/proc/self/mountinfo")?;
    let mount = |line: &str| {
        let (front, back) = line.split_once(" - ")?;
        let mut front = front.split(' ').skip(3);
        let (root, point) = (front.next()?, front.next()?);
        let mut back = back.split(' ');
        let version = match back.next()? {
            "cgroup" => Version::One,
            "cgroup2" => Version::Two,
            _ => return None,
        };
        let options = back.nth(1)?.to_owned();
        Some(Mount { version, root: root.into(), point: point.into(), options })
    };
    Ok(table.lines().filter_map(mount).collect())
}
