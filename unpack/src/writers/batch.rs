//! What a writer gets at a time, and how it writes it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use anyhow::{Context, Result};
use rustix::io::Errno;

use crate::gate::Gate;
use crate::stream::Bytes;
use crate::tree::{NewFile, Planned, shown};

/// A batch holds about this many bytes,
pub const BATCH: usize = 256 << 10;
/// from at most this many chunks of input, which stay in memory until it is written.
const CHUNKS: usize = 2;
/// At most this many segments of a file in one batch.
const PIECES: usize = 4096;
/// Bytes for one copy_file_range(2),
const PART: usize = 64 << 20;
/// and for one copy by hand.
const BUFFER: usize = 256 << 10;

#[derive(Default)]
pub struct Batch {
    works: Vec<Work>,
    pub bytes: usize,
    chunks: usize,
    /// How many files it keeps open.
    pub open: usize,
    /// How many files it will create.
    pub planned: usize,
    last: Bytes,
}

enum Work {
    /// A part of an existing file, at an offset.
    Part(Arc<NewFile>, u64, Piece),
    /// A file with all of its content.
    Whole(Planned, Piece),
}

/// What is written in one place.
pub enum Piece {
    Bytes(Bytes),
    /// From more than one chunk of input.
    Parts(Vec<Bytes>),
    /// A part of a file: offset and length.
    File(Arc<File>, u64, u64),
}

impl Batch {
    pub fn is_empty(&self) -> bool {
        self.works.is_empty()
    }

    pub fn is_full(&self) -> bool {
        self.bytes >= BATCH || self.chunks > CHUNKS || self.works.len() >= PIECES
    }

    pub fn part(&mut self, file: &Arc<NewFile>, at: u64, piece: Piece) {
        self.counts(&piece);
        self.works.push(Work::Part(file.clone(), at, piece));
    }

    pub fn end(&mut self, file: Arc<NewFile>) {
        self.works.push(Work::Part(file, 0, Piece::Bytes(Bytes::default())));
        self.open += 1;
    }

    pub fn whole(&mut self, file: Planned, piece: Piece) {
        self.counts(&piece);
        self.works.push(Work::Whole(file, piece));
        self.planned += 1;
    }

    /// Whether this batch's last file is in the same directory.
    pub fn ends_beside(&self, file: &Planned) -> bool {
        matches!(self.works.last(), Some(Work::Whole(last, _)) if last.is_beside(file))
    }

    fn counts(&mut self, piece: &Piece) {
        let parts = match piece {
            Piece::Bytes(bytes) => std::slice::from_ref(bytes),
            Piece::Parts(parts) => parts,
            Piece::File(_, _, length) => {
                self.bytes = self.bytes.saturating_add(usize::try_from(*length).unwrap_or(usize::MAX));
                return;
            }
        };
        for bytes in parts {
            self.bytes += bytes.len();
            if !bytes.shares_its_chunk_with(&self.last) {
                self.chunks += 1;
                self.last = bytes.clone();
            }
        }
    }

    pub fn write(self, gate: &Gate, buffer: &mut Vec<u8>) -> Result<()> {
        self.works.into_iter().try_for_each(|work| work.write(gate, buffer))
    }
}

impl Work {
    fn write(self, gate: &Gate, buffer: &mut Vec<u8>) -> Result<()> {
        match self {
            Work::Part(file, at, piece) => {
                piece.write(&file, at, gate, buffer)?;
                // The writer of a file's last part finishes it.
                Arc::into_inner(file).map_or(Ok(()), NewFile::finish)
            }
            Work::Whole(planned, piece) => {
                let file = {
                    let _inside = gate.pass_inside()?;
                    planned.make()?
                };
                piece.write(&file, 0, gate, buffer)?;
                file.finish()
            }
        }
    }
}

impl Piece {
    fn write(self, to: &NewFile, at: u64, gate: &Gate, buffer: &mut Vec<u8>) -> Result<()> {
        let written = match self {
            Piece::Bytes(bytes) if bytes.is_empty() => Ok(()),
            Piece::Bytes(bytes) => to.file().write_all_at(bytes.as_slice(), at).map_err(Into::into),
            Piece::Parts(parts) => write_all(&parts, to.file(), at).map_err(Into::into),
            Piece::File(other, offset, length) => copy(&other, offset, to.file(), at, length, gate, buffer),
        };
        written.with_context(|| format!("{}: write it", shown(to.path())))
    }
}

fn write_all(parts: &[Bytes], to: &File, mut at: u64) -> io::Result<()> {
    for part in parts {
        to.write_all_at(part.as_slice(), at)?;
        at += part.len() as u64;
    }
    Ok(())
}

/// copy_file_range(2), or a copy by hand where the kernel or the filesystems cannot. Once there is a buffer, that is known.
fn copy(
    from: &File,
    mut offset: u64,
    to: &File,
    mut at: u64,
    mut length: u64,
    gate: &Gate,
    buffer: &mut Vec<u8>,
) -> Result<()> {
    while length > 0 {
        // Fails once the gate is being shut: somebody inside may be waiting for this copy.
        drop(gate.pass_inside()?);
        let part = usize::try_from(length).map_or(PART, |length| length.min(PART));
        let copied = match buffer.is_empty() {
            true => rustix::fs::copy_file_range(from, Some(&mut offset.clone()), to, Some(&mut at.clone()), part),
            false => Err(Errno::OPNOTSUPP),
        };
        let n = match copied {
            Ok(n) if n > 0 => n,
            Err(Errno::INTR) => continue,
            Ok(_) | Err(Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS | Errno::PERM) => {
                buffer.resize(BUFFER, 0);
                let n = from.read_at(&mut buffer[..part.min(BUFFER)], offset)?;
                if n == 0 {
                    let why = "truncated: the file became shorter meanwhile";
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why).into());
                }
                to.write_all_at(&buffer[..n], at)?;
                n
            }
            Err(error) => return Err(error.into()),
        };
        offset += n as u64;
        at += n as u64;
        length -= n as u64;
    }
    Ok(())
}
