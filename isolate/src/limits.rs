//! What a group of processes may use, and how each version of cgroups is told so.

pub mod cgroup;
pub mod hierarchy;
pub mod rlimit;

use std::fmt;

use anyhow::Result;
use chain::shell::quote;

use crate::args::Args;
use crate::limits::cgroup::Group;
use crate::limits::hierarchy::{Place, places};
use crate::state::State;

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
        Limits { memory: args.memory.map(|size| size.0), cpus: args.cpus.map(|cpus| cpus.0), pids: args.pids_max }
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
    pub fn plan(limits: Limits) -> Result<Limit> {
        Ok(Limit { places: places(&limits)?, limits })
    }

    pub fn perform(&self, state: &mut State) -> Result<()> {
        state.group = Some(Group::create(&self.limits, &self.places)?);
        Ok(())
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let mut lines = Vec::new();
        for place in &self.places {
            let dir = format!("{}/isolate-$$", quote(&place.parent));
            let version = if place.version == Version::Two { 2 } else { 1 };
            lines.push(format!("# cgroup version {version}: {}; afterwards: rmdir", place.controllers.join(", ")));
            for controller in &place.enable {
                lines.push(format!("echo +{controller} >{}/cgroup.subtree_control", quote(&place.parent)));
            }
            lines.push(format!("mkdir {dir}"));
            for Setting { file, value, optional } in &place.settings {
                let test = if *optional { format!("[ ! -e {dir}/{file} ] || ") } else { String::new() };
                lines.push(format!("{test}echo {} >{dir}/{file}", quote(value)));
            }
            lines.push(format!("echo $$ >{dir}/cgroup.procs"));
        }
        f.write_str(&lines.join("\n"))
    }
}
