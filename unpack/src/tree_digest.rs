//! A digest of a whole tree: two extractions of one image agree on it, on any machine.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result};
use chain::WithHint;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::digest::{Algorithm, Digest, Hasher};
use crate::tree::{remove::names, shown};

/// Longer paths are opened in pieces.
const PIECE: usize = 3000;

/// Digests, in the order of their names, every file's path, type, mode, owner, time, content or target, device
/// number, extended attributes, and which paths are one file.
pub fn of(root: &Path) -> Result<Digest> {
    let named = || root.display().to_string();
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = crate::retry_eintr::open(root, flags, Mode::empty()).with_context(named)?;
    let mut walk =
        Walk { root, hasher: Hasher::new(Algorithm::Sha256), links: HashMap::new(), buffer: vec![0; 256 << 10] };
    walk.all().with_context(named)?;
    Ok(walk.hasher.finish())
}

struct Walk {
    root: OwnedFd,
    hasher: Hasher,
    links: HashMap<(u64, u64), u64>,
    buffer: Vec<u8>,
}

impl Walk {
    fn all(&mut self) -> Result<()> {
        let stat = rustix::fs::fstat(&self.root)?;
        let mut waiting = vec![(Vec::new(), stat)];
        let mut number = 0;
        while let Some((path, stat)) = waiting.pop() {
            number += 1;
            self.entry(&path, &stat, number).with_context(|| shown(&path))?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                continue;
            }
            let dir = self.open(&path, OFlags::DIRECTORY).with_context(|| shown(&path))?;
            let mut below = names(dir.as_fd()).with_context(|| shown(&path))?;
            below.sort();
            // The last one pushed is the next one taken.
            for name in below.into_iter().rev() {
                let child = if path.is_empty() { name.clone() } else { [&path[..], b"/", &name].concat() };
                let stat =
                    rustix::fs::statat(&dir, &name[..], AtFlags::SYMLINK_NOFOLLOW).with_context(|| shown(&child))?;
                waiting.push((child, stat));
            }
        }
        Ok(())
    }

    /// A field that cannot be mistaken for two.
    fn field(&mut self, bytes: &[u8]) {
        self.hasher.update(&(bytes.len() as u64).to_le_bytes());
        self.hasher.update(bytes);
    }

    fn entry(&mut self, path: &[u8], stat: &Stat, number: u64) -> Result<()> {
        let kind = FileType::from_raw_mode(stat.st_mode);
        self.field(path);
        let facts =
            format!("{:o} {} {} {}.{:09}", stat.st_mode, stat.st_uid, stat.st_gid, stat.st_mtime, stat.st_mtime_nsec);
        self.field(facts.as_bytes());
        // By the names in this tree: how many lead in from outside is no matter of the image's.
        if kind != FileType::Directory && stat.st_nlink > 1 {
            let first = *self.links.entry((stat.st_dev, stat.st_ino)).or_insert(number);
            if first != number {
                self.field(&first.to_le_bytes());
                return Ok(());
            }
        }
        match kind {
            FileType::RegularFile => self.content(path)?,
            FileType::Symlink => {
                let (dir, name) = self.parent(path)?;
                let target = rustix::fs::readlinkat(&dir, name, Vec::new())?;
                self.field(target.as_bytes());
            }
            FileType::CharacterDevice | FileType::BlockDevice => self.field(&stat.st_rdev.to_le_bytes()),
            _ => {}
        }
        self.attributes(path, kind)
    }

    fn content(&mut self, path: &[u8]) -> Result<()> {
        let mut file = match self.open(path, OFlags::empty()) {
            Ok(file) => File::from(file),
            Err(error @ Errno::ACCESS) => {
                //: --digest | open: EACCES | a file that its own owner may not read | the only cause in a root of one's own |
                //: unpack/refusals::a_digest_of_what_cannot_be_read_says_who_can
                return Err(error)
                    .hint("its owner cannot read it, but root can: isolate --user --map-root -- unpack --digest …");
            }
            Err(error) => return Err(error.into()),
        };
        let mut hasher = Hasher::new(Algorithm::Sha256);
        loop {
            match file.read(&mut self.buffer)? {
                0 => break,
                n => hasher.update(&self.buffer[..n]),
            }
        }
        self.field(hasher.finish().hex().as_bytes());
        Ok(())
    }

    fn attributes(&mut self, path: &[u8], kind: FileType) -> Result<()> {
        let (dir, name) = match path.is_empty() {
            true => (self.root.try_clone()?, &b"."[..]),
            false => self.parent(path)?,
        };
        let by_proc = [format!("/proc/self/fd/{}/", std::os::fd::AsRawFd::as_raw_fd(&dir)).as_bytes(), name].concat();
        let mut list = vec![0; 65536];
        let length = match rustix::fs::llistxattr(&by_proc[..], &mut list[..]) {
            Err(Errno::OPNOTSUPP) => 0,
            // Without /proc, what has a descriptor can still be asked.
            Err(Errno::NOENT) if matches!(kind, FileType::RegularFile | FileType::Directory) => {
                rustix::fs::flistxattr(self.open(path, OFlags::empty())?, &mut list[..])?
            }
            result => result?,
        };
        // xfs shows each ACL under a second name of its own as well.
        let counts = |name: &&[u8]| !name.is_empty() && !name.starts_with(b"trusted.SGI_ACL_");
        let mut found: Vec<_> = list[..length].split(|&b| b == 0).filter(counts).collect();
        found.sort();
        for attribute in found {
            let mut value = vec![0; 65536];
            let length = rustix::fs::lgetxattr(&by_proc[..], attribute, &mut value[..])?;
            self.field(attribute);
            self.field(&value[..length]);
        }
        Ok(())
    }

    fn parent<'a>(&self, path: &'a [u8]) -> Result<(OwnedFd, &'a [u8])> {
        let at = path.iter().rposition(|&b| b == b'/');
        let (dir, name) = at.map_or((&b""[..], path), |at| (&path[..at], &path[at + 1..]));
        Ok((self.open(dir, OFlags::DIRECTORY)?, name))
    }

    /// Opens what is at a path, in pieces that the kernel takes (PATH_MAX).
    fn open(&self, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if path.is_empty() {
            return crate::retry_eintr::openat(&self.root, c".", read | OFlags::DIRECTORY, Mode::empty());
        }
        let mut rest = path;
        let mut at: Option<OwnedFd> = None;
        while rest.len() > PIECE {
            let end = rest[..PIECE].iter().rposition(|&b| b == b'/').ok_or(Errno::NAMETOOLONG)?;
            let dir = at.as_ref().map_or(self.root.as_fd(), AsFd::as_fd);
            at = Some(crate::retry_eintr::openat(dir, &rest[..end], read | OFlags::DIRECTORY, Mode::empty())?);
            rest = &rest[end + 1..];
        }
        crate::retry_eintr::openat(
            at.as_ref().map_or(self.root.as_fd(), AsFd::as_fd),
            rest,
            read | flags,
            Mode::empty(),
        )
    }
}
