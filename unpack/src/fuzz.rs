//! What the fuzzers run: each target takes any bytes and must neither panic nor hang, and checks
//! what has to hold whatever they are. The tests run the same targets over the corpus in fuzz/.

use std::io::{self, Cursor, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::{Context, Result};
use chain::Tool;
use chain::capabilities::{CapabilitySet, are_effective};
use chain::fuzz::Target;
use nix::sys::memfd::{MFdFlags, memfd_create};
use serde_json::Value;

use crate::args::{Args, Format, Owner};
use crate::budget::Limits;
use crate::confine::{Confinement, own_umask};
use crate::expected_root::ExpectedRoot;
use crate::frame::Archive;
use crate::gate::Gate;
use crate::image::{Image, Request};
use crate::layer::Layers;
use crate::ledger::Ledger;
use crate::populate::tree_with_writers;
use crate::source::Source;
use crate::stream::{Compression, Decoder};
use crate::tree::{Owners, Policy};

/// By the name of the corpus's directory.
pub const TARGETS: [(&str, Target); 7] = [
    ("frame", frame),
    ("stream", stream),
    ("image", image),
    ("documents", documents),
    ("layers", layers),
    ("receipt", receipt),
    ("argv-unpack", argv),
];

fn limits() -> Limits {
    Limits {
        bytes: 16 << 20,
        entries: Some(10_000),
        pax: 1 << 16,
        name: 1 << 16,
        segments: 10_000,
        ..Limits::default()
    }
}

/// The framing of a tar stream.
pub fn frame(data: &[u8]) {
    for strict in [false, true] {
        let mut archive = Archive::new(data, Limits { strict, ..limits() });
        let mut before = 0;
        // The content of every other entry is read, and that of the rest is skipped.
        let mut reads = false;
        while let Ok(Some(entry)) = archive.next() {
            assert!(entry.offset >= before, "entries move backward");
            before = archive.position();
            assert!(before <= data.len() as u64, "the stream was left behind");
            assert!(!entry.path.is_empty() && !entry.path.contains(&0) && !entry.link.contains(&0));
            assert!(entry.mode <= 0o7777);
            assert!(entry.mtime.nanoseconds < 1_000_000_000);
            let mut end = 0;
            for segment in entry.sparse.iter().flatten() {
                assert!(segment.offset >= end && segment.length > 0, "segments overlap");
                end = segment.offset + segment.length;
            }
            assert!(end <= entry.size, "a segment is past the end");
            reads = !reads;
            if reads && io::copy(&mut archive.content(), &mut io::sink()).is_err() {
                break;
            }
        }
    }
}

/// Every decompressor.
pub fn stream(data: &[u8]) {
    let limits = Limits { bytes: 1 << 20, ..limits() };
    let Ok(mut decoder) = Decoder::new(data, Compression::of(data), &limits) else { return };
    if io::copy(&mut decoder, &mut io::sink()).is_ok() {
        assert!(decoder.into_inner().is_empty(), "the input was not read to its end");
    }
}

/// A whole image, from a stream and from a file, with every layer read and verified.
pub fn image(data: &[u8]) {
    let spool = std::env::temp_dir();
    for format in [Format::Auto, Format::Docker, Format::Oci] {
        let request = Request { format, platform: None, reference: None, limits: limits(), spool: spool.clone() };
        let from_stream = read_all(Source::Stream(Box::new(Cursor::new(data.to_vec()))), &request);
        let Ok(file) = in_memory(data) else { return };
        let from_file = read_all(file, &request);
        assert_eq!(from_stream.ok(), from_file.ok(), "a stream and a file are read differently");
    }
}

/// Entries and digests of all layers.
fn read_all(source: Source, request: &Request) -> Result<Vec<String>> {
    let mut image = Image::open(source, request)?;
    let mut found = vec![format!("{:?} {:?}", image.kind, image.config_digest)];
    for layer in &mut image.layers {
        let mut archive = layer.open(&request.limits, None)?.entries(&request.limits);
        while let Some(entry) = archive.next()? {
            found.push(format!("{entry:?}"));
        }
        let verified = archive.finish()?.finish()?;
        found.push(format!("{:?} {:?}", verified.digest, verified.diff_id));
    }
    Ok(found)
}

fn in_memory(data: &[u8]) -> Result<Source> {
    let mut file = std::fs::File::from(memfd_create(c"image", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(data)?;
    io::Seek::rewind(&mut file)?;
    Source::of(file)
}

/// The same bytes as every document of a layered image.
pub fn documents(data: &[u8]) {
    let mut builder = tar::Builder::new(Vec::new());
    let digest = crate::digest::Digest::of(crate::digest::Algorithm::Sha256, data);
    let descriptor = format!(r#"{{"digest":"{digest}","size":{}}}"#, data.len());
    let index = format!(r#"{{"manifests":[{descriptor}]}}"#);
    let blob = format!("blobs/sha256/{}", digest.hex());
    let files: [(&str, &[u8]); 5] = [
        ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#),
        ("index.json", index.as_bytes()),
        (&blob, data),
        ("config.json", data),
        ("manifest.json", data),
    ];
    for (name, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        if builder.append_data(&mut header, name, bytes).is_err() {
            return;
        }
    }
    let Ok(archive) = builder.into_inner() else { return };
    for format in [Format::Docker, Format::Oci] {
        let limits = Limits { bytes: 64 << 20, ..limits() };
        let request = Request { format, platform: None, reference: None, limits, spool: PathBuf::from("/nowhere") };
        let Ok(source) = in_memory(&archive) else { return };
        let _ = read_all(source, &request);
    }
}

/// Archives applied to a tree as layers, one over the other, beside a file that must stay as it is.
pub fn layers(data: &[u8]) {
    let template = std::env::temp_dir().join("unpack-fuzz-XXXXXX");
    let base = nix::unistd::mkdtemp(&template).expect("a temporary directory");
    let canary = base.join("canary");
    std::fs::write(&canary, "untouched").expect("a file in it");
    std::fs::create_dir(base.join("root")).expect("a directory in it");
    let before = std::fs::metadata(&canary).expect("the file that was just made");
    // The confinement is for the life of a thread.
    let data = data.to_vec();
    let root = base.join("root");
    let worker = std::thread::spawn(move || {
        let _ = apply(&data, &root);
    });
    let worked = worker.join();
    let left: Vec<_> =
        std::fs::read_dir(&base).into_iter().flatten().flatten().map(|entry| entry.file_name()).collect();
    let after = std::fs::read(&canary);
    let metadata = std::fs::metadata(&canary);
    remove(&base);
    assert!(worked.is_ok(), "applying a layer panicked");
    assert_eq!(after.ok().as_deref(), Some(&b"untouched"[..]), "the canary was written to");
    assert!(metadata.is_ok_and(|now| now.permissions() == before.permissions()), "the canary was changed");
    assert_eq!(left.len(), 2, "something was made outside: {left:?}");
}

fn apply(data: &[u8], root: &Path) -> Result<()> {
    let limits = limits();
    let policy = Arc::new(Policy {
        owners: Owners::new(Some(Owner::Squash))?,
        ledger: Ledger::default(),
        devices: false,
        overlaid: false,
        privileged: are_effective(CapabilitySet::DAC_OVERRIDE),
        setuid: 0.into(),
        capable: 0.into(),
    });
    let confinement = Arc::new(Confinement::new(root)?);
    own_umask()?;
    confinement.enter()?;
    let (gate, progress) = (Arc::<Gate>::default(), AtomicU64::new(0));
    let (tree, writers) = tree_with_writers(std::fs::File::open(root)?.into(), policy.clone(), 0, 1, &gate)?;
    let mut layers = Layers {
        tree,
        writers,
        policy: &policy,
        limits: &limits,
        gate: &gate,
        progress: &progress,
        layered: true,
        entries: 0,
        bytes: 0,
    };
    let mut rest = data;
    while !rest.is_empty() {
        let mut archive = Archive::new(rest, limits.clone());
        layers.apply(&mut archive)?;
        let position = archive.position() as usize;
        rest = rest.get(position..).context("the archive is longer than the data")?;
    }
    layers.tree.close()
}

fn remove(path: &Path) {
    let name = path.file_name().map(|name| name.to_owned().into_vec()).unwrap_or_default();
    if let Some(parent) = path.parent()
        && let Ok(parent) = std::fs::File::open(parent)
    {
        let _ = crate::tree::remove::remove(std::os::fd::AsFd::as_fd(&parent), &name);
    }
}

/// Arguments to a plan, which is printed and never performed. Whatever they name is not opened.
pub fn argv(data: &[u8]) {
    let Some(args) = chain::fuzz::arguments::<Args>(Tool::Unpack, data) else { return };
    let root = args.bundle.as_ref().map_or(args.root.clone(), |bundle| bundle.join("rootfs"));
    if let Err(error) = crate::extract::request(&args, &root) {
        return chain::fuzz::refused(&error);
    }
    for plain in [true, false] {
        let (steps, command) = crate::explain::plan(&args, &root, plain);
        chain::fuzz::plan(Tool::Unpack, &steps, &command);
    }
}

/// What stands beside a root as its receipt, when the root is asked to be some image.
pub fn receipt(data: &[u8]) {
    let root = chain::fuzz::root();
    let identity = std::fs::File::open(root).ok().and_then(|root| chain::receipt::identity(root).ok());
    let path = chain::handoff::receipt_path(root);
    let args = <Args as clap::Parser>::parse_from(["unpack", "--quiet", "image.tar"]);
    let Ok(request) = crate::extract::request(&args, root) else { return };
    let ask = |bytes: &[u8], source: Value| {
        std::fs::write(&path, bytes).expect("a receipt");
        let options = crate::receipt::options(&args, Owner::Squash, 0).unwrap_or_default();
        let wanted = ExpectedRoot { args: &args, root, source, options, replaces: Value::Null };
        // An empty stream is no image that any receipt speaks of.
        let mut image = Some(Source::Stream(Box::new(io::empty())));
        let known = wanted.is_at_root(&mut image, &request).is_ok_and(|receipt| receipt.is_some());
        let _ = crate::publish::replaceable(root);
        known
    };
    assert!(!ask(data, Value::Null), "a receipt of another directory was believed");
    // No fuzzer guesses which directory it has to name; nor which image, but its own word for it.
    let Ok(Value::Object(mut object)) = serde_json::from_slice(data) else { return };
    object.insert("root".into(), identity.unwrap_or_default());
    let bytes = serde_json::to_vec(&object).unwrap_or_default();
    assert!(!ask(&bytes, Value::Null), "an image that nothing is known of was found");
    if let Some(source) = object.get("source").filter(|source| !source.is_null()) {
        let options = crate::receipt::options(&args, Owner::Squash, 0).unwrap_or_default();
        let same_options = object.get("options") == Some(&options);
        assert_eq!(ask(&bytes, source.clone()), same_options, "found by its image, whatever its options");
    }
}
