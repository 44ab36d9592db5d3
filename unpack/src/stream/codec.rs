//! The four decompressors behind one face: some bytes in, some bytes out, the end of a member seen.

use std::io;

use bzip2::Decompress as Bzip2;
use flate2::{Decompress as Inflate, FlushDecompress};
use xz2::stream::{Action, MtStreamBuilder, Status as XzStatus, Stream as Xz};
use zstd::stream::raw::{DParameter, Decoder as Zstd, Operation};

use super::Compression;

pub(super) enum Codec {
    Gzip(Box<Inflate>),
    Xz { stream: Box<Xz>, members: u64 },
    Zstd { frame: Box<Zstd<'static>>, members: u64 },
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
    /// So many bytes that mean nothing.
    Padding(usize),
    End,
    Garbage,
}

/// zstd(1) decodes windows of up to 128 MiB unless told otherwise.
const ZSTD_WINDOW_LOG: u32 = 27;
/// A dictionary of xz -9 takes 64 MiB; nobody needs more than this.
const XZ_MEMORY: u64 = 512 << 20;
/// Blocks are decoded in parallel as far as their buffers fit into this.
const XZ_PARALLEL_MEMORY: u64 = 256 << 20;

impl Codec {
    pub fn new(compression: Compression) -> io::Result<Option<Codec>> {
        Ok(Some(match compression {
            Compression::Plain => return Ok(None),
            Compression::Gzip => Codec::Gzip(Box::new(Inflate::new_gzip(15))),
            Compression::Xz => Codec::Xz { stream: Box::new(xz()?), members: 0 },
            Compression::Zstd => {
                let mut frame = Zstd::new()?;
                frame.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG))?;
                Codec::Zstd { frame: Box::new(frame), members: 0 }
            }
            Compression::Bzip2 => Codec::Bzip2(Box::new(Bzip2::new(false))),
        }))
    }

    /// `bytes` is all that is left where `last` says so, and enough to see a member's magic otherwise.
    pub fn next(&self, bytes: &[u8], last: bool) -> Next {
        if bytes.is_empty() && last {
            return Next::End;
        }
        match self {
            // As gunzip(1) does: zeros and anything else behind a member are ignored.
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
            // As bzip2(1): what is behind the last stream is ignored.
            Codec::Bzip2(_) if bytes.starts_with(b"BZh") => Next::Member,
            Codec::Bzip2(_) => Next::End,
        }
    }

    /// Makes ready for the next member.
    pub fn restart(&mut self) -> io::Result<()> {
        match self {
            // Keeps the gzip wrapping: zlib's inflateReset, and not inflateReset2.
            Codec::Gzip(inflate) => **inflate = Inflate::new_gzip(15),
            Codec::Xz { stream, members } => {
                if *members > 0 {
                    **stream = xz()?;
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
            Codec::Xz { stream, .. } => {
                let (taken, given) = (stream.total_in(), stream.total_out());
                let action = if last { Action::Finish } else { Action::Run };
                let status = match stream.process(input, output, action) {
                    Ok(status) => status,
                    Err(xz2::stream::Error::MemLimit) => {
                        return Err(io::Error::other(format!("a dictionary that needs more than {XZ_MEMORY} bytes")));
                    }
                    Err(error) => return Err(error.into()),
                };
                let ended = status == XzStatus::StreamEnd;
                Ok(step(stream.total_in() - taken, stream.total_out() - given, ended))
            }
            Codec::Zstd { frame, .. } => {
                let status = frame.run_on_buffers(input, output)?;
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

/// One stream's decoder; blocks whose sizes are in their headers (xz -T writes them) go to all processors.
fn xz() -> io::Result<Xz> {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(16)) as u32;
    let mut builder = MtStreamBuilder::new();
    builder.threads(threads).memlimit_threading(XZ_PARALLEL_MEMORY).memlimit_stop(XZ_MEMORY);
    Ok(builder.decoder()?)
}

fn step(taken: u64, given: u64, ended: bool) -> Step {
    // Neither is more than the length of a buffer.
    Step { taken: taken as usize, given: given as usize, ended }
}
