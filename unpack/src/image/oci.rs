//! OCI image layouts: index.json names manifests, or indexes of them, and everything else lies in
//! blobs/ under its digest.

use anyhow::{Context, Result, anyhow, bail};
use chain::WithHint;
use serde_json::Value;

use super::choice::{Candidate, Leaf};
use super::document::{self, Config, Descriptor, NoImage, Object};
use super::foreign;
use super::layer::Layer;
use super::members::Members;
use super::platform::Platform;
use crate::args::Format;
use crate::digest::Digest;
use crate::source::Region;
use crate::stream::Compression;

/// Indexes in indexes: one level is common, two are known.
const DEEPEST: usize = 8;
/// Descriptors in all indexes together.
const MOST: usize = 10_000;

/// index.json, where it is whole.
pub(super) fn index(members: &Members) -> Result<Object> {
    let bytes = document::read(members, "index.json")?;
    document::object("index.json", &bytes.context("is not an OCI layout: it has no index.json")?)
}

/// What index.json lists, in a layout that is whole.
pub(super) fn candidates(members: &Members) -> Result<Vec<Candidate>> {
    let marker = document::read(members, "oci-layout")?;
    let marker = marker.context("is not an OCI layout: it has no oci-layout, the file that marks one")?;
    let marker = document::object("oci-layout", &marker)?;
    match document::text(&marker, "imageLayoutVersion").context("oci-layout")? {
        Some(version) if version.starts_with("1.") => {}
        Some(version) => bail!("oci-layout: version {version:?} is not known here"),
        None => bail!("oci-layout: has no imageLayoutVersion"),
    }
    let mut walk = Walk { members, found: Vec::new(), seen: 0 };
    walk.index(&index(members)?, "index.json", &Inherited::default(), 0)?;
    Ok(walk.found)
}

/// What an index's descriptor says about all images in it.
#[derive(Clone, Default)]
struct Inherited {
    names: Vec<String>,
    /// Of the indexes on the way: a registry's name is often pinned to one.
    digests: Vec<String>,
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
            self.descriptor(descriptor, inherited, depth)?;
        }
        Ok(())
    }

    fn descriptor(&mut self, descriptor: Descriptor, inherited: &Inherited, depth: usize) -> Result<()> {
        let annotated = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];
        let mut names = inherited.names.clone();
        names.extend(annotated.iter().filter_map(|key| descriptor.annotation(key)).map(str::to_owned));
        let platform = descriptor.platform.clone().or_else(|| inherited.platform.clone());
        let mut digests = inherited.digests.clone();
        digests.push(descriptor.digest.to_string());
        // docker save lists all of a multi-platform image and stores what it has: what is missing is an error
        // only where it is chosen, unless it is an index and so hides what could be.
        let stored = self.members.get(&descriptor.path()).with_context(|| descriptor.digest.to_string())?.is_some();
        let is_index = descriptor.media_type.ends_with("image.index.v1+json")
            || descriptor.media_type.ends_with("manifest.list.v2+json");
        if !stored && !is_index {
            let refers = descriptor.refers();
            self.found.push(Candidate { names, platform, digests, refers, leaf: Leaf::Missing(descriptor) });
            return Ok(());
        }
        let bytes = document::blob(self.members, &descriptor, "manifest")?;
        let name = format!("manifest {}", descriptor.digest);
        let object = document::object(&name, &bytes)?;
        one_kind(&object, &name)?;
        // Its own media type may be another than its descriptor's, but not what it is.
        let lists = object.get("manifests").is_some_and(|value| !value.is_null());
        let is_manifest = descriptor.media_type.ends_with("manifest.v1+json")
            || descriptor.media_type.ends_with("distribution.manifest.v2+json");
        if (is_index && object.contains_key("config")) || (is_manifest && lists) {
            let kind = if lists { "an index" } else { "a manifest" };
            bail!("{name}: is {kind}, where it is announced as {:?}", descriptor.media_type);
        }
        if object.contains_key("manifests") {
            return self.index(&object, &name, &Inherited { names, digests, platform }, depth + 1);
        }
        let has = |key: &str| object.get(key).is_some_and(|value| !value.is_null());
        let refers = descriptor.refers() || has("subject") || has("artifactType");
        let leaf = Leaf::Manifest { descriptor, manifest: object };
        self.found.push(Candidate { names, platform, digests, refers, leaf });
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
    let Some(value) = manifest.get("config").filter(|value| !value.is_null()) else {
        return Err(NoImage(format!("{name}: no image's manifest: it has no config")).into());
    };
    let descriptor = Descriptor::parse(value).with_context(|| format!("{name}: config"))?;
    let bytes = document::blob(members, &descriptor, "config")?;
    let shown = match descriptor.media_type.as_str() {
        "" => format!("config {}", descriptor.digest),
        media_type => format!("config {} ({media_type})", descriptor.digest),
    };
    let mut config = Config::parse(&shown, bytes)?;
    config.digest = descriptor.digest;
    Ok(config)
}

pub(super) fn layers(members: &Members, manifest: &Object, config: &Config, name: &str) -> Result<Vec<Layer>> {
    let layers = document::list(manifest, "layers").with_context(|| name.to_owned())?;
    if layers.len() != config.diff_ids.len() {
        bail!("{name}: number of layers: {}, but {} in the config", layers.len(), config.diff_ids.len());
    }
    let layer = |(i, (value, diff_id)): (usize, (&Value, &Digest))| {
        let descriptor = Descriptor::parse(value).with_context(|| format!("{name}: layer {}", i + 1))?;
        let shown = format!("layer {} of {} ({})", i + 1, layers.len(), descriptor.digest);
        let region = members.get(&descriptor.path()).with_context(|| shown.clone())?;
        let Some(region) = region else {
            let why = if descriptor.elsewhere { "can only be had from elsewhere" } else { "is missing" };
            bail!("{shown}: {why}");
        };
        must_be_readable(&descriptor, &region).with_context(|| shown.clone())?;
        if region.len() != descriptor.size {
            bail!("{shown}: size {}, but {} was announced", region.len(), descriptor.size);
        }
        Ok(Layer::stored(shown, region, Some(descriptor.digest), Some(diff_id.clone())))
    };
    layers.iter().zip(&config.diff_ids).enumerate().map(layer).collect()
}

/// Layers that are no archives, as their media types or their first bytes say.
fn must_be_readable(descriptor: &Descriptor, region: &Region) -> Result<()> {
    let media_type = &descriptor.media_type;
    if media_type.ends_with("+encrypted") {
        return Err(anyhow!("is encrypted ({media_type})"))
            .hint("skopeo copy --decryption-key KEY oci:IMAGE oci:DECRYPTED, then unpack DECRYPTED");
    }
    if media_type.contains("wasm") {
        return Err(anyhow!("is WebAssembly ({media_type}), not a filesystem"))
            .hint("a WebAssembly runtime takes it, such as wasmtime");
    }
    let head = region.head(foreign::HEAD)?;
    match Compression::of(&head) {
        Compression::Plain if !head.is_empty() => foreign::must_be_archive(&head, Format::Rootfs),
        _ => Ok(()),
    }
}
