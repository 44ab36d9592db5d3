//! Limits for a group of processes: the step that sets them.

pub mod cgroup;
mod delegation;
pub mod exceeded;
mod files;
pub mod hierarchy;
pub mod joined;
mod name;
mod place;
mod removal;
pub mod rlimit;
mod room;
mod setting;
mod why_refused;

use std::fmt;

use anyhow::Result;
use chain::shell::quote;

use crate::limits::cgroup::Group;
use crate::limits::name::{LEAF, WAITING};
use crate::limits::place::{Place, places};
use crate::limits::setting::{Setting, Version};

pub use crate::limits::setting::Limits;

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

    /// Not made yet: first there must be a process that removes it, whatever happens to this one.
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
                lines.push(format!("mkdir -p -m 711 {parent}/{WAITING}"));
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
