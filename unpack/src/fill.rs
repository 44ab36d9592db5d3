//! Filling a staged tree from an image's layers, on threads that can do nothing else.

use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, anyhow};

use crate::budget::Limits;
use crate::confine::{Confinement, own_umask};
use crate::image::{Image, Kind, Verified};
use crate::layer::Layers;
use crate::tree::{Policy, Tree};
use crate::writers::Writers;

pub struct Filling<'a> {
    pub root: OwnedFd,
    pub image: &'a mut Image,
    pub policy: Arc<Policy>,
    pub limits: &'a Limits,
    pub threads: usize,
    pub epoch: i64,
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

    fn work(self) -> Result<Vec<Verified>> {
        own_umask()?;
        self.confinement.enter()?;
        let mut layers = Layers {
            tree: Tree::new(self.root, self.policy.clone(), self.epoch)?,
            writers: Writers::start(self.threads, &self.confinement)?,
            policy: &self.policy,
            limits: self.limits,
            gate: self.gate,
            progress: self.progress,
            layered: self.image.kind != Kind::RootFs,
            entries: 0,
            bytes: 0,
        };
        let mut verified = Vec::new();
        for layer in &mut self.image.layers {
            let mut apply = || -> Result<Verified> {
                let mut archive = layer.open(self.limits)?.entries(self.limits);
                layers.apply(&mut archive)?;
                archive.finish()?.finish()
            };
            let result = apply();
            verified.push(if layer.name.is_empty() { result? } else { result.with_context(|| layer.name.clone())? });
        }
        layers.tree.close()?;
        Ok(verified)
    }
}
