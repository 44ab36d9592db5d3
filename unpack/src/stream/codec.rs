//! The four decompressors behind one interface: bytes in, bytes out, and the end of a member.

use std::io;

use anyhow::anyhow;
use bzip2::Decompress as Bzip2;
use chain::Hint;
use flate2::{Decompress as Inflate, FlushDecompress};
use xz2::stream::{Action, MtStreamBuilder, Status as XzStatus, Stream as Xz};
use zstd::stream::raw::{DParameter, Decoder as Zstd, Operation};

use super::{Compression, failure, memory};

pub(super) enum Codec {
    Gzip(Box<Inflate>),
    Xz { stream: Box<Xz>, members: u64, window: u64 },
    Zstd { frame: Box<Zstd<'static>>, members: u64, window: u64 },
    Bzip2(Box<Bzip2>),
}

/// What one call did.
pub(super) struct Step {
    pub taken: usize,
    pub given: usize,
    pub ended: bool,
}

/// What the bytes after a member are.
pub(super) enum Next {
    Member,
    /// This many bytes without meaning.
    Padding(usize),
    End,
    Garbage,
}

/// An xz decoder takes some tens of kilobytes besides its dictionary.
const XZ_BESIDE: u64 = 1 << 20;
/// Blocks are decoded in parallel while their buffers fit into this, and into a quarter of the memory that there is.
const XZ_PARALLEL_MEMORY: u64 = 256 << 20;

impl Codec {
    /// `window` is how much of its output it may have to remember.
    pub fn new(compression: Compression, window: u64) -> io::Result<Option<Codec>> {
        Ok(Some(match compression {
            Compression::Plain => return Ok(None),
            Compression::Gzip => Codec::Gzip(Box::new(Inflate::new_gzip(15))),
            Compression::Xz => Codec::Xz { stream: Box::new(xz(window)?), members: 0, window },
            Compression::Zstd => {
                let mut frame = Zstd::new()?;
                frame.set_parameter(DParameter::WindowLogMax(
                    window.max(1).ilog2().clamp(10, if cfg!(target_pointer_width = "64") { 31 } else { 30 }),
                ))?;
                Codec::Zstd { frame: Box::new(frame), members: 0, window }
            }
            Compression::Bzip2 => Codec::Bzip2(Box::new(Bzip2::new(false))),
        }))
    }

    /// `bytes` is all that is left if `last`; otherwise at least enough to see a member's magic.
    pub fn next(&self, bytes: &[u8], last: bool) -> Next {
        if bytes.is_empty() && last {
            return Next::End;
        }
        match self {
            // As gunzip(1) does: zeros and anything else after a member are ignored.
            Codec::Gzip(_) if bytes.starts_with(&[0x1f, 0x8b]) => Next::Member,
            Codec::Gzip(_) => Next::End,
            // xz(1), "Stream Padding": zeros, a multiple of four.
            Codec::Xz { .. } if bytes.starts_with(&[0; 4]) => Next::Padding(4),
            Codec::Xz { members, .. } if *members == 0 || bytes.starts_with(&[0xfd, b'7', b'z', b'X', b'Z', 0]) => {
                Next::Member
            }
            Codec::Xz { .. } => Next::Garbage,
            Codec::Zstd { members, .. } if *members == 0 || Compression::of(bytes) == Compression::Zstd => Next::Member,
            Codec::Zstd { .. } => Next::Garbage,
            // As bzip2(1) does: what follows the last stream is ignored.
            Codec::Bzip2(_) if bytes.starts_with(b"BZh") => Next::Member,
            Codec::Bzip2(_) => Next::End,
        }
    }

    /// Gets ready for the next member.
    pub fn restart(&mut self) -> io::Result<()> {
        match self {
            // Keeps the gzip wrapping: zlib's inflateReset, and not inflateReset2.
            Codec::Gzip(inflate) => **inflate = Inflate::new_gzip(15),
            Codec::Xz { stream, members, window } => {
                if *members > 0 {
                    **stream = xz(*window)?;
                }
                *members += 1;
            }
            Codec::Zstd { members, .. } => *members += 1,
            Codec::Bzip2(stream) => **stream = Bzip2::new(false),
        }
        Ok(())
    }

    pub fn decode(&mut self, input: &[u8], output: &mut [u8], last: bool) -> io::Result<Step> {
        match self {
            Codec::Gzip(inflate) => {
                let (taken, given) = (inflate.total_in(), inflate.total_out());
                let status = inflate.decompress(input, output, FlushDecompress::None);
                let ended = matches!(status.map_err(io::Error::from)?, flate2::Status::StreamEnd);
                Ok(step(inflate.total_in() - taken, inflate.total_out() - given, ended))
            }
            Codec::Xz { stream, window, .. } => {
                let (taken, given) = (stream.total_in(), stream.total_out());
                let action = if last { Action::Finish } else { Action::Run };
                let status = match stream.process(input, output, action) {
                    Ok(status) => status,
                    Err(xz2::stream::Error::MemLimit) => return Err(too_large("xz data has a dictionary", *window)),
                    Err(error) => return Err(error.into()),
                };
                let ended = status == XzStatus::StreamEnd;
                Ok(step(stream.total_in() - taken, stream.total_out() - given, ended))
            }
            Codec::Zstd { frame, window, .. } => {
                let status = frame.run_on_buffers(input, output).map_err(|error| match error.to_string() {
                    // zstd's errors have no numbers that a program could rely on.
                    text if text.contains("requires too much memory") => too_large("zstd data has a window", *window),
                    _ => error,
                })?;
                let ended = status.remaining == 0 && (status.bytes_read > 0 || status.bytes_written > 0);
                Ok(Step { taken: status.bytes_read, given: status.bytes_written, ended })
            }
            Codec::Bzip2(stream) => {
                let (taken, given) = (stream.total_in(), stream.total_out());
                let status = stream.decompress(input, output)?;
                let ended = status == bzip2::Status::StreamEnd;
                Ok(step(stream.total_in() - taken, stream.total_out() - given, ended))
            }
        }
    }
}

/// The decoder of one stream. Blocks whose sizes are in their headers (as xz -T writes them) use all processors.
fn xz(window: u64) -> io::Result<Xz> {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(16)) as u32;
    let mut builder = MtStreamBuilder::new();
    let parallel = memory::limit().map_or(XZ_PARALLEL_MEMORY, |limit| XZ_PARALLEL_MEMORY.min(limit / 4));
    builder.threads(threads).memlimit_threading(parallel).memlimit_stop(window.saturating_add(XZ_BESIDE));
    Ok(builder.decoder()?)
}

fn too_large(what: &str, limit: u64) -> io::Error {
    let error = anyhow!("the {what} of more than {limit} bytes");
    failure(error.context(Hint("raise it with --limit window=N if this image is trusted".into())))
}

fn step(taken: u64, given: u64, ended: bool) -> Step {
    // Neither exceeds the length of a buffer.
    Step { taken: taken as usize, given: given as usize, ended }
}
