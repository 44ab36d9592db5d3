//! A root filesystem archive as one stream, packed or not, digested on the way.

use std::fs::File;
use std::io::{self, BufRead, Read};

use anyhow::{Context, Result, anyhow};

use crate::budget::Limits;
use crate::digest::{Algorithm, Digest};
use crate::stream::{Ahead, Compression, Decoder, run_ahead};

pub enum Stream {
    Plain(Ahead<File>),
    Packed(Ahead<Decoder<Ahead<File>>>),
}

impl Stream {
    pub fn open(file: File, limits: &Limits) -> Result<Stream> {
        let mut outer = run_ahead(file, Some(Algorithm::Sha256))?;
        match Compression::of(outer.fill_buf()?) {
            Compression::Plain => Ok(Stream::Plain(outer)),
            packed => Ok(Stream::Packed(run_ahead(Decoder::new(outer, packed, limits)?, None)?)),
        }
    }

    /// After the end: the digest of the bytes that came in.
    pub fn finish(self) -> Result<Digest> {
        let outer = match self {
            Stream::Plain(outer) => outer,
            Stream::Packed(inner) => inner.finish()?.0.into_inner(),
        };
        outer.finish()?.1.ok_or_else(|| anyhow!("the stream was not digested"))
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(stream) => stream.read(buffer),
            Stream::Packed(stream) => stream.read(buffer),
        }
    }
}

/// Reads a stream to its end for nothing but its digest.
pub fn digest(mut file: File) -> Result<Digest> {
    let mut hasher = crate::digest::Hasher::new(Algorithm::Sha256);
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer).context("read it")? {
            0 => return Ok(hasher.finish()),
            n => hasher.update(&buffer[..n]),
        }
    }
}
