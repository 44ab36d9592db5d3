//! An image out of whatever holds it: a plain root filesystem, a docker archive, or an OCI layout. Its content says which.

mod choice;
mod docker;
mod document;
mod evidence;
mod foreign;
mod layer;
mod members;
mod oci;
mod passed;
mod platform;
mod recognise;

use std::collections::HashMap;
use std::fmt;
use std::io::{Cursor, Read, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, anyhow};
use chain::WithHint;
use serde_json::Value;

pub use layer::{Layer, LayerStream, Verified};
pub use passed::{below_one_directory, passed_for_root_fs};
pub use platform::Platform;

use crate::args::Format;
use crate::budget::Limits;
use crate::digest::{Algorithm, Digest, Hashing};
use crate::source::{Counting, Region, Source, read_full, spool};
use crate::stream::{Bytes, Compression, Decoder, run_ahead};
use evidence::Evidence;
use layer::{Input, Passing};
use members::Members;

/// What to look for in a source.
#[derive(Clone, Debug)]
pub struct Request {
    pub format: Format,
    pub platform: Option<Platform>,
    pub reference: Option<String>,
    pub limits: Limits,
    /// Where to spool a layered image from a stream, in a file without a name.
    pub spool: PathBuf,
}

impl Request {
    /// The digest that the image must have, where its name is one.
    fn pin(&self) -> Option<Digest> {
        self.reference.as_deref()?.parse().ok()
    }

    /// How to digest a root filesystem's source.
    pub fn source_algorithm(&self) -> Algorithm {
        self.pin().map_or(Algorithm::OWN, |pin| pin.algorithm())
    }
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
            Kind::RootFs => "a plain root filesystem",
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
    /// The config byte for byte as stored, and parsed. A root filesystem has none.
    pub config_bytes: Vec<u8>,
    pub config: Option<Value>,
    /// Of a stream that was read to its end to find the image in it. A root filesystem that streams through has it
    /// in `Verified::source` later.
    pub source_digest: Option<Digest>,
    /// Base first.
    pub layers: Vec<Layer>,
    /// What is odd about it but no reason to refuse it.
    pub notes: Vec<String>,
}

impl Image {
    /// Finds the image in a source. A root filesystem's content is not read yet.
    pub fn open(source: Source, request: &Request) -> Result<Image> {
        match source {
            Source::Directory(directory) => from_directory(directory, request),
            Source::File(region) => {
                request.limits.image.store(region.len(), Ordering::Relaxed);
                let head = region.head(foreign::HEAD)?;
                match Compression::of(&head) {
                    Compression::Plain => from_region(region, &head, request),
                    // Digested as it is read: in a second reading others could have changed it.
                    compression => {
                        let algorithm = request.source_algorithm();
                        from_stream(Hashing::new(Box::new(region), Some(algorithm)), compression, request)
                    }
                }
            }
            Source::Stream(mut stream) => {
                let mut head = vec![0; Compression::LOOK];
                let filled = read_full(&mut stream, &mut head)?;
                head.truncate(filled);
                let compression = Compression::of(&head);
                let stream = Counting { source: Cursor::new(head).chain(stream), read: request.limits.image.clone() };
                let stream: Box<dyn Read + Send> = Box::new(stream);
                from_stream(Hashing::new(stream, Some(request.source_algorithm())), compression, request)
            }
        }
    }

    /// Whether nothing of it is compressed.
    pub fn is_plain(&self) -> bool {
        self.layers.iter().all(|layer| layer.compression == Compression::Plain)
    }

    fn root_fs(layer: Layer, request: &Request) -> Result<Image> {
        if request.platform.is_some() {
            return Err(anyhow!("is a plain root filesystem, which has no platform")).hint("leave --platform out");
        }
        let pin = request.pin();
        if let (Some(name), None) = (&request.reference, &pin) {
            return Err(anyhow!("is a plain root filesystem, which has no name {name:?}"))
                .hint("leave --ref out, or pin the file itself: --ref sha256:… as sha256sum prints it");
        }
        Ok(Image {
            kind: Kind::RootFs,
            names: Vec::new(),
            platform: None,
            manifest_digest: None,
            config_digest: None,
            config_bytes: Vec::new(),
            config: None,
            source_digest: None,
            layers: vec![layer.pinned(pin)],
            notes: Vec::new(),
        })
    }
}

fn from_directory(directory: OwnedFd, request: &Request) -> Result<Image> {
    let evidence = Evidence::in_directory(&directory)?;
    match recognise::layered(&Members::directory(directory, request), &evidence, request)? {
        Some(image) => {
            let stored: HashMap<_, _> =
                image.layers.iter().map(|layer| ((&layer.digest, &layer.diff_id), layer.size())).collect();
            request.limits.image.store(stored.into_values().flatten().sum(), Ordering::Relaxed);
            Ok(image)
        }
        None => Err(anyhow!("is a directory, but not an OCI layout"))
            .hint("an OCI layout has oci-layout and index.json; a root directory needs no unpacking"),
    }
}

/// A plain archive in a file.
fn from_region(region: Region, head: &[u8], request: &Request) -> Result<Image> {
    foreign::must_be_archive(head, request.format)?;
    if request.format != Format::Rootfs
        && let Some(image) = recognise::in_archive(&region, request)?
    {
        return Ok(image);
    }
    Image::root_fs(Layer::stored(String::new(), region, None, None), request)
}

/// A compressed archive, or one from a pipe. A root filesystem streams through; a layered image is read at many places,
/// so it goes to disk first.
fn from_stream(input: Input, compression: Compression, request: &Request) -> Result<Image> {
    let mut stream = run_ahead(Decoder::new(input, compression, &request.limits)?, None)?;
    let mut head = Vec::new();
    // Extended headers of any length may come before the first name.
    let mut wanted = foreign::HEAD;
    loop {
        let begin = head.len();
        head.resize(wanted, 0);
        let filled = read_full(&mut stream, &mut head[begin..])?;
        head.truncate(begin + filled);
        if head.len() < wanted || wanted >= foreign::LONGEST_HEAD || evidence::shows_a_file(&head, &request.limits) {
            break;
        }
        wanted *= 2;
    }
    foreign::must_not_be_compressed(&head, compression)?;
    foreign::must_be_archive(&head, request.format)?;
    let layered = match request.format {
        Format::Rootfs => false,
        Format::Auto => evidence::begins_like_an_image(&head, &request.limits),
        Format::Docker | Format::Oci => true,
    };
    if !layered {
        return Image::root_fs(Layer::passing(Passing { head: Bytes::from(head), rest: stream }, compression), request);
    }
    let region = spool(&mut head.as_slice().chain(&mut stream), &request.spool)?;
    let (decoder, _) = stream.finish()?;
    let source_digest = decoder.into_inner().finish().0;
    let mut image = from_region(region, &head, request)?;
    if let (Kind::RootFs, Some(pin), Some(found)) = (image.kind, request.pin(), &source_digest) {
        must_be(&pin, found)?;
        // The pin is for the source, not for what was spooled.
        image.layers = image.layers.into_iter().map(|layer| layer.pinned(None)).collect();
    }
    image.source_digest = source_digest;
    Ok(image)
}

/// Fails with both digests where an image is not the one that was pinned.
fn must_be(pin: &Digest, found: &Digest) -> Result<()> {
    if pin == found {
        return Ok(());
    }
    Err(anyhow!("is not the image that --ref asks for: {pin} was asked for, this is {found}"))
}

/// Prints a config as it is stored, with a newline at its end.
pub fn print_config(image: &Image, out: &mut impl Write) -> Result<()> {
    if image.config.is_none() {
        return Err(anyhow!("is a plain root filesystem: it has no configuration"));
    }
    out.write_all(&image.config_bytes).context("standard output")?;
    if !image.config_bytes.ends_with(b"\n") {
        out.write_all(b"\n").context("standard output")?;
    }
    Ok(())
}
