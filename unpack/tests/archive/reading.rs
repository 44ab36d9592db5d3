//! Images read whole, in every way that they may be given.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;

use unpack::args::Format;
use unpack::budget::Limits;
use unpack::image::{Image, Request};
use unpack::source::Source;

use super::layout::gzip;

pub fn request(spool: &Path) -> Request {
    Request {
        format: Format::Auto,
        platform: None,
        reference: None,
        limits: Limits::default(),
        spool: spool.to_owned(),
    }
}

/// Layer by layer, names and contents.
pub type Files = Vec<Vec<(String, String)>>;

/// Names and contents of the image's files, layer by layer, each layer verified.
pub fn contents(image: &mut Image) -> anyhow::Result<Files> {
    let limits = Limits::default();
    let mut layers = Vec::new();
    for layer in &mut image.layers {
        let mut archive = layer.open(&limits, None)?.entries(&limits);
        let mut files = Vec::new();
        while let Some(entry) = archive.next()? {
            let mut content = String::new();
            archive.content().read_to_string(&mut content)?;
            files.push((String::from_utf8(entry.path)?, content));
        }
        archive.finish()?.finish()?;
        layers.push(files);
    }
    Ok(layers)
}

pub fn files(names: &[(&str, &str)]) -> Files {
    names.iter().map(|(name, content)| vec![((*name).to_owned(), (*content).to_owned())]).collect()
}

/// Opens the bytes as a file, as a compressed file, as a pipe, and as a compressed pipe.
pub fn four_ways(bytes: &[u8], request: &Request, check: impl Fn(anyhow::Result<Image>, &str)) {
    let directory = tempfile::tempdir().unwrap();
    for (how, stored) in [("plain", bytes.to_vec()), ("gzip", gzip(bytes))] {
        let path = directory.path().join(how);
        fs::write(&path, &stored).unwrap();
        check(Image::open(Source::open(&path).unwrap(), request), how);
        let (reader, mut writer) = std::io::pipe().unwrap();
        let feeder = std::thread::spawn(move || {
            // A refusal closes the pipe early.
            let _ = writer.write_all(&stored);
        });
        check(Image::open(Source::Stream(Box::new(reader)), request), &format!("{how} pipe"));
        feeder.join().unwrap();
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "something was left behind");
}
