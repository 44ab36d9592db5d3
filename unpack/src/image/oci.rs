//! OCI image layouts: index.json names manifests, or indexes of them, and everything else lies in
//! blobs/ under its digest.

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::choice::{Candidate, Leaf};
use super::document::{self, Config, Descriptor, Object};
use super::layer::Layer;
use super::members::Members;
use super::platform::Platform;
use crate::digest::Digest;

/// Indexes in indexes: one level is common, two are known.
const DEEPEST: usize = 8;
/// Descriptors in all indexes together.
const MOST: usize = 10_000;

/// The images of index.json; None where this is no layout.
pub(super) fn candidates(members: &Members) -> Result<Option<Vec<Candidate>>> {
    let (Some(marker), Some(index)) = (document::read(members, "oci-layout")?, document::read(members, "index.json")?)
    else {
        return Ok(None);
    };
    let (Ok(marker), Ok(index)) = (document::object("oci-layout", &marker), document::object("index.json", &index))
    else {
        return Ok(None);
    };
    match document::text(&marker, "imageLayoutVersion") {
        Ok(Some(version)) if version.starts_with("1.") => {}
        Ok(Some(version)) => bail!("oci-layout: version {version:?} is not known here"),
        _ => return Ok(None),
    }
    let mut walk = Walk { members, found: Vec::new(), seen: 0 };
    walk.index(&index, "index.json", &Inherited::default(), 0)?;
    Ok(Some(walk.found))
}

/// What an index's descriptor says about all images in it.
#[derive(Clone, Default)]
struct Inherited {
    names: Vec<String>,
    platform: Option<Platform>,
}

struct Walk<'a> {
    members: &'a Members,
    found: Vec<Candidate>,
    seen: usize,
}

impl Walk<'_> {
    fn index(&mut self, index: &Object, name: &str, inherited: &Inherited, depth: usize) -> Result<()> {
        one_kind(index, name)?;
        if depth > DEEPEST {
            bail!("{name}: more than {DEEPEST} indexes inside each other");
        }
        for value in document::list(index, "manifests").with_context(|| name.to_owned())? {
            self.seen += 1;
            if self.seen > MOST {
                bail!("{name}: more than {MOST} manifests");
            }
            let descriptor = Descriptor::parse(value).with_context(|| name.to_owned())?;
            // BuildKit's signed statements about an image lie beside it as if they were one.
            let attestation = descriptor.annotation("vnd.docker.reference.type") == Some("attestation-manifest");
            let nowhere =
                descriptor.platform.as_ref().is_some_and(|p| p.os == "unknown" && p.architecture == "unknown");
            if !attestation && !nowhere {
                self.descriptor(descriptor, inherited, depth)?;
            }
        }
        Ok(())
    }

    fn descriptor(&mut self, descriptor: Descriptor, inherited: &Inherited, depth: usize) -> Result<()> {
        let annotated = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];
        let mut names = inherited.names.clone();
        names.extend(annotated.iter().filter_map(|key| descriptor.annotation(key)).map(str::to_owned));
        let platform = descriptor.platform.clone().or_else(|| inherited.platform.clone());
        // docker save lists all of a multi-platform image and stores what it has: what is missing is an error
        // only where it is chosen, unless it is an index and so hides what could be.
        let stored = self.members.get(&descriptor.path()).with_context(|| descriptor.digest.to_string())?.is_some();
        let is_index = descriptor.media_type.ends_with("image.index.v1+json")
            || descriptor.media_type.ends_with("manifest.list.v2+json");
        if !stored && !is_index {
            self.found.push(Candidate { names, platform, leaf: Leaf::Missing(descriptor) });
            return Ok(());
        }
        let bytes = document::blob(self.members, &descriptor, "manifest")?;
        let name = format!("manifest {}", descriptor.digest);
        let object = document::object(&name, &bytes)?;
        one_kind(&object, &name)?;
        let own = document::text(&object, "mediaType").with_context(|| name.clone())?.unwrap_or_default();
        if !own.is_empty() && !descriptor.media_type.is_empty() && own != descriptor.media_type {
            bail!("{name}: calls itself {own:?} where it is announced as {:?}", descriptor.media_type);
        }
        if object.contains_key("manifests") {
            return self.index(&object, &name, &Inherited { names, platform }, depth + 1);
        }
        self.found.push(Candidate { names, platform, leaf: Leaf::Manifest { descriptor, manifest: object } });
        Ok(())
    }
}

/// A document that is both a manifest and an index is a different image to different readers.
fn one_kind(object: &Object, name: &str) -> Result<()> {
    let has = |key: &str| object.get(key).is_some_and(|value| !value.is_null());
    if has("manifests") && (has("layers") || has("config") || has("fsLayers")) {
        bail!("{name}: is a manifest and an index at once");
    }
    Ok(())
}

/// A manifest's config, whole and verified.
pub(super) fn config(members: &Members, manifest: &Object, name: &str) -> Result<Config> {
    let value = manifest.get("config").filter(|value| !value.is_null());
    let value = value.with_context(|| format!("{name}: no image's manifest: it has no config"))?;
    let descriptor = Descriptor::parse(value).with_context(|| format!("{name}: config"))?;
    let bytes = document::blob(members, &descriptor, "config")?;
    let mut config = Config::parse(&format!("config {}", descriptor.digest), bytes)?;
    config.digest = descriptor.digest;
    Ok(config)
}

pub(super) fn layers(members: &Members, manifest: &Object, config: &Config, name: &str) -> Result<Vec<Layer>> {
    let layers = document::list(manifest, "layers").with_context(|| name.to_owned())?;
    if layers.len() != config.diff_ids.len() {
        bail!("{name}: {} layers where the config has {}", layers.len(), config.diff_ids.len());
    }
    let layer = |(i, (value, diff_id)): (usize, (&Value, &Digest))| {
        let descriptor = Descriptor::parse(value).with_context(|| format!("{name}: layer {}", i + 1))?;
        let shown = format!("layer {} of {} ({})", i + 1, layers.len(), descriptor.digest);
        let region = members.get(&descriptor.path()).with_context(|| shown.clone())?;
        let Some(region) = region else {
            let why = if descriptor.elsewhere { "is only to be had from elsewhere" } else { "is missing" };
            bail!("{shown}: {why}");
        };
        if region.len() != descriptor.size {
            bail!("{shown}: has {} bytes where {} are announced", region.len(), descriptor.size);
        }
        Ok(Layer::stored(shown, region, Some(descriptor.digest), Some(diff_id.clone())))
    };
    layers.iter().zip(&config.diff_ids).enumerate().map(layer).collect()
}
