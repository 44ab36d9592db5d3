//! Filling a staged tree from an image's layers, on threads that can do nothing else.

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::{Context, Result, anyhow};

use crate::budget::Limits;
use crate::confine::{Confinement, own_umask};
use crate::frame::Archive;
use crate::gate::Gate;
use crate::image::{Image, Kind, LayerStream, Verified};
use crate::layer::Layers;
use crate::source::FileSystem;
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
    pub gate: &'a Arc<Gate>,
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
        let root = self.root.try_clone()?;
        let (tree, writers) = tree_with_writers(root, self.policy.clone(), self.epoch, self.threads, self.gate)?;
        let mut layers = Layers {
            tree,
            writers,
            policy: &self.policy,
            limits: self.limits,
            gate: self.gate,
            progress: self.progress,
            layered: self.image.kind != Kind::RootFs,
            entries: 0,
            bytes: 0,
        };
        let stored = &mut self.image.layers;
        let mut verified = vec![Verified::default(); stored.len()];
        // Each layer is read ahead while the one before it is applied, and what is left of its digest is worked out
        // while the one after it is.
        let near = FileSystem::of(layers.tree.root())?;
        let mut open = |number: usize| {
            let layer = stored.get_mut(number)?;
            let archive = layer.open(self.limits, Some(&near)).map(|stream| stream.entries(self.limits));
            Some((number, layer.name.clone(), archive))
        };
        let mut bytes = 0;
        let mut finish = |(number, name, archive): (usize, String, Archive<LayerStream>)| -> Result<()> {
            let checked = archive.finish().and_then(LayerStream::finish);
            verified[number] = of(&name, checked)?;
            bytes += verified[number].bytes;
            self.limits.within_layers(bytes)
        };
        let (mut next, mut applied) = (open(0), None);
        for step in 1.. {
            let Some((number, name, archive)) = std::mem::replace(&mut next, open(step)) else { break };
            let mut archive = of(&name, archive)?;
            let result = layers.apply(&mut archive);
            if let Some(before) = applied.replace((number, name.clone(), archive)) {
                finish(before)?;
            }
            of(&name, result)?;
        }
        applied.map_or(Ok(()), finish)?;
        layers.tree.close()?;
        Ok(verified)
    }
}

/// A tree, and the threads that make its files, for which it waits where it has to.
pub fn tree_with_writers(
    root: OwnedFd,
    policy: Arc<Policy>,
    epoch: i64,
    threads: usize,
    gate: &Arc<Gate>,
) -> Result<(Tree, Rc<RefCell<Writers>>)> {
    let writers = Rc::new(RefCell::new(Writers::start(threads, gate)?));
    let shared = writers.clone();
    let settle = Box::new(move || shared.borrow_mut().settle());
    Ok((Tree::new(root, policy, epoch, settle)?, writers))
}

/// A root file system's only layer has no name.
fn of<T>(layer: &str, result: Result<T>) -> Result<T> {
    if layer.is_empty() { result } else { result.with_context(|| layer.to_owned()) }
}
