//! Filling a staged tree from an image's layers, on threads that can do nothing else.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, anyhow};

use crate::above::{Above, OutOfOrder};
use crate::budget::Limits;
use crate::confine::{Confinement, own_umask};
use crate::image::{Image, Kind, Verified};
use crate::layer::Layers;
use crate::tree::{Policy, Tree};
use crate::writers::Writers;

/// In which order layers are applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As they were made: each hides some of what is there.
    BaseFirst,
    /// So that nothing hidden is written; from the base up where layers depend on each other too much for that.
    NewestFirst,
}

pub struct Filling<'a> {
    pub root: OwnedFd,
    pub image: &'a mut Image,
    pub policy: Arc<Policy>,
    pub limits: &'a Limits,
    pub threads: usize,
    pub epoch: i64,
    pub order: Order,
    pub confinement: Arc<Confinement>,
    /// Held while the tree changes.
    pub gate: &'a Mutex<()>,
    /// Bytes of files so far.
    pub progress: &'a AtomicU64,
}

impl Filling<'_> {
    /// Makes the whole tree and says what its layers were found to be.
    pub fn run(self) -> Result<Vec<Verified>> {
        std::thread::scope(|scope| {
            let worker = std::thread::Builder::new().name("extract".into()).spawn_scoped(scope, move || self.work());
            worker.context("start a thread")?.join().unwrap_or_else(|_| Err(anyhow!("the extracting thread died")))
        })
    }

    fn work(mut self) -> Result<Vec<Verified>> {
        own_umask()?;
        self.confinement.enter()?;
        if self.order == Order::NewestFirst && self.image.layers.len() > 1 {
            match self.attempt(Order::NewestFirst) {
                Err(error) if error.downcast_ref::<OutOfOrder>().is_some() => {
                    // As the image specification has it, which always works.
                    let _gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
                    Tree::reset(self.root.as_fd()).context("begin anew")?;
                    self.policy.ledger.clear();
                    self.policy.setuid.store(0, Ordering::Relaxed);
                }
                result => return result,
            }
        }
        self.attempt(Order::BaseFirst)
    }

    fn attempt(&mut self, order: Order) -> Result<Vec<Verified>> {
        let mut tree = Tree::new(self.root.try_clone()?, self.policy.clone(), self.epoch)?;
        let newest_first = order == Order::NewestFirst;
        if newest_first {
            tree = tree.newest_first();
        }
        let mut layers = Layers {
            tree,
            writers: Writers::start(self.threads, &self.confinement)?,
            policy: &self.policy,
            limits: self.limits,
            gate: self.gate,
            progress: self.progress,
            layered: self.image.kind != Kind::RootFs,
            above: newest_first.then(Above::default),
            entries: 0,
            bytes: 0,
        };
        let count = self.image.layers.len();
        let mut verified = vec![Verified::default(); count];
        for step in 0..count {
            let number = if newest_first { count - 1 - step } else { step };
            if let Some(above) = &mut layers.above {
                above.lowest = number == 0;
            }
            let layer = &mut self.image.layers[number];
            let mut apply = || -> Result<Verified> {
                let mut archive = layer.open(self.limits)?.entries(self.limits);
                layers.apply(&mut archive)?;
                archive.finish()?.finish()
            };
            let result = apply();
            verified[number] =
                if layer.name.is_empty() { result? } else { result.with_context(|| layer.name.clone())? };
        }
        layers.tree.close()?;
        Ok(verified)
    }
}
