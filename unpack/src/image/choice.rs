//! Which of an archive's images is meant: by name, then by platform.

use anyhow::{Result, anyhow};
use chain::WithHint;

use super::document::{Config, Descriptor, Object};
use super::platform::Platform;

pub(super) struct Candidate {
    /// Tags and annotated names.
    pub names: Vec<String>,
    pub platform: Option<Platform>,
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
    /// By a name, with or without docker's default tag, or by the digest that sets it apart, or its beginning.
    fn is_called(&self, wanted: &str) -> bool {
        let latest = format!("{wanted}:latest");
        let (id, hex) = (self.leaf.id(), self.leaf.id().split_once(':').map_or("", |(_, hex)| hex));
        self.names.iter().any(|name| *name == wanted || *name == latest)
            || id == wanted
            || (wanted.len() >= 12 && hex.starts_with(wanted))
    }

    fn shown_names(&self) -> Vec<String> {
        if self.names.is_empty() { vec![self.leaf.id().to_owned()] } else { self.names.clone() }
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
        return Err(anyhow!("there is no image in it"));
    }
    let there = listed(all.iter().flat_map(Candidate::shown_names));
    let mut left = all;
    if let Some(wanted) = reference {
        left.retain(|candidate| candidate.is_called(wanted));
        if left.is_empty() {
            return Err(anyhow!("there is no image {wanted:?} in it")).hint(format!("there is: {there}"));
        }
    }
    if platform.is_some() || !are_several(&left, |candidate| candidate.names.join(" ")) {
        by_platform(&mut left, platform)?;
    }
    if are_several(&left, |candidate| candidate.leaf.id().to_owned()) {
        return Err(anyhow!("there are several images in it")).hint(format!("choose one with --ref: {there}"));
    }
    Ok(left.swap_remove(0))
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
        return Err(anyhow!("there is no image for {wanted}{what} in it")).hint(if platforms.is_empty() {
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

/// A list for a message: each once, and not too many.
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
