//! What a group of processes may use, and how each version of cgroups is told so.

pub mod cgroup;
mod delegation;
pub mod exceeded;
mod hierarchy;
pub mod joined;
mod place;
mod removal;
pub mod rlimit;

use std::fmt;

use anyhow::Result;
use chain::shell::quote;

use crate::args::Args;
use crate::limits::cgroup::{Group, LEAF, WAITING};
use crate::limits::place::{Place, places};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub memory: Option<u64>,
    /// Thousandths of a processor.
    pub cpus: Option<u64>,
    pub pids: Option<u64>,
}

/// A file of the group, and what to write to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    pub file: &'static str,
    pub value: String,
    /// The kernel may be built without it.
    pub optional: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    One,
    Two,
}

impl Limits {
    pub fn of(args: &Args) -> Limits {
        Limits {
            memory: args.memory.map(|size| size.0),
            cpus: args.cpus.map(|cpus| cpus.0),
            pids: args.pids_max.map(|pids| pids.0),
        }
    }

    pub fn is_empty(&self) -> bool {
        *self == Limits::default()
    }

    /// The controllers that these limits need.
    pub fn controllers(&self) -> Vec<&'static str> {
        let wanted = [("memory", self.memory.is_some()), ("cpu", self.cpus.is_some()), ("pids", self.pids.is_some())];
        wanted.into_iter().filter_map(|(name, wanted)| wanted.then_some(name)).collect()
    }

    pub fn settings(&self, controller: &str, version: Version) -> Vec<Setting> {
        let setting = |file, value: String| Setting { file, value, optional: false };
        let optional = |file, value: String| Setting { file, value, optional: true };
        match (controller, version) {
            ("memory", version) => self.memory.map_or(Vec::new(), |bytes| match version {
                Version::Two => {
                    vec![setting("memory.max", bytes.to_string()), optional("memory.swap.max", "0".into())]
                }
                Version::One => vec![
                    // Before Linux 5.11 the limit would not hold for groups below this one.
                    optional("memory.use_hierarchy", "1".into()),
                    setting("memory.limit_in_bytes", bytes.to_string()),
                    optional("memory.memsw.limit_in_bytes", bytes.to_string()),
                ],
            }),
            ("cpu", version) => self.cpus.map_or(Vec::new(), |thousandths| {
                let quota = thousandths * 100;
                match version {
                    Version::Two => vec![setting("cpu.max", format!("{quota} 100000"))],
                    Version::One => vec![
                        setting("cpu.cfs_period_us", "100000".into()),
                        setting("cpu.cfs_quota_us", quota.to_string()),
                    ],
                }
            }),
            (_, _) => self.pids.map_or(Vec::new(), |pids| vec![setting("pids.max", pids.to_string())]),
        }
    }
}

/// The step: the limits and where they go.
pub struct Limit {
    limits: Limits,
    places: Vec<Place>,
}

impl Limit {
    /// `joins` is the process whose namespaces the child enters, if any: a limit inside its limits.
    pub fn plan(limits: Limits, joins: Option<i32>) -> Result<Limit> {
        let who = match joins {
            Some(pid) if !joined::limiting(pid)?.is_empty() => pid.to_string(),
            _ => "self".into(),
        };
        Ok(Limit { places: places(&limits, &who)?, limits })
    }

    /// The group is made once there is somebody who removes it, whatever happens to us.
    pub fn group(&self) -> Group {
        Group::new(self.limits.clone(), self.places.clone())
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let mut lines = Vec::new();
        for place in &self.places {
            let parent = quote(&place.parent);
            let dir = format!("{parent}/isolate-$$");
            let version = if place.version == Version::Two { 2 } else { 1 };
            lines.push(format!("# cgroup version {version}: {}; afterwards: rmdir", place.controllers.join(", ")));
            if place.vacate {
                lines.push(format!("mkdir -p {parent}/{WAITING}"));
                lines.push(format!(
                    "for pid in $(cat {parent}/cgroup.procs); do echo $pid >{parent}/{WAITING}/cgroup.procs; done"
                ));
            }
            let enable = |dir: &str, controllers: &[&str]| {
                controllers.iter().map(|name| format!("echo +{name} >{dir}/cgroup.subtree_control")).collect::<Vec<_>>()
            };
            lines.extend(enable(&parent.to_string(), &place.enable));
            lines.push(format!("mkdir {dir}"));
            for Setting { file, value, optional } in &place.settings {
                let test = if *optional { format!("[ ! -e {dir}/{file} ] || ") } else { String::new() };
                lines.push(format!("{test}echo {} >{dir}/{file}", quote(value)));
            }
            match place.version {
                Version::One => lines.push(format!("echo $$ >{dir}/cgroup.procs")),
                Version::Two => {
                    lines.extend(enable(&dir, &place.controllers));
                    lines.push(format!("mkdir {dir}/{LEAF}"));
                    lines.push(format!("echo $$ >{dir}/{LEAF}/cgroup.procs"));
                }
            }
        }
        f.write_str(&lines.join("\n"))
    }
}
