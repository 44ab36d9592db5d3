//! What docker save writes: manifest.json names a config and layers by their paths in the archive.

use anyhow::{Context, Result, anyhow, bail};
use chain::WithHint;
use serde_json::Value;

use super::choice::{Candidate, Leaf};
use super::document::{self, Config, Object};
use super::layer::Layer;
use super::members::Members;
use crate::digest::Digest;

/// The images of manifest.json. None if the file is missing, an error if it is not docker's.
pub(super) fn images(members: &Members) -> Result<Option<Vec<Listed>>> {
    let Some(bytes) = document::read(members, "manifest.json")? else {
        return Ok(None);
    };
    let images = match document::parse("manifest.json", &bytes)? {
        Value::Array(images) => images,
        Value::Object(manifest) if manifest.contains_key("schemaVersion") => {
            return Err(anyhow!(
                "manifest.json: is that of a single image, as skopeo writes it for dir:, not a list of images"
            ))
            .hint("skopeo copy --quiet dir:DIR docker-archive:/dev/stdout | unpack -");
        }
        _ => bail!("manifest.json: is not a list of images"),
    };
    if images.is_empty() {
        bail!("manifest.json: lists no image");
    }
    let images: Option<Vec<Listed>> = images.iter().map(Listed::parse).collect();
    images.context("manifest.json: lists something without a config and layers").map(Some)
}

/// Docker before 1.10 wrote no manifest.json: `repositories` names the newest layer, and each layer its parent.
pub(super) fn is_of_before_manifests(members: &Members) -> Result<bool> {
    let Some(bytes) = document::read(members, "repositories")? else { return Ok(false) };
    let Ok(repositories) = document::object("repositories", &bytes) else { return Ok(false) };
    let tags = repositories.values().filter_map(Value::as_object).flat_map(Object::values);
    let mut ids = tags.filter_map(Value::as_str);
    Ok(ids.any(|id| matches!(members.get(&format!("{id}/layer.tar")), Ok(Some(_)))))
}

pub(super) struct Listed {
    config: String,
    layers: Vec<String>,
    tags: Vec<String>,
}

impl Listed {
    fn parse(value: &Value) -> Option<Listed> {
        let object: &Object = value.as_object()?;
        let strings = |key| -> Option<Vec<String>> {
            document::list(object, key).ok()?.iter().map(|value| value.as_str().map(str::to_owned)).collect()
        };
        let config = object.get("Config")?.as_str()?.to_owned();
        object.get("Layers")?;
        Some(Listed { config, layers: strings("Layers")?, tags: strings("RepoTags")? })
    }

    /// Whether any file that it names is there.
    pub fn is_there(&self, members: &Members) -> bool {
        self.layers.iter().chain([&self.config]).any(|name| matches!(members.get(name), Ok(Some(_)) | Err(_)))
    }

    /// `notes` is told where a config is named for another digest than its own, which docker and skopeo load: what the
    /// layers must be is in it all the same.
    pub fn candidate(self, members: &Members, notes: &mut Vec<String>) -> Result<Candidate> {
        let name = &self.config;
        let bytes = document::read(members, name)?.with_context(|| format!("config {name}: is missing"))?;
        let config = Config::parse(name, bytes)?;
        if let Some(digest) = digest_in(name).filter(|digest| *digest != Digest::of(digest.algorithm(), &config.bytes))
        {
            if members.is_directory() && name.starts_with("blobs/") {
                // It may have come from anywhere, with its digest as the only proof.
                document::verify(&config.bytes, &digest).context("config")?;
            }
            notes.push(format!("config {digest}: was changed: its digest is {} now", config.digest));
        }
        if self.layers.len() != config.diff_ids.len() {
            bail!(
                "manifest.json: number of layers: {}, but {} in the config",
                self.layers.len(),
                config.diff_ids.len()
            );
        }
        Ok(Candidate {
            names: self.tags,
            platform: config.platform.clone(),
            digests: vec![config.digest.to_string()],
            refers: false,
            leaf: Leaf::Docker { config, layers: self.layers },
        })
    }
}

pub(super) fn layers(members: &Members, config: &Config, names: &[String]) -> Result<Vec<Layer>> {
    let count = names.len();
    let layers = names.iter().zip(&config.diff_ids).enumerate().map(|(i, (name, diff_id))| {
        let shown = format!("layer {} of {count} ({name})", i + 1);
        let region =
            members.get(name).and_then(|region| region.context("is missing")).with_context(|| shown.clone())?;
        // Docker's blobs are named for the digest of what is stored; its other layers are not.
        let digest = name.starts_with("blobs/").then(|| digest_in(name)).flatten();
        Ok(Layer::stored(shown, region, digest, Some(diff_id.clone())))
    });
    layers.collect()
}

/// The digest that a file is named for: `HEX.json`, `sha256:HEX`, `blobs/sha256/HEX`.
fn digest_in(name: &str) -> Option<Digest> {
    let last = name.rsplit('/').next()?;
    let hex = last.strip_suffix(".json").unwrap_or(last);
    let hex = hex.strip_prefix("sha256:").unwrap_or(hex);
    let algorithm = if name.starts_with("blobs/sha512/") { "sha512" } else { "sha256" };
    format!("{algorithm}:{hex}").parse().ok()
}
