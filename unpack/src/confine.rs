//! A second wall: the threads that make and write files can do so only below the staging directory,
//! whatever path they are handed. openat2 is the containment; this catches our own mistakes.

use std::path::Path;

use anyhow::{Context, Result};
use landlock::{
    ABI, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr,
};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, umask};

/// Landlock rules, made once and entered by each worker. The thread that renames the result and becomes COMMAND stays
/// out: a confined process can neither mount nor pivot.
pub struct Confinement(Option<RulesetCreated>);

impl Confinement {
    /// Allows writing only below `staging`. Does nothing if the kernel has no Landlock, or one that would forbid links
    /// between directories (before ABI 2, Linux 5.19).
    pub fn new(staging: &Path) -> Result<Confinement> {
        let changing = AccessFs::from_write(ABI::V3);
        let rules = Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(AccessFs::from_write(ABI::V2))
            .and_then(|rules| rules.set_compatibility(CompatLevel::BestEffort).handle_access(changing))
            .and_then(|rules| rules.create());
        let Ok(rules) = rules else { return Ok(Confinement(None)) };
        let below = PathFd::new(staging).context("confine the workers")?;
        let rules = rules.add_rule(PathBeneath::new(below, changing)).context("confine the workers")?;
        Ok(Confinement(Some(rules)))
    }

    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Confines the calling thread and those that it starts, for good.
    pub fn enter(&self) -> Result<()> {
        match &self.0 {
            Some(rules) => {
                rules.try_clone().context("confine a worker")?.restrict_self().context("confine a worker").map(drop)
            }
            None => Ok(()),
        }
    }
}

/// Threads share the umask and the like until one takes its own: unshare(2).
pub fn own_umask() -> Result<()> {
    unshare(CloneFlags::CLONE_FS).context("a umask of a worker's own")?;
    umask(Mode::empty());
    Ok(())
}
