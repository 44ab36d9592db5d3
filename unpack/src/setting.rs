//! What a whole run has in common, whether it makes one tree or many layers.

use std::sync::Arc;

use anyhow::Result;

use crate::args::Args;
use crate::budget::Limits;
use crate::confine::Confinement;
use crate::image::Layer;
use crate::interrupt::Interrupts;
use crate::populate::{Counted, Filling, What};
use crate::progress::Work;
use crate::stage::Stage;
use crate::tree::Policy;

pub struct Setting<'a> {
    pub args: &'a Args,
    pub limits: &'a Limits,
    pub interrupts: &'a Interrupts,
    pub work: &'a Arc<Work>,
    /// The time of directories without an entry.
    pub epoch: i64,
}

impl Setting<'_> {
    /// Layers into a staging directory.
    pub fn filling<'b>(
        &'b self,
        stage: &Stage,
        layers: &'b mut [Layer],
        what: What,
        counted: Counted,
        policy: Arc<Policy>,
    ) -> Result<Filling<'b>> {
        Ok(Filling {
            root: stage.open_tree()?,
            layers,
            what,
            counted,
            policy,
            limits: self.limits,
            threads: self.args.threads.map_or_else(processors, usize::from),
            epoch: self.epoch,
            confinement: Arc::new(Confinement::new(&stage.path())?),
            gate: &self.interrupts.gate,
            progress: &self.work.extracted,
        })
    }
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(8)
}
