//! What a group of processes may use, and the files that say so in each version of cgroups.

use crate::args::Args;

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
    /// A kernel may lack it.
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
