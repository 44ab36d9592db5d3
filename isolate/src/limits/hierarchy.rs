//! The mounted cgroup hierarchies, and where a process is in them (cgroups(7)).

use std::fs::read_to_string;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use chain::{WithHint, mountinfo};

use crate::limits::setting::Version;

/// A mounted hierarchy.
pub struct Mount {
    pub version: Version,
    /// Which group of the hierarchy is mounted here.
    root: PathBuf,
    pub point: PathBuf,
    options: Vec<String>,
}

impl Mount {
    pub fn has(&self, controller: &str) -> bool {
        self.options.iter().any(|option| option == controller)
    }

    /// The directory of the group that this /proc/PID/cgroup names, or an error: a group made elsewhere would escape the
    /// limits of the process.
    pub fn dir_of(&self, groups: &str) -> Result<PathBuf> {
        let path = groups.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (id, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
            let matches = match self.version {
                Version::Two => id == "0" && controllers.is_empty(),
                Version::One => !controllers.is_empty() && controllers.split(',').all(|name| self.has(name)),
            };
            matches.then(|| PathBuf::from(path))
        });
        let path = path.with_context(|| format!("{}: no group of this hierarchy is ours", self.point.display()))?;
        // A mount from outside the cgroup namespace: its root lies above ours (cgroup_namespaces(7)).
        if climbs(&self.root) || climbs(&path) {
            return Err(anyhow!(
                "{}: mounted from outside this cgroup namespace, so this process's group cannot be told",
                self.point.display()
            ))
            .hint("mount it again in here: mount -t cgroup2 cgroup2 /sys/fs/cgroup");
        }
        let dir = path.strip_prefix(&self.root).ok().map(|below| match below.as_os_str().is_empty() {
            true => self.point.clone(),
            false => self.point.join(below),
        });
        dir.filter(|dir| dir.join("cgroup.procs").exists())
            .with_context(|| {
                format!("{}: this process's group {} is not below it", self.point.display(), path.display())
            })
            .hint("the cgroup filesystem mounted here belongs to another container: mount this one's own")
    }
}

fn climbs(path: &Path) -> bool {
    path.components().any(|component| component == Component::ParentDir)
}

/// /proc/PID/cgroup; empty if the kernel has no cgroups.
pub fn groups_of(who: &str) -> Result<String> {
    let file = format!("/proc/{who}/cgroup");
    match read_to_string(&file) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        result => result.context(file),
    }
}

pub fn mounts() -> Result<Vec<Mount>> {
    let mount = |entry: mountinfo::Entry| {
        let version = match &entry.kind[..] {
            "cgroup" => Version::One,
            "cgroup2" => Version::Two,
            _ => return None,
        };
        let options = entry.options().map(|option| String::from_utf8_lossy(option).into_owned()).collect();
        Some(Mount { version, root: entry.root, point: entry.point, options })
    };
    Ok(mountinfo::read()?.into_iter().filter_map(mount).collect())
}

/// Why no hierarchy has this controller.
pub fn missing(controller: &str, mounts: &[Mount]) -> anyhow::Error {
    let known = read_to_string("/proc/cgroups").unwrap_or_default();
    let known = known.lines().any(|line| line.split_whitespace().next() == Some(controller));
    let (what, hint) = if mounts.is_empty() {
        ("no cgroups are mounted".to_owned(), "mount -t cgroup2 cgroup2 /sys/fs/cgroup".to_owned())
    } else if known {
        (
            format!("the cgroup controller {controller} is not handed down to this group"),
            format!(
                "a systemd unit gets it with Delegate={controller}, a user's session with the same in \
                 user@.service (systemctl edit user@.service)"
            ),
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
