//! A tar stream as a list of entries. GNU tar, bsdtar and Python's tarfile do not read every archive alike. Where they
//! differ this takes the majority's reading, and `Limits::strict` refuses the archive. What two of them call damaged is
//! always refused.

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
use extension::Extensions;
use header::{BLOCK, Header};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where its first header block is in the uncompressed stream.
    pub offset: u64,
    /// As stored, with PAX and GNU long names applied: not normalised, not empty, no NUL, perhaps no UTF-8.
    pub path: Vec<u8>,
    pub kind: Kind,
    /// Target of a hard link or symbolic link, as stored.
    pub link: Vec<u8>,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub mtime: Time,
    pub atime: Option<Time>,
    /// Length of a file's content, holes included; 0 for all other kinds.
    pub size: u64,
    /// Where the data of a sparse file goes, in order; its content is then these bytes back to back.
    pub sparse: Option<Vec<Segment>>,
    /// By name, each name once.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Text form, as stored.
    pub acl_access: Option<Vec<u8>>,
    pub acl_default: Option<Vec<u8>>,
    /// Whether it has an NFSv4 ACL.
    pub acl_nfs: bool,
    /// Major and minor number of a device.
    pub device: (u32, u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    File,
    HardLink,
    Symlink,
    CharDevice,
    BlockDevice,
    Directory,
    Fifo,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    pub seconds: i64,
    pub nanoseconds: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    pub offset: u64,
    pub length: u64,
}

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

/// What is asked of an archive's end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// As tars take it: a whole number of blocks.
    Blocks,
    Demanded,
    Vouched,
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

    /// The next entry; what is left of the previous one's content is skipped.
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
                if self.ending == Ending::Demanded {
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
                _ => return self.entry(&mut header, start, at).map(Some),
            }
        }
    }

    /// The current entry's stored bytes; for a sparse file, its segments back to back.
    pub fn content(&mut self) -> Content<'_, R> {
        Content { archive: self }
    }

    /// Bytes of the current entry's content that were not read yet.
    pub fn remaining(&self) -> u64 {
        self.content
    }

    /// Bytes of the stream that were read: where the current entry's content begins, right after `next`.
    pub fn position(&self) -> u64 {
        self.offset
    }

    /// The next bytes of the current entry's content, at most so many, out of what `take` has of the stream.
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

    /// Passes over what is left of the current entry's content by `skip`, which is told how many bytes
    /// that is: for a stream that can seek, or whose content was copied by other means.
    pub fn pass_over(&mut self, skip: impl FnOnce(&mut R, u64) -> io::Result<()>) -> io::Result<()> {
        let rest = std::mem::take(&mut self.content);
        skip(&mut self.stream, rest)?;
        self.offset += rest;
        Ok(())
    }

    /// Refuses a stream that ends without the end-of-archive marker: it may have been cut between two entries.
    pub fn demanding_a_marker(mut self) -> Archive<R> {
        self.ending = Ending::Demanded;
        self
    }

    /// For a stream whose length a digest vouches for: writers of layers exist that leave out the
    /// end marker, and the padding before it too (umoci insert).
    pub fn vouched_for(mut self) -> Archive<R> {
        self.ending = Ending::Vouched;
        self
    }

    /// How the entries ended, once `next` gave None.
    pub fn end(&self) -> Option<End> {
        self.end
    }

    /// The stream again, for what may be behind the archive in it.
    pub fn stream(&mut self) -> &mut R {
        &mut self.stream
    }

    /// Reads the stream to its end, so that its digest is of all of it.
    pub fn finish(mut self) -> Result<R> {
        io::copy(&mut self.stream, &mut io::sink())?;
        Ok(self.stream)
    }

    fn entry(&mut self, header: &mut Header, start: u64, at: u64) -> Result<Entry> {
        if self.extensions.has_pax() && !header.is_ustar() {
            self.strict(at, "an extended header before an entry that is not in ustar's format")?;
        }
        let extension = self.extensions.take();
        let mut path = extension.path.unwrap_or_else(|| std::mem::take(&mut header.path));
        let slash = path.last() == Some(&b'/');
        let (kind, carries_data) = match header.typeflag {
            b'1' => (Kind::HardLink, false),
            b'2' => (Kind::Symlink, false),
            b'3' => (Kind::CharDevice, false),
            b'4' => (Kind::BlockDevice, false),
            b'5' => (Kind::Directory, false),
            b'6' => (Kind::Fifo, false),
            // GNU's list of what a directory held when it was dumped.
            b'D' => (Kind::Directory, true),
            // As before ustar: a directory is a file whose name ends in a slash.
            0 | b'0' | b'7' if slash => (Kind::Directory, false),
            0 | b'0' | b'7' | b'S' => (Kind::File, true),
            other => {
                self.strict(at, format_args!("unknown type {:?}", char::from(other)))?;
                (Kind::File, true)
            }
        };
        let stored = extension.size.unwrap_or(header.size);
        if !carries_data && stored != 0 {
            self.strict(at, "an entry that has no content has a size")?;
        }
        if slash && matches!(header.typeflag, b'0' | b'7') {
            self.strict(at, "a file's name ends in a slash")?;
        }
        if kind == Kind::Directory && carries_data {
            self.strict(at, "a directory's content list")?;
        }
        let link = match kind {
            Kind::HardLink | Kind::Symlink => extension.link.unwrap_or_else(|| std::mem::take(&mut header.link)),
            _ => Vec::new(),
        };
        if path.is_empty() && kind == Kind::Directory {
            // GNU tar and umoci take it for the root.
            self.strict(at, "a directory without a name")?;
            path = b"./".to_vec();
        } else if path.is_empty() {
            bail!("at byte {at}: the name is empty");
        }
        if link.is_empty() && matches!(kind, Kind::HardLink | Kind::Symlink) {
            bail!("at byte {at}: the link's target is empty");
        }
        for name in [&path, &link] {
            within(name.len() as u64, self.limits.name, format_args!("at byte {at}: bytes of a name"), "--max-name")?;
        }
        self.open(if carries_data { stored } else { 0 }, at)?;
        let mut entry = Entry {
            offset: start,
            kind,
            link,
            mode: header.mode,
            uid: extension.uid.unwrap_or(header.uid),
            gid: extension.gid.unwrap_or(header.gid),
            mtime: extension.mtime.unwrap_or(header.mtime),
            atime: extension.atime,
            size: if kind == Kind::File { stored } else { 0 },
            sparse: None,
            xattrs: extension.xattrs.into_iter().collect(),
            acl_access: extension.acl_access,
            acl_default: extension.acl_default,
            acl_nfs: extension.acl_nfs,
            device: match kind {
                Kind::CharDevice | Kind::BlockDevice => header.device(at)?,
                _ => (0, 0),
            },
            path,
        };
        if self.limits.strict
            && let Some(acl) = &entry.acl_access
            && (records::acl_mode(acl) != Some(entry.mode & 0o777) || !matches!(kind, Kind::File | Kind::Directory))
        {
            disagreement(at, "an ACL that does not go with the mode")?;
        }
        if entry.acl_default.is_some() && kind != Kind::Directory {
            self.strict(at, "a default ACL of what is no directory")?;
        }
        let sparse_records = extension.sparse.any();
        if kind == Kind::File
            && let Some((size, segments)) = self.sparse_map(header, extension.sparse, at)?
        {
            if sparse_records && header.typeflag != b'0' {
                self.strict(at, "records of a sparse file before an entry of another type")?;
            }
            if extension.size.is_some() {
                self.strict(at, "a sparse file with a size of its own in its extended header")?;
            }
            entry.size = size;
            entry.sparse = Some(segments);
        } else if sparse_records {
            self.strict(at, "records of a sparse file before what is none")?;
        }
        Ok(entry)
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
            b'L' | b'K' => (self.limits.name.saturating_add(1), "bytes of a name", "--max-name"),
            _ => (self.limits.pax, "bytes of an extended header", "--max-pax"),
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
                0 if rest == padding && self.ending == Ending::Vouched && !self.extensions.pending() => {
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

/// What `--strict` says: the archive is refused because its readers do not agree on what it means.
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
