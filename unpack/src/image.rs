//! An image out of whatever holds it: a plain root file system, what docker save writes, or an OCI
//! layout. What it is, its content says.

mod choice;
mod docker;
mod document;
mod layer;
mod members;
mod oci;
mod platform;
mod sniff;

use std::fmt;
use std::io::{Cursor, Read, Write};
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};
use chain::WithHint;
use serde_json::Value;

pub use layer::{Layer, LayerStream, Verified};
pub use platform::Platform;

use crate::args::Format;
use crate::budget::Limits;
use crate::digest::{Algorithm, Digest, Hashing};
use crate::source::{Region, Source, read_full, spool};
use crate::stream::{Bytes, Compression, Decoder, run_ahead};
use choice::{Candidate, Leaf, choose};
use layer::{Input, Passing};
use members::Members;

/// What is wanted of a source.
#[derive(Clone, Debug)]
pub struct Request {
    pub format: Format,
    pub platform: Option<Platform>,
    pub reference: Option<String>,
    pub limits: Limits,
    /// Where a layered image from a stream is kept meanwhile, in a file without a name.
    pub spool: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    RootFs,
    Docker,
    Oci,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::RootFs => "a plain root file system",
            Kind::Docker => "a docker archive",
            Kind::Oci => "an OCI layout",
        })
    }
}

/// An image that is ready to be read, layer by layer.
///
/// Everything but the layers' content is verified. Errors of a layer do not name it: give them
/// `Layer::name` as context where it is not empty.
#[derive(Debug)]
pub struct Image {
    pub kind: Kind,
    /// Its tags or annotated names.
    pub names: Vec<String>,
    pub platform: Option<Platform>,
    /// Of an OCI image's manifest.
    pub manifest_digest: Option<Digest>,
    pub config_digest: Option<Digest>,
    /// The config byte for byte as stored, and parsed. A root file system has none.
    pub config_bytes: Vec<u8>,
    pub config: Option<Value>,
    /// Of a stream that was read to its end to find the image in it. A root file system that streams through has it
    /// in `Verified::source` later.
    pub source_digest: Option<Digest>,
    /// Base first.
    pub layers: Vec<Layer>,
}

impl Image {
    /// Finds the image in a source. A root file system's content is not read yet.
    pub fn open(source: Source, request: &Request) -> Result<Image> {
        match source {
            Source::Directory(directory) => match layered(&Members::directory(directory), request)? {
                Some(image) => Ok(image),
                None => Err(anyhow!("is a directory, and no OCI layout"))
                    .hint("an OCI layout has oci-layout and index.json; a root directory needs no unpacking"),
            },
            Source::File(region) => {
                let head = region.head(sniff::HEAD)?;
                match Compression::of(&head) {
                    Compression::Plain => from_region(region, &head, request),
                    compression => from_stream(Hashing::new(Box::new(region), None), compression, request),
                }
            }
            Source::Stream(mut stream) => {
                let mut head = vec![0; Compression::LOOK];
                let filled = read_full(&mut stream, &mut head)?;
                head.truncate(filled);
                let compression = Compression::of(&head);
                let stream: Box<dyn Read + Send> = Box::new(Cursor::new(head).chain(stream));
                from_stream(Hashing::new(stream, Some(Algorithm::OWN)), compression, request)
            }
        }
    }

    /// Whether nothing of it is compressed.
    pub fn is_plain(&self) -> bool {
        self.layers.iter().all(|layer| layer.compression == Compression::Plain)
    }

    fn root_fs(layer: Layer, source_digest: Option<Digest>) -> Image {
        Image {
            kind: Kind::RootFs,
            names: Vec::new(),
            platform: None,
            manifest_digest: None,
            config_digest: None,
            config_bytes: Vec::new(),
            config: None,
            source_digest,
            layers: vec![layer],
        }
    }
}

/// A plain archive in a file.
fn from_region(region: Region, head: &[u8], request: &Request) -> Result<Image> {
    sniff::must_be_archive(head, request.format)?;
    let wanted = match request.format {
        Format::Rootfs => false,
        Format::Auto => sniff::may_be_layered(head),
        Format::Docker | Format::Oci => true,
    };
    if wanted {
        if let Some(members) = Members::scan(&region, &request.limits)?
            && let Some(image) = layered(&members, request)?
        {
            return Ok(image);
        }
        not_layered(request)?;
    }
    Ok(Image::root_fs(Layer::stored(String::new(), region, None, None), None))
}

/// A compressed archive, or one that passes once. A root file system streams through; a layered
/// image has to be read at many places, and so is written down first.
fn from_stream(input: Input, compression: Compression, request: &Request) -> Result<Image> {
    let mut stream = run_ahead(Decoder::new(input, compression, &request.limits)?, None)?;
    let mut head = vec![0; sniff::HEAD];
    let filled = read_full(&mut stream, &mut head)?;
    head.truncate(filled);
    sniff::must_be_archive(&head, request.format)?;
    let wanted = match request.format {
        Format::Rootfs => false,
        Format::Auto => sniff::may_be_layered(&head),
        Format::Docker | Format::Oci => true,
    };
    if !wanted {
        return Ok(Image::root_fs(
            Layer::passing(Passing { head: Bytes::from(head), rest: stream }, compression),
            None,
        ));
    }
    let region = spool(&mut head.as_slice().chain(&mut stream), &request.spool)?;
    let (decoder, _) = stream.finish()?;
    let source_digest = decoder.into_inner().finish().0;
    let mut image = from_region(region, &head, request)?;
    image.source_digest = source_digest;
    Ok(image)
}

/// Fails where a layered image was asked for.
fn not_layered(request: &Request) -> Result<()> {
    match request.format {
        Format::Docker => Err(anyhow!("is no docker archive: it has no manifest.json that lists its files")),
        Format::Oci => Err(anyhow!("is no OCI layout: it has no oci-layout and index.json")),
        Format::Auto | Format::Rootfs => Ok(()),
    }
}

/// The image among a layered image's files that is wanted; None where they are no layered image's.
///
/// What docker save writes today is both: manifest.json lists what is there, and index.json all that the image has.
fn layered(members: &Members, request: &Request) -> Result<Option<Image>> {
    let docker = match request.format {
        Format::Auto | Format::Docker => docker::candidates(members)?,
        _ => None,
    };
    if let Some(candidates) = docker {
        return chosen(members, candidates, request).map(Some);
    }
    let oci = match request.format {
        Format::Auto | Format::Oci => oci::candidates(members)?,
        _ => None,
    };
    if oci.is_none() && docker::is_of_before_manifests(members)? {
        return Err(anyhow!("was saved by docker before 1.10: it has no manifest.json, and so no digests"))
            .hint("load and save it with a newer docker; or each layer is a file in it: tar -xOf IMAGE ID/layer.tar");
    }
    oci.map(|candidates| chosen(members, candidates, request)).transpose()
}

fn chosen(members: &Members, mut candidates: Vec<Candidate>, request: &Request) -> Result<Image> {
    let alone = candidates.len() == 1;
    for candidate in &mut candidates {
        // An index need not say what an image is for; its config does.
        if let (None, Leaf::Manifest { manifest, descriptor }) = (&candidate.platform, &candidate.leaf) {
            let config = oci::config(members, manifest, &format!("manifest {}", descriptor.digest));
            candidate.platform = match config {
                Ok(config) => config.platform,
                Err(error) if alone => return Err(error),
                // What cannot be read is for no platform; another one may be meant.
                Err(_) => None,
            };
        }
    }
    let chosen = choose(candidates, request.reference.as_deref(), request.platform.as_ref())?;
    let (kind, manifest_digest, config, layers) = match chosen.leaf {
        Leaf::Docker { config, layers } => {
            let layers = docker::layers(members, &config, &layers)?;
            (Kind::Docker, None, config, layers)
        }
        Leaf::Manifest { descriptor, manifest } => {
            let name = format!("manifest {}", descriptor.digest);
            let config = oci::config(members, &manifest, &name)?;
            let layers = oci::layers(members, &manifest, &config, &name)?;
            (Kind::Oci, Some(descriptor.digest), config, layers)
        }
        Leaf::Missing(descriptor) => return Err(anyhow!("manifest {}: is missing", descriptor.digest)),
    };
    Ok(Image {
        kind,
        names: chosen.names,
        platform: config.platform,
        manifest_digest,
        config_digest: Some(config.digest),
        config_bytes: config.bytes,
        config: Some(config.value),
        source_digest: None,
        layers,
    })
}

/// Prints a config as it is stored, with a newline at its end.
pub fn print_config(image: &Image, out: &mut impl Write) -> Result<()> {
    if image.config.is_none() {
        return Err(anyhow!("is a plain root file system: it has no configuration"));
    }
    out.write_all(&image.config_bytes).context("standard output")?;
    if !image.config_bytes.ends_with(b"\n") {
        out.write_all(b"\n").context("standard output")?;
    }
    Ok(())
}
