//! A layer as a stream of plain tar bytes, verified once it is read to its end.

use std::fs::File;
use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Context, Result, bail};

use super::must_be;
use crate::budget::Limits;
use crate::digest::{Algorithm, Digest, Hasher, Hashing};
use crate::frame::Archive;
use crate::source::{FileSystem, Region, read_some};
use crate::stream::{Ahead, Bytes, Compression, Decoder, buffer, run_ahead};
use crate::unshared::is_unshared;

/// As much of a file is read at a time as is likely to be wanted before the next skip.
const READ: usize = 128 << 10;

/// What a compressed stream is read from.
pub(super) type Input = Hashing<Box<dyn Read + Send>>;

#[derive(Debug)]
pub struct Layer {
    /// For messages: which layer of how many, and its digest or path. Empty for a root filesystem.
    pub name: String,
    /// Of the stored bytes.
    pub digest: Option<Digest>,
    /// Of the plain bytes.
    pub diff_id: Option<Digest>,
    pub compression: Compression,
    /// Of the file or stream that a root filesystem comes from, where one was asked for.
    pin: Option<Digest>,
    data: Option<Data>,
}

enum Data {
    Stored(Region),
    Passing(Passing),
}

impl std::fmt::Debug for Data {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self {
            Data::Stored(_) => "Stored",
            Data::Passing(_) => "Passing",
        })
    }
}

/// A stream whose first bytes were looked at.
pub(super) struct Passing {
    pub head: Bytes,
    pub rest: Ahead<Decoder<Input>>,
}

/// What was found where a layer was read to its end, all of it as announced.
#[derive(Clone, Debug, Default)]
pub struct Verified {
    pub digest: Option<Digest>,
    pub diff_id: Option<Digest>,
    /// Of the file that a plain root filesystem is, and of everything that came through a stream for one that did.
    pub source: Option<Digest>,
    /// Plain bytes.
    pub bytes: u64,
}

impl Layer {
    pub(super) fn stored(name: String, region: Region, digest: Option<Digest>, diff_id: Option<Digest>) -> Layer {
        // A read error comes again, with its message, when the layer is opened.
        let head = region.head(Compression::LOOK).unwrap_or_default();
        Layer {
            name,
            digest,
            diff_id,
            compression: Compression::of(&head),
            pin: None,
            data: Some(Data::Stored(region)),
        }
    }

    pub(super) fn passing(passing: Passing, compression: Compression) -> Layer {
        Layer {
            name: String::new(),
            digest: None,
            diff_id: None,
            compression,
            pin: None,
            data: Some(Data::Passing(passing)),
        }
    }

    pub(super) fn pinned(self, pin: Option<Digest>) -> Layer {
        Layer { pin, ..self }
    }

    /// Stored bytes, where that is known before they are read.
    pub fn size(&self) -> Option<u64> {
        match &self.data {
            Some(Data::Stored(region)) => Some(region.len()),
            _ => None,
        }
    }

    /// Starts reading it, decompressing and hashing ahead of the consumer. `near` is the filesystem to whose files the kernel
    /// can copy from the layer's file.
    pub fn open(&mut self, limits: &Limits, near: Option<&FileSystem>) -> Result<LayerStream> {
        let stream = match self.data.take().context("this stream was read already")? {
            Data::Passing(passing) => Stream::Passing(passing),
            Data::Stored(region) => {
                self.data = Some(Data::Stored(region.clone()));
                self.open_region(region, limits, near)?
            }
        };
        let (digest, diff_id, pin) = (self.digest.clone(), self.diff_id.clone(), self.pin.clone());
        Ok(LayerStream { stream, digest, diff_id, pin })
    }

    fn open_region(&self, region: Region, limits: &Limits, near: Option<&FileSystem>) -> io::Result<Stream> {
        let algorithm = |digest: &Option<Digest>| digest.as_ref().map(Digest::algorithm);
        let (mut stored, mut plain) = (algorithm(&self.digest), algorithm(&self.diff_id));
        if self.compression == Compression::Plain {
            // A root filesystem's bytes are nobody's word: they are digested to be known again.
            let source = self.name.is_empty();
            let own = self.pin.as_ref().map_or(Algorithm::OWN, Digest::algorithm);
            if near.is_some_and(|near| near.has(region.file())) && is_unshared(region.file()) {
                // It is digested beside its reading, not by it: so a reader need not see the bytes that it can copy
                // from file to file.
                let mut algorithms: Vec<_> = [plain, stored, source.then_some(own)].into_iter().flatten().collect();
                algorithms.dedup();
                let digests =
                    (!algorithms.is_empty()).then(|| digest_region(region.clone(), algorithms)).transpose()?;
                return Ok(Stream::Plain { reader: Buffered::new(region), digests, source });
            }
            if source {
                let input: Input = Hashing::new(Box::new(region), Some(own));
                let rest = run_ahead(Decoder::new(input, self.compression, limits)?, None)?;
                return Ok(Stream::Passing(Passing { head: Bytes::default(), rest }));
            }
            // Stored and plain bytes are the same: one digest of both.
            if plain.is_none() || plain == stored {
                plain = plain.or(stored);
                stored = None;
            }
        }
        let input: Input = Hashing::new(Box::new(region), stored);
        let decoder = Decoder::new(input, self.compression, limits)?;
        Ok(Stream::Decoded(run_ahead(decoder, plain)?))
    }
}

fn digest_region(mut region: Region, algorithms: Vec<Algorithm>) -> io::Result<JoinHandle<io::Result<Vec<Digest>>>> {
    std::thread::Builder::new().name("digest".into()).spawn(move || {
        let mut hashers: Vec<Hasher> = algorithms.into_iter().map(Hasher::new).collect();
        let mut buffer = buffer();
        loop {
            match read_some(&mut region, &mut buffer)? {
                0 => return Ok(hashers.into_iter().map(Hasher::finish).collect()),
                n => hashers.iter_mut().for_each(|hasher| hasher.update(&buffer[..n])),
            }
        }
    })
}

pub struct LayerStream {
    stream: Stream,
    digest: Option<Digest>,
    diff_id: Option<Digest>,
    pin: Option<Digest>,
}

enum Stream {
    Plain { reader: Buffered, digests: Option<JoinHandle<io::Result<Vec<Digest>>>>, source: bool },
    Decoded(Ahead<Decoder<Input>>),
    Passing(Passing),
}

impl LayerStream {
    /// Its entries. Where no digest vouches for the layer's length, the end marker has to.
    pub fn entries(self, limits: &Limits) -> Archive<LayerStream> {
        let vouched = self.digest.is_some() || self.diff_id.is_some();
        let archive = Archive::new(self, limits.clone());
        if vouched { archive.vouched_for() } else { archive.demanding_a_marker() }
    }

    /// The file that the plain bytes lie in and where the layer begins in it, where they do: a file's content, which is
    /// `Archive::position` bytes further, can then be copied with copy_file_range(2) and passed over.
    pub fn file(&self) -> Option<(&Arc<File>, u64)> {
        match &self.stream {
            Stream::Plain { reader, .. } => Some((reader.region.file(), reader.begin)),
            _ => None,
        }
    }

    /// Passes over plain bytes, without reading them where that can be done.
    pub fn skip(&mut self, bytes: u64) -> io::Result<()> {
        match &mut self.stream {
            Stream::Plain { reader, .. } => reader.skip(bytes),
            _ => match io::copy(&mut self.take(bytes), &mut io::sink())? {
                n if n == bytes => Ok(()),
                _ => Err(io::ErrorKind::UnexpectedEof.into()),
            },
        }
    }

    /// The next bytes, at least one and at most so many; none at the end.
    pub fn share(&mut self, most: usize) -> io::Result<Bytes> {
        match &mut self.stream {
            Stream::Plain { reader, .. } => reader.share(most),
            Stream::Decoded(ahead) => ahead.share(most),
            Stream::Passing(passing) if passing.head.is_empty() => passing.rest.share(most),
            Stream::Passing(passing) => Ok(passing.head.take(most)),
        }
    }

    /// Reads what is left, and fails unless all of the layer was as announced.
    pub fn finish(mut self) -> Result<Verified> {
        let mut found = Verified::default();
        match self.stream {
            Stream::Plain { reader, digests, source } => {
                found.bytes = reader.length();
                if let Some(thread) = digests {
                    let digests = thread.join().ok().context("the digesting thread ended too early")??;
                    let like = |announced: &Option<Digest>| {
                        let algorithm = announced.as_ref()?.algorithm();
                        digests.iter().find(|digest| digest.algorithm() == algorithm).cloned()
                    };
                    (found.diff_id, found.digest) = (like(&self.diff_id), like(&self.digest));
                    // A root filesystem has no other digest.
                    found.source = digests.into_iter().next().filter(|_| source);
                }
            }
            Stream::Decoded(ref mut ahead) => {
                drain(ahead)?;
                let Stream::Decoded(ahead) = self.stream else { bail!("no stream") };
                let (decoder, plain) = ahead.finish()?;
                found.bytes = decoder.given();
                found.digest = decoder.into_inner().finish().0;
                if self.digest.is_some() && found.digest.is_none() {
                    found.digest.clone_from(&plain);
                }
                found.diff_id = plain.filter(|_| self.diff_id.is_some());
            }
            Stream::Passing(mut passing) => {
                drain(&mut passing.rest)?;
                let (decoder, _) = passing.rest.finish()?;
                found.bytes = decoder.given();
                found.source = decoder.into_inner().finish().0;
            }
        }
        if let (Some(pin), Some(source)) = (&self.pin, &found.source) {
            must_be(pin, source)?;
        }
        for (announced, found, what) in
            [(&self.digest, &found.digest, "digest"), (&self.diff_id, &found.diff_id, "diff id")]
        {
            if let Some(announced) = announced
                && found.as_ref() != Some(announced)
            {
                let found = found.as_ref().map_or("unknown", Digest::as_str);
                bail!("the {what} does not match: announced {announced}, found {found}");
            }
        }
        Ok(found)
    }
}

fn drain(reader: &mut impl BufRead) -> io::Result<()> {
    loop {
        match reader.fill_buf()?.len() {
            0 => return Ok(()),
            n => reader.consume(n),
        }
    }
}

impl BufRead for LayerStream {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        match &mut self.stream {
            Stream::Plain { reader, .. } => reader.fill_buf(),
            Stream::Decoded(ahead) => ahead.fill_buf(),
            Stream::Passing(Passing { head, rest }) => {
                if head.is_empty() {
                    rest.fill_buf()
                } else {
                    Ok(head.as_slice())
                }
            }
        }
    }

    fn consume(&mut self, amount: usize) {
        match &mut self.stream {
            Stream::Plain { reader, .. } => reader.current.advance(amount),
            Stream::Decoded(ahead) => ahead.consume(amount),
            Stream::Passing(passing) if passing.head.is_empty() => passing.rest.consume(amount),
            Stream::Passing(passing) => passing.head.advance(amount),
        }
    }
}

impl Read for LayerStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?;
        let n = bytes.len().min(buffer.len());
        buffer[..n].copy_from_slice(&bytes[..n]);
        self.consume(n);
        Ok(n)
    }
}

/// A buffered region that can be skipped in.
struct Buffered {
    region: Region,
    begin: u64,
    current: Bytes,
}

impl Buffered {
    fn new(region: Region) -> Buffered {
        Buffered { begin: region.position(), region, current: Bytes::default() }
    }

    /// Bytes from its beginning to its end.
    fn length(&self) -> u64 {
        self.region.position() + self.region.len() - self.begin
    }

    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        let buffered = self.current.len() as u64;
        if bytes <= buffered {
            self.current.advance(bytes as usize);
            return Ok(());
        }
        self.current = Bytes::default();
        self.region.skip(bytes - buffered)
    }

    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.current.is_empty() {
            let mut bytes = buffer();
            let filled = read_some(&mut self.region, &mut bytes[..READ])?;
            bytes.truncate(filled);
            self.current = bytes.into();
        }
        Ok(self.current.as_slice())
    }

    fn share(&mut self, most: usize) -> io::Result<Bytes> {
        self.fill_buf()?;
        Ok(self.current.take(most))
    }
}
