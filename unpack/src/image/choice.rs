//! Which of an archive's images is meant: by name, then by platform.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use anyhow::{Result, anyhow};
use chain::WithHint;

use super::document::{Config, Descriptor, Object};
use super::platform::Platform;
use crate::digest::Digest;

pub(super) struct Candidate {
    /// Tags and annotated names.
    pub names: Vec<String>,
    pub platform: Option<Platform>,
    /// Those by which it can be asked for: its manifest's, its config's, and of the indexes that it is in.
    pub digests: Vec<String>,
    /// No image, but about one: a signature, an attestation.
    pub refers: bool,
    pub leaf: Leaf,
}

pub(super) enum Leaf {
    Docker {
        config: Config,
        layers: Vec<String>,
    },
    Manifest {
        descriptor: Descriptor,
        manifest: Object,
    },
    /// Listed, but not in the archive.
    Missing(Descriptor),
}

impl Candidate {
    /// By a name, with or without docker's default tag, or by a digest, or the beginning of one.
    fn is_called(&self, wanted: &str) -> bool {
        let latest = format!("{wanted}:latest");
        let begins = |digest: &str| digest.split_once(':').is_some_and(|(_, hex)| hex.starts_with(wanted));
        self.names.iter().any(|name| *name == wanted || *name == latest)
            || self.digests.iter().any(|digest| digest == wanted || (wanted.len() >= 12 && begins(digest)))
    }

    /// A value of `--ref` that selects it and no other.
    fn told_apart(&self, all: &[Candidate]) -> Vec<String> {
        let others = |name: &&String| {
            all.iter().any(|other| other.leaf.id() != self.leaf.id() && other.names.iter().any(|other| other == *name))
        };
        let own: Vec<String> = self.names.iter().filter(|name| !others(name)).cloned().collect();
        if own.is_empty() { vec![self.leaf.id().to_owned()] } else { own }
    }
}

impl Leaf {
    /// Two leaves of one image have the same one.
    fn id(&self) -> &str {
        match self {
            Leaf::Docker { config, .. } => config.digest.as_str(),
            Leaf::Manifest { descriptor, .. } | Leaf::Missing(descriptor) => descriptor.digest.as_str(),
        }
    }

    fn is_missing(&self) -> bool {
        matches!(self, Leaf::Missing(_))
    }
}

pub(super) fn choose(all: Vec<Candidate>, reference: Option<&str>, platform: Option<&Platform>) -> Result<Candidate> {
    if all.is_empty() {
        return Err(anyhow!("contains no image"));
    }
    let mut left = merged(all);
    if let Some(wanted) = reference {
        let digest = wanted.parse::<Digest>().is_ok();
        let there = listed(left.iter().filter(|candidate| !candidate.refers).flat_map(|candidate| {
            if digest || candidate.names.is_empty() { &candidate.digests } else { &candidate.names }.iter().cloned()
        }));
        left.retain(|candidate| candidate.is_called(wanted));
        if left.is_empty() {
            return Err(anyhow!("contains no image {wanted:?}")).hint(format!("it contains: {there}"));
        }
    }
    if left.iter().any(|candidate| !candidate.refers) {
        left.retain(|candidate| !candidate.refers);
    }
    if platform.is_some() || !are_several(&left, |candidate| candidate.names.join(" ")) {
        by_platform(&mut left, platform)?;
    }
    if are_several(&left, |candidate| candidate.leaf.id().to_owned()) {
        let there = listed(left.iter().flat_map(|candidate| candidate.told_apart(&left)));
        return Err(anyhow!("contains several images")).hint(format!("choose one with --ref: {there}"));
    }
    Ok(left.swap_remove(0))
}

/// Each image once, with all of its names: tags of one index name the same images.
fn merged(all: Vec<Candidate>) -> Vec<Candidate> {
    let mut merged: Vec<Candidate> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for candidate in all {
        let key = format!("{} {:?}", candidate.leaf.id(), candidate.platform);
        match places.entry(key) {
            Entry::Vacant(place) => {
                place.insert(merged.len());
                merged.push(candidate);
            }
            Entry::Occupied(place) => {
                let first = &mut merged[*place.get()];
                first.refers &= candidate.refers;
                for (list, more) in [(&mut first.names, candidate.names), (&mut first.digests, candidate.digests)] {
                    list.extend(more);
                    list.sort();
                    list.dedup();
                }
            }
        }
    }
    merged
}

fn are_several(candidates: &[Candidate], what: impl Fn(&Candidate) -> String) -> bool {
    candidates.windows(2).any(|pair| what(&pair[0]) != what(&pair[1]))
}

/// Leaves the images of the platform that was asked for, or else of this machine's.
fn by_platform(left: &mut Vec<Candidate>, asked: Option<&Platform>) -> Result<()> {
    let platforms = listed(left.iter().filter_map(|candidate| candidate.platform.as_ref()).map(Platform::to_string));
    let wanted = asked.cloned().unwrap_or_else(Platform::host);
    let fits = |candidate: &Candidate| candidate.platform.as_ref().is_some_and(|platform| platform.fits(&wanted));
    // One image is taken whatever it is for, and so is one that does not say, unless a platform was asked for.
    let one = !are_several(left, |candidate| candidate.leaf.id().to_owned());
    if asked.is_none() && (one || left.iter().all(|candidate| candidate.platform.is_none())) {
        return Ok(());
    }
    left.retain(fits);
    if left.is_empty() {
        let what = if asked.is_some() { "" } else { ", this machine's platform" };
        return Err(anyhow!("contains no image for {wanted}{what}")).hint(if platforms.is_empty() {
            "none says what it is for".to_owned()
        } else {
            format!("choose one with --platform: {platforms}")
        });
    }
    let present = left.iter().filter(|candidate| !candidate.leaf.is_missing()).count();
    if present > 0 {
        left.retain(|candidate| !candidate.leaf.is_missing());
    }
    let best = left.iter().filter_map(|candidate| candidate.platform.as_ref()).map(Platform::rank).min();
    left.retain(|candidate| candidate.platform.as_ref().map(Platform::rank) == best);
    Ok(())
}

/// A list for a message: without repetitions, and cut off.
fn listed(words: impl Iterator<Item = String>) -> String {
    let mut words: Vec<String> = words.collect();
    words.sort();
    words.dedup();
    let more = words.len().saturating_sub(20);
    words.truncate(20);
    if more > 0 {
        words.push(format!("and {more} more"));
    }
    words.join(", ")
}
