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
use crate::image::{Layer, LayerStream, Verified};
use crate::layer::Layers;
use crate::source::FileSystem;
use crate::tree::{Needs, Policy, Tree};
use crate::writers::Writers;

pub struct Filling<'a> {
    pub root: OwnedFd,
    /// Base first.
    pub layers: &'a mut [Layer],
    pub what: What,
    /// What the image's layers asked for before these.
    pub counted: Counted,
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

/// What is filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A plain root filesystem, where whiteouts have no meaning.
    RootFs,
    /// Layers, one over the other.
    Flat,
    /// One layer without those below it.
    Alone,
}

/// What layers have asked for so far, weighed by its cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counted {
    pub entries: u64,
    /// Of files,
    pub bytes: u64,
    /// and of layers.
    pub plain: u64,
}

/// A tree that is whole.
pub struct Filled {
    /// What its layers were found to be.
    pub verified: Vec<Verified>,
    pub needs: Needs,
    pub counted: Counted,
}

impl Filling<'_> {
    /// Makes the whole tree.
    pub fn run(self) -> Result<Filled> {
        std::thread::scope(|scope| {
            let worker = std::thread::Builder::new().name("extract".into()).spawn_scoped(scope, move || self.work());
            worker.context("start a thread")?.join().unwrap_or_else(|_| Err(anyhow!("the extracting thread died")))
        })
    }

    fn work(self) -> Result<Filled> {
        own_umask()?;
        self.confinement.enter()?;
        let root = self.root.try_clone()?;
        let (tree, writers) = tree_with_writers(root, self.policy.clone(), self.epoch, self.threads, self.gate)?;
        let tree = if self.what == What::Alone { tree.alone() } else { tree };
        let mut layers = Layers {
            tree,
            writers,
            policy: &self.policy,
            limits: self.limits,
            gate: self.gate,
            progress: self.progress,
            layered: self.what != What::RootFs,
            entries: self.counted.entries,
            bytes: self.counted.bytes,
        };
        let stored = self.layers;
        let mut verified = vec![Verified::default(); stored.len()];
        // Each layer is read ahead while the one before it is applied, and what is left of its digest is worked out
        // while the one after it is.
        let near = FileSystem::of(layers.tree.root())?;
        let mut open = |number: usize| {
            let layer = stored.get_mut(number)?;
            let archive = layer.open(self.limits, Some(&near)).map(|stream| stream.entries(self.limits));
            Some((number, layer.name.clone(), archive))
        };
        let mut plain = self.counted.plain;
        let mut finish = |(number, name, archive): (usize, String, Archive<LayerStream>)| -> Result<()> {
            let checked = archive.finish().and_then(LayerStream::finish);
            verified[number] = of(&name, checked)?;
            plain += verified[number].bytes;
            self.limits.within_layers(plain)
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
        let needs = layers.finish_alone()?;
        let counted = Counted { entries: layers.entries + layers.tree.implied(), bytes: layers.bytes, plain };
        layers.tree.close()?;
        Ok(Filled { verified, needs, counted })
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
