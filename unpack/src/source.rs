//! Where an image comes from: a file with random access, a directory, or a stream that passes once.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, anyhow, bail};
use chain::WithHint;
use rustix::fs::{Mode, OFlags};

use crate::digest::{Algorithm, Digest, Hashing};

mod fetch;

pub enum Source {
    File(Region),
    Directory(OwnedFd),
    Stream(Box<dyn Read + Send>),
}

/// Identifies a file without reading it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Identity {
    pub device: u64,
    pub inode: u64,
    pub size: u64,
    /// Seconds and nanoseconds.
    pub modified: (i64, i64),
    pub changed: (i64, i64),
}

impl Source {
    /// `-` is standard input, which may well be a file.
    pub fn open(path: &Path) -> Result<Source> {
        let name = path.display();
        if path == Path::new("-") {
            let stdin = File::from(rustix::io::dup(rustix::stdio::stdin()).context("standard input")?);
            if stdin.is_terminal() {
                return Err(anyhow!("standard input is a terminal"))
                    .hint("pipe an image into unpack, or name its file");
            }
            return Source::of(stdin).context("standard input");
        }
        match File::open(path) {
            Ok(file) => Source::of(file).with_context(|| name.to_string()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => match fetch::instead(path) {
                Some(hint) => Err(anyhow!("{name}: no such file: IMAGE is a file, a directory or -")).hint(hint),
                None => Err(error).with_context(|| name.to_string()),
            },
            Err(error) => Err(error).with_context(|| name.to_string()),
        }
    }

    pub(crate) fn of(mut file: File) -> Result<Source> {
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Ok(Source::Directory(file.into()));
        }
        if !metadata.is_file() {
            // With 64 KiB the two ends of a pipe wait for each other more than they need to (pipe(7)). Not being allowed a
            // larger one is no failure.
            let _ = rustix::pipe::fcntl_setpipe_size(&file, 1 << 20);
            return Ok(Source::Stream(Box::new(file)));
        }
        // Somebody may have read from standard input before us.
        let begin = file.stream_position()?;
        Ok(Source::File(Region { file: Arc::new(file), position: begin, end: metadata.len().max(begin) }))
    }

    /// The file's identity. A stream and a directory have only their content.
    pub fn identity(&self) -> Result<Option<Identity>> {
        let Source::File(region) = self else {
            return Ok(None);
        };
        let metadata = region.file.metadata()?;
        Ok(Some(Identity {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }))
    }

    /// Reads all of a file or stream for its digest, as `Verified::source` has it after an extraction.
    pub fn digest(self, algorithm: Algorithm) -> Result<Digest> {
        let reader: Box<dyn Read> = match self {
            Source::File(region) => Box::new(region),
            Source::Stream(stream) => stream,
            Source::Directory(_) => bail!("a directory has no digest"),
        };
        let mut reader = Hashing::new(reader, Some(algorithm));
        let mut buffer = vec![0; 256 << 10];
        while read_some(&mut reader, &mut buffer)? > 0 {}
        reader.finish().0.context("no digest")
    }
}

/// `read`, repeated after a signal.
pub(crate) fn read_some(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match reader.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Fills the buffer, unless the stream ends before.
pub(crate) fn read_full(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match read_some(reader, &mut buffer[filled..])? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(filled)
}

/// Counts the bytes of a stream as they are read.
pub(crate) struct Counting<R> {
    pub source: R,
    pub read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.source.read(buffer)?;
        self.read.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

/// Tells a filesystem from others.
#[derive(Clone, Copy, Debug)]
pub struct FileSystem {
    device: u64,
    btrfs: bool,
}

/// statfs(2): each of its subvolumes has a device number of its own.
const BTRFS: u32 = 0x9123_683e;

impl FileSystem {
    pub fn of(file: impl AsFd) -> rustix::io::Result<FileSystem> {
        let device = rustix::fs::fstat(&file)?.st_dev;
        let kind = rustix::io::retry_on_intr(|| rustix::fs::fstatfs(&file))?.f_type;
        Ok(FileSystem { device, btrfs: kind as u32 == BTRFS })
    }

    /// Whether copy_file_range(2) can copy from this file into the tree: not between filesystems.
    pub fn has(&self, file: impl AsFd) -> bool {
        FileSystem::of(file).is_ok_and(|other| other.device == self.device || (other.btrfs && self.btrfs))
    }
}

/// A part of a file, read without moving the shared file offset.
#[derive(Clone, Debug)]
pub struct Region {
    file: Arc<File>,
    position: u64,
    end: u64,
}

impl Region {
    pub fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Where in the file the next byte is read.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Bytes that are left.
    pub fn len(&self) -> u64 {
        self.end - self.position
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `length` bytes of it, `offset` from here. None if it has fewer.
    pub fn part(&self, offset: u64, length: u64) -> Option<Region> {
        let position = self.position.checked_add(offset)?;
        let end = position.checked_add(length).filter(|&end| end <= self.end)?;
        Some(Region { file: self.file.clone(), position, end })
    }

    pub fn skip(&mut self, bytes: u64) -> io::Result<()> {
        if bytes > self.len() {
            self.position = self.end;
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "truncated: the file ends inside an entry"));
        }
        self.position += bytes;
        Ok(())
    }

    /// Its first bytes, without moving on.
    pub fn head(&self, length: usize) -> io::Result<Vec<u8>> {
        let mut head = vec![0; length];
        let filled = read_full(&mut self.clone(), &mut head)?;
        head.truncate(filled);
        Ok(head)
    }
}

impl Read for Region {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = buffer.len().min(usize::try_from(self.len()).unwrap_or(usize::MAX));
        if want == 0 {
            return Ok(0);
        }
        let n = self.file.read_at(&mut buffer[..want], self.position)?;
        if n == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "truncated: the file became shorter meanwhile"));
        }
        self.position += n as u64;
        Ok(n)
    }
}

/// Copies a stream into an unnamed file in `directory`, where there must be room for the image anyway. It may not fit into
/// memory.
pub(crate) fn spool(stream: &mut impl Read, directory: &Path) -> Result<Region> {
    let mut file = unnamed(directory).with_context(|| format!("{}: temporary file", directory.display()))?;
    let length = io::copy(stream, &mut file)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(Region { file: Arc::new(file), position: 0, end: length })
}

/// An unnamed file, for what does not fit into memory.
pub(crate) fn unnamed(directory: &Path) -> Result<File> {
    let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
    match crate::retry_eintr::open(directory, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => return Ok(file.into()),
        // open(2): a filesystem, or a kernel, without O_TMPFILE.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR | rustix::io::Errno::INVAL) => {}
        Err(error) => return Err(chain::sys::errno(error).into()),
    }
    for attempt in 0..100 {
        let path = directory.join(format!(".unpack-spool-{}-{attempt}", std::process::id()));
        match File::options().read(true).write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => {
                std::fs::remove_file(&path)?;
                return Ok(file);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error.into()),
        }
    }
    bail!("no name for it is free")
}
