//! The JSON documents of an image: bounded, verified against the descriptors that name them, and read for the few fields
//! that matter here. A document's content decides what it is, not what others call it.

use std::io::Read;
use std::str::FromStr;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Map, Value};

use super::members::Members;
use super::platform::Platform;
use crate::digest::{Algorithm, Digest};

/// containerd refuses larger ones too; serde_json stops at 128 nested levels by itself.
const LARGEST: u64 = 4 << 20;
/// All documents of an image together, each as often as it is named: indexes may name each other over and over.
const LARGEST_IN_ALL: u64 = 64 << 20;
/// A document of brackets alone takes sixteen times its size in memory.
const MOST_VALUES: usize = 200_000;

pub(super) type Object = Map<String, Value>;

/// A document that is whole, but not an image's.
#[derive(Debug)]
pub(super) struct NoImage(pub String);

impl std::fmt::Display for NoImage {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoImage {}

/// What a manifest or index says about a document or layer.
#[derive(Clone, Debug)]
pub(super) struct Descriptor {
    pub digest: Digest,
    pub size: u64,
    pub media_type: String,
    pub platform: Option<Platform>,
    pub annotations: Object,
    /// Addresses of a layer that may lie elsewhere.
    pub elsewhere: bool,
    /// Declared as something other than an image, perhaps about one.
    artifact: bool,
}

impl Descriptor {
    pub fn parse(value: &Value) -> Result<Descriptor> {
        let object = value.as_object().context("a descriptor that is not an object")?;
        let digest = Digest::from_str(text(object, "digest")?.context("a descriptor without a digest")?)?;
        let size = object.get("size").and_then(Value::as_u64);
        let size = size.with_context(|| format!("{digest}: a descriptor without a size"))?;
        let platform = match object.get("platform") {
            Some(Value::Object(platform)) => self::platform(platform)?,
            _ => None,
        };
        let annotations = object.get("annotations").and_then(Value::as_object).cloned().unwrap_or_default();
        let media_type = text(object, "mediaType")?.unwrap_or_default().to_owned();
        let elsewhere = object.get("urls").and_then(Value::as_array).is_some_and(|urls| !urls.is_empty());
        let artifact = text(object, "artifactType")?.is_some_and(|kind| !kind.is_empty());
        Ok(Descriptor { digest, size, media_type, platform, annotations, elsewhere, artifact })
    }

    /// Whether it names no image but what belongs to one: BuildKit's signed statements, signatures, other artifacts.
    pub fn refers(&self) -> bool {
        let nowhere = self.platform.as_ref().is_some_and(|p| p.os == "unknown" && p.architecture == "unknown");
        nowhere || self.artifact || self.annotation("vnd.docker.reference.type") == Some("attestation-manifest")
    }

    pub fn path(&self) -> String {
        blob_path(&self.digest)
    }

    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.get(key).and_then(Value::as_str)
    }
}

pub(super) fn blob_path(digest: &Digest) -> String {
    let algorithm = if digest.algorithm() == Algorithm::Sha512 { "sha512" } else { "sha256" };
    format!("blobs/{algorithm}/{}", digest.hex())
}

/// A file's text; None where there is no such file.
pub(super) fn read(members: &Members, name: &str) -> Result<Option<Vec<u8>>> {
    let Some(region) = members.get(name).with_context(|| name.to_owned())? else {
        return Ok(None);
    };
    if region.len() > LARGEST {
        bail!("{name}: more than {LARGEST} bytes of JSON");
    }
    members.documents.set(members.documents.get() + region.len());
    if members.documents.get() > LARGEST_IN_ALL {
        bail!("{name}: more than {LARGEST_IN_ALL} bytes of JSON in all");
    }
    let mut bytes = Vec::new();
    region.take(LARGEST).read_to_end(&mut bytes).with_context(|| name.to_owned())?;
    Ok(Some(bytes))
}

pub(super) fn parse(name: &str, bytes: &[u8]) -> Result<Value> {
    let values = bytes.iter().filter(|b| matches!(b, b',' | b'[' | b'{')).count();
    if values > MOST_VALUES {
        bail!("{name}: more than {MOST_VALUES} values of JSON");
    }
    serde_json::from_slice(bytes).map_err(|error| anyhow!("{name}: malformed JSON: {error}"))
}

pub(super) fn object(name: &str, bytes: &[u8]) -> Result<Object> {
    match parse(name, bytes)? {
        Value::Object(object) => Ok(object),
        _ => bail!("{name}: is not a JSON object"),
    }
}

/// The document that a descriptor names: there, of that size and of that digest.
pub(super) fn blob(members: &Members, descriptor: &Descriptor, what: &str) -> Result<Vec<u8>> {
    let digest = &descriptor.digest;
    let bytes = read(members, &descriptor.path())?.with_context(|| format!("{what} {digest}: is missing"))?;
    if bytes.len() as u64 != descriptor.size {
        bail!("{what} {digest}: size {}, but {} was announced", bytes.len(), descriptor.size);
    }
    verify(&bytes, digest).with_context(|| what.to_owned())?;
    Ok(bytes)
}

pub(super) fn verify(bytes: &[u8], digest: &Digest) -> Result<()> {
    let found = Digest::of(digest.algorithm(), bytes);
    if found != *digest {
        bail!("{digest}: the digest does not match: the content's is {found}");
    }
    Ok(())
}

/// A string field; absent and null are the same.
pub(super) fn text<'a>(object: &'a Object, key: &str) -> Result<Option<&'a str>> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => bail!("{key} is not a string"),
    }
}

/// A list field; absent and null are empty.
pub(super) fn list<'a>(object: &'a Object, key: &str) -> Result<&'a [Value]> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(list)) => Ok(list),
        Some(_) => bail!("{key} is not a list"),
    }
}

/// The platform in a descriptor or a config.
pub(super) fn platform(object: &Object) -> Result<Option<Platform>> {
    let (os, architecture) = (text(object, "os")?, text(object, "architecture")?);
    let variant = text(object, "variant")?;
    Ok(os.zip(architecture).map(|(os, architecture)| Platform::new(os, architecture, variant)))
}

/// An image's config as it is stored, and the fields that matter here.
#[derive(Clone, Debug)]
pub(super) struct Config {
    pub bytes: Vec<u8>,
    pub value: Value,
    pub digest: Digest,
    pub platform: Option<Platform>,
    pub diff_ids: Vec<Digest>,
}

impl Config {
    pub fn parse(name: &str, bytes: Vec<u8>) -> Result<Config> {
        let object = object(name, &bytes)?;
        let Some(rootfs) = object.get("rootfs").and_then(Value::as_object) else {
            return Err(NoImage(format!("{name}: no image's configuration: it has no rootfs")).into());
        };
        let diff_ids = list(rootfs, "diff_ids").and_then(|ids| {
            ids.iter().map(|id| Digest::from_str(id.as_str().context("a diff id that is not a string")?)).collect()
        });
        let diff_ids = diff_ids.with_context(|| format!("{name}: diff_ids"))?;
        let platform = platform(&object).with_context(|| name.to_owned())?;
        let digest = Digest::of(Algorithm::Sha256, &bytes);
        Ok(Config { bytes, value: Value::Object(object), digest, platform, diff_ids })
    }
}
