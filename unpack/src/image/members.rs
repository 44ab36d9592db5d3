//! The files of a layered image, by name: in an archive that can be read at any place, or in a directory.

use std::cell::Cell;
use std::collections::HashMap;
use std::fs::File;
use std::os::fd::OwnedFd;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use rustix::fs::{OFlags, ResolveFlags};

use crate::budget::Limits;
use crate::frame::{Archive, Kind};
use crate::patient;
use crate::source::{Region, Source};

/// Layered images have one file for each layer and a few more.
const MOST: usize = 100_000;
/// As symlinks have it: path_resolution(7).
const MOST_LINKS: usize = 40;

pub(super) struct Members {
    place: Place,
    /// Bytes of documents that were read of it.
    pub documents: Cell<u64>,
}

enum Place {
    Archive(HashMap<Vec<u8>, Member>),
    Directory(OwnedFd),
}

enum Member {
    Data(Region),
    /// The normal name of what it stands for.
    Link(Vec<u8>),
    Sparse,
}

impl Members {
    pub fn directory(directory: OwnedFd) -> Members {
        Members { place: Place::Directory(directory), documents: Cell::new(0) }
    }

    /// The archive's index; None where it has far more entries than a layered image.
    pub fn scan(archive: &Region, limits: &Limits) -> Result<Option<Members>> {
        let mut members = HashMap::new();
        let mut entries = Archive::new(archive.clone(), limits.clone());
        while let Some(entry) = entries.next()? {
            let name = normal(&entry.path);
            let member = match entry.kind {
                Kind::File if entry.sparse.is_some() => Some(Member::Sparse),
                Kind::File => {
                    let region = archive.part(entries.position(), entry.size);
                    Some(Member::Data(region.context("truncated: the archive ends inside an entry")?))
                }
                Kind::HardLink => Some(Member::Link(normal(&entry.link))),
                Kind::Symlink => Some(Member::Link(beside(&name, &entry.link))),
                _ => None,
            };
            // The later entry of a name is the file that an extraction would leave.
            match member {
                Some(member) => members.insert(name, member),
                None => members.remove(&name),
            };
            if members.len() > MOST {
                return Ok(None);
            }
            entries.pass_over(Region::skip)?;
        }
        Ok(Some(Members { place: Place::Archive(members), documents: Cell::new(0) }))
    }

    /// A file's bytes; None where there is no such file.
    pub fn get(&self, name: &str) -> Result<Option<Region>> {
        match &self.place {
            Place::Archive(members) => {
                let mut name = normal(name.as_bytes());
                for _ in 0..MOST_LINKS {
                    match members.get(&name) {
                        None => return Ok(None),
                        Some(Member::Data(region)) => return Ok(Some(region.clone())),
                        Some(Member::Link(target)) => name.clone_from(target),
                        Some(Member::Sparse) => bail!("is stored as a sparse file"),
                    }
                }
                bail!("too many links");
            }
            Place::Directory(directory) => within(directory, name),
        }
    }
}

fn within(directory: &OwnedFd, name: &str) -> Result<Option<Region>> {
    // A fifo in place of a file must not block us.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let file = match patient::openat2(directory, name, flags, beneath) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
        Err(error) => return Err(Errno::from_raw(error.raw_os_error()).into()),
    };
    match Source::of(file)? {
        Source::File(region) => Ok(Some(region)),
        _ => bail!("is not a regular file"),
    }
}

/// A name without `.`, `..`, empty components and leading slashes.
pub(super) fn normal(path: &[u8]) -> Vec<u8> {
    beside(b"", path)
}

/// What a link's target means, relative to where the link is.
fn beside(link: &[u8], target: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    if !target.starts_with(b"/") {
        parts.extend(link.split(|&b| b == b'/').filter(|part| !part.is_empty()));
        parts.pop();
    }
    for part in target.split(|&b| b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join(&b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_without_dots_and_slashes() {
        assert_eq!(normal(b"./a//b/../c/"), b"a/c");
        assert_eq!(normal(b"/../../a"), b"a");
        assert_eq!(beside(b"id/layer.tar", b"../other/layer.tar"), b"other/layer.tar");
        assert_eq!(beside(b"id/layer.tar", b"/other"), b"other");
    }
}
