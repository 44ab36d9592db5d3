//! A tar stream as a list of entries. GNU tar, bsdtar and Python's tarfile do not read every archive alike. Where they
//! differ this takes the majority's reading, and `Limits::strict` refuses the archive. What two of them call damaged is
//! always refused.

mod assemble;
mod entry;
mod extension;
mod header;
mod number;
mod pax;
mod records;
mod sparse;

use std::io::{self, Read};

use anyhow::{Result, anyhow, bail};
use chain::WithHint;

use crate::budget::{Limits, within};
use crate::source::read_some;
use crate::stream::Bytes;
pub use entry::{Entry, Kind, Segment, Time};
use extension::Extensions;
use header::{BLOCK, Header};

/// How the list of entries ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With a zero block, as it should.
    Marker,
    /// With the stream, which may have been cut between two entries.
    NoMarker,
}

pub struct Archive<R> {
    stream: R,
    limits: Limits,
    /// Bytes taken from the stream.
    offset: u64,
    /// What is left of the current entry's stored bytes, and of the padding after them.
    content: u64,
    padding: u64,
    extensions: Extensions,
    end: Option<End>,
    ending: Ending,
}

/// How an archive has to end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// As tar programs want it: after a whole number of blocks.
    Blocks,
    /// With its marker.
    Marked,
    /// Anywhere between entries: a digest vouches for the length.
    Anywhere,
}

impl<R: Read> Archive<R> {
    pub fn new(stream: R, limits: Limits) -> Archive<R> {
        Archive {
            stream,
            limits,
            offset: 0,
            content: 0,
            padding: 0,
            extensions: Extensions::default(),
            end: None,
            ending: Ending::Blocks,
        }
    }

    /// The next entry. Skips what is left of the previous one's content.
    #[expect(clippy::should_implement_trait, reason = "an entry's content is read between two calls")]
    pub fn next(&mut self) -> Result<Option<Entry>> {
        if self.end.is_some() {
            return Ok(None);
        }
        self.skip_content()?;
        if self.end.is_some() {
            return Ok(None);
        }
        let start = self.offset;
        loop {
            let at = self.offset;
            let Some(block) = self.block()? else {
                self.no_dangling_extension(at)?;
                if self.ending == Ending::Marked {
                    return Err(anyhow!("truncated: the archive ends at byte {at} without its end marker"))
                        .hint("if it is whole, append the marker: { cat IMAGE; head -c 1024 /dev/zero; } | unpack -");
                }
                self.strict(at, "the archive has no end marker")?;
                self.end = Some(End::NoMarker);
                return Ok(None);
            };
            if block.iter().all(|&b| b == 0) {
                self.no_dangling_extension(at)?;
                self.end_marker(at)?;
                return Ok(None);
            }
            let mut header = Header::parse(&block, at, self.limits.strict)?;
            match header.typeflag {
                b'x' | b'X' | b'g' | b'L' | b'K' => {
                    let body = self.extension(&header, at)?;
                    self.extensions.add(header.typeflag, body, at, &self.limits)?;
                }
                // A volume's label.
                b'V' => {
                    self.strict(at, "a volume's label")?;
                    self.open(header.size, at)?;
                    self.skip_content()?;
                }
                b'M' => {
                    return Err(anyhow!("at byte {at}: the rest of a file that began in another volume"))
                        .hint("join the volumes of a multi-volume archive with tar -M first");
                }
                _ => return self.assemble(&mut header, start, at).map(Some),
            }
        }
    }

    /// The current entry's stored bytes; for a sparse file, its segments back to back.
    pub fn content(&mut self) -> Content<'_, R> {
        Content { archive: self }
    }

    /// How much of the current entry's content is still unread.
    pub fn remaining(&self) -> u64 {
        self.content
    }

    /// How much of the stream has been read. Right after `next`, where the current entry's content begins.
    pub fn position(&self) -> u64 {
        self.offset
    }

    /// The next bytes of the current entry's content, at most `most`, as `take` gets them from the stream.
    pub fn share(&mut self, most: usize, take: impl FnOnce(&mut R, usize) -> io::Result<Bytes>) -> io::Result<Bytes> {
        let most = most.min(usize::try_from(self.content).unwrap_or(usize::MAX));
        let bytes = take(&mut self.stream, most)?;
        if bytes.is_empty() || bytes.len() > most {
            return Err(truncated(self.offset));
        }
        self.offset += bytes.len() as u64;
        self.content -= bytes.len() as u64;
        Ok(bytes)
    }

    /// Skips the rest of the current entry's content with `skip`, which gets the number of bytes: for a stream that can
    /// seek, or whose content was copied by other means.
    pub fn pass_over(&mut self, skip: impl FnOnce(&mut R, u64) -> io::Result<()>) -> io::Result<()> {
        let rest = std::mem::take(&mut self.content);
        skip(&mut self.stream, rest)?;
        self.offset += rest;
        Ok(())
    }

    /// Refuses a stream that ends without the end-of-archive marker: it may have been cut between two entries.
    pub fn demanding_a_marker(mut self) -> Archive<R> {
        self.ending = Ending::Marked;
        self
    }

    /// For a stream whose length a digest vouches for: some programs write layers without the end marker, and without the
    /// padding before it (umoci insert).
    pub fn vouched_for(mut self) -> Archive<R> {
        self.ending = Ending::Anywhere;
        self
    }

    /// How the entries ended, once `next` gave None.
    pub fn end(&self) -> Option<End> {
        self.end
    }

    /// The stream, which may have more behind the archive.
    pub fn stream(&mut self) -> &mut R {
        &mut self.stream
    }

    /// Reads the stream to its end, so that its digest covers all of it.
    pub fn finish(mut self) -> Result<R> {
        io::copy(&mut self.stream, &mut io::sink())?;
        Ok(self.stream)
    }

    /// Makes `size` stored bytes and their padding the current content.
    fn open(&mut self, size: u64, at: u64) -> Result<()> {
        if size > i64::MAX as u64 - BLOCK {
            bail!("at byte {at}: the size {size} is impossible");
        }
        self.content = size;
        self.padding = size.next_multiple_of(BLOCK) - size;
        Ok(())
    }

    fn extension(&mut self, header: &Header, at: u64) -> Result<Vec<u8>> {
        let (budget, what, option) = match header.typeflag {
            b'L' | b'K' => (self.limits.name.saturating_add(1), "bytes of a name", "--limit name=N"),
            _ => (self.limits.pax, "bytes of an extended header", "--limit pax=N"),
        };
        within(header.size, budget, format_args!("at byte {at}: {what}"), option)?;
        self.open(header.size, at)?;
        let mut body = Vec::new();
        self.content().read_to_end(&mut body)?;
        self.skip_content()?;
        Ok(body)
    }

    fn no_dangling_extension(&self, at: u64) -> Result<()> {
        if self.extensions.pending() {
            bail!("at byte {at}: the archive ends after an extended header, before the entry that it is for");
        }
        if self.extensions.ends_in_global() {
            self.strict(at, "the archive ends after a global extended header")?;
        }
        Ok(())
    }

    fn end_marker(&mut self, at: u64) -> Result<()> {
        self.end = Some(End::Marker);
        if self.limits.strict {
            match self.block()? {
                Some(block) if block.iter().any(|&b| b != 0) => {
                    self.strict(at, "a lone zero block, and more after it")?
                }
                Some(_) => {}
                None => self.strict(at, "a lone zero block at the end")?,
            }
        }
        Ok(())
    }

    fn strict(&self, at: u64, what: impl std::fmt::Display) -> Result<()> {
        if self.limits.strict { disagreement(at, what) } else { Ok(()) }
    }

    /// None at the end of the stream.
    fn block(&mut self) -> Result<Option<[u8; BLOCK as usize]>> {
        let mut block = [0; BLOCK as usize];
        let mut filled = 0;
        while filled < block.len() {
            match self.stream.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(truncated(self.offset).into()),
                Ok(n) => {
                    filled += n;
                    self.offset += n as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Some(block))
    }

    fn skip_content(&mut self) -> Result<()> {
        io::copy(&mut self.content(), &mut io::sink())?;
        let padding = std::mem::take(&mut self.padding);
        let mut rest = padding;
        while rest > 0 {
            match read_some(&mut self.stream, &mut [0; BLOCK as usize][..rest as usize])? {
                0 if rest == padding && self.ending == Ending::Anywhere && !self.extensions.pending() => {
                    self.strict(self.offset, "the last entry's padding is missing")?;
                    self.end = Some(End::NoMarker);
                    return Ok(());
                }
                0 => return Err(truncated(self.offset).into()),
                n => {
                    rest -= n as u64;
                    self.offset += n as u64;
                }
            }
        }
        Ok(())
    }
}

/// What `--strict` refuses: something that tar programs do not read alike.
fn disagreement(at: u64, what: impl std::fmt::Display) -> Result<()> {
    Err(anyhow!("at byte {at}: {what}: not every tar program reads this alike"))
        .hint("without --strict it is read as most of them do")
}

fn truncated(at: u64) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, format!("truncated: the archive ends at byte {at}, inside an entry"))
}

pub struct Content<'a, R> {
    archive: &'a mut Archive<R>,
}

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let archive = &mut *self.archive;
        let want = buffer.len().min(usize::try_from(archive.content).unwrap_or(usize::MAX));
        if want == 0 {
            return Ok(0);
        }
        let n = archive.stream.read(&mut buffer[..want])?;
        if n == 0 {
            return Err(truncated(archive.offset));
        }
        archive.offset += n as u64;
        archive.content -= n as u64;
        Ok(n)
    }
}
