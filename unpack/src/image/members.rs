//! The files of a layered image by name, in an archive with random access or in a directory.

use std::cell::Cell;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use chain::WithHint;
use rustix::fs::{OFlags, ResolveFlags};

use super::Request;
use crate::budget::Limits;
use crate::digest::Digest;
use crate::frame::{Archive, Kind, Segment};
use crate::retry_eintr;
use crate::source::{Region, Source, unnamed};
use crate::tree::shown;

/// Layered images have one file for each layer and a few more.
pub(super) const MOST: usize = 100_000;
/// As symlinks have it: path_resolution(7).
const MOST_LINKS: usize = 40;

pub(super) struct Members {
    place: Place,
    /// Where a sparse member is written out, and what it may be.
    spool: PathBuf,
    limits: Limits,
    /// Bytes of documents that were read of it.
    pub documents: Cell<u64>,
}

enum Place {
    Archive(HashMap<Vec<u8>, Member>),
    Directory(OwnedFd, Blobs),
}

/// Whether a directory's blobs may be symlinks out of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Blobs {
    /// As rules_oci, Nix and LXC make layouts. Each is checked against the digest that it is named for, so it does not
    /// matter who else can say where it is.
    Anywhere,
    Inside,
}

enum Member {
    Data(Region),
    /// The normal name of what it stands for.
    Link(Vec<u8>),
    /// A sparse file: what is stored of it, where that goes, and its size.
    Sparse(Region, Vec<Segment>, u64),
}

impl Members {
    pub fn directory(directory: OwnedFd, request: &Request) -> Members {
        Members::of(Place::Directory(directory, Blobs::Anywhere), request)
    }

    /// Of an extracted tree, out of which nothing leads.
    pub fn tree(directory: OwnedFd, request: &Request) -> Members {
        Members::of(Place::Directory(directory, Blobs::Inside), request)
    }

    fn of(place: Place, request: &Request) -> Members {
        Members { place, spool: request.spool.clone(), limits: request.limits.clone(), documents: Cell::new(0) }
    }

    pub fn is_directory(&self) -> bool {
        matches!(self.place, Place::Directory(..))
    }

    /// The archive's index; None where it has far more entries than a layered image.
    pub fn scan(archive: &Region, request: &Request) -> Result<Option<Members>> {
        let mut members = HashMap::new();
        let mut entries = Archive::new(archive.clone(), request.limits.clone());
        while let Some(entry) = entries.next()? {
            let name = normal(&entry.path);
            let member = match entry.kind {
                Kind::File => {
                    let stored = archive.part(entries.position(), entries.remaining());
                    let stored = stored.context("truncated: the archive ends inside an entry")?;
                    Some(match entry.sparse {
                        Some(segments) => Member::Sparse(stored, segments, entry.size),
                        None => Member::Data(stored),
                    })
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
        Ok(Some(Members::of(Place::Archive(members), request)))
    }

    /// A file's bytes; None where there is no such file.
    pub fn get(&self, name: &str) -> Result<Option<Region>> {
        match &self.place {
            Place::Archive(members) => {
                let first = normal(name.as_bytes());
                let mut name = first.clone();
                for _ in 0..MOST_LINKS {
                    match members.get(&name) {
                        None if name == first => return Ok(None),
                        None => bail!("is a link to {}, which is not in the archive", shown(&name)),
                        Some(Member::Data(region)) => return Ok(Some(region.clone())),
                        Some(Member::Link(target)) => name.clone_from(target),
                        Some(Member::Sparse(stored, segments, size)) => {
                            let over = self.limits.over_ratio(*size, stored.len());
                            self.limits.take_over_ratio(&mut 0, over, "is a sparse file of")?;
                            return written_out(stored.clone(), segments, *size, &self.spool).map(Some);
                        }
                    }
                }
                bail!("too many links");
            }
            Place::Directory(directory, blobs) => {
                let anywhere = *blobs == Blobs::Anywhere && is_blob(name);
                within(directory, name, if anywhere { ResolveFlags::empty() } else { ResolveFlags::BENEATH })
            }
        }
    }
}

/// `blobs/ALGORITHM/HEX`, and no longer way.
fn is_blob(name: &str) -> bool {
    let digest = name.strip_prefix("blobs/").map(|rest| rest.replacen('/', ":", 1));
    digest.is_some_and(|digest| digest.parse::<Digest>().is_ok())
}

fn within(directory: &OwnedFd, name: &str, resolve: ResolveFlags) -> Result<Option<Region>> {
    // A fifo in place of a file must not block us.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match retry_eintr::openat2(directory, name, flags, resolve | ResolveFlags::NO_MAGICLINKS) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
        Err(rustix::io::Errno::XDEV) => {
            return Err(anyhow!("leads out of the directory, and only blobs may, which have digests"))
                .hint("copy it with what its links lead to: cp -rL DIR COPY");
        }
        Err(error) => return Err(chain::sys::errno(error).into()),
    };
    match Source::of(file)? {
        Source::File(region) => Ok(Some(region)),
        _ => bail!("is not a regular file"),
    }
}

/// A sparse member as a file of its own, with its holes.
fn written_out(mut stored: Region, segments: &[Segment], size: u64, spool: &Path) -> Result<Region> {
    let file = unnamed(spool).with_context(|| format!("{}: temporary file", spool.display()))?;
    retry_eintr::ftruncate(&file, size)?;
    let mut writer = &file;
    for segment in segments {
        writer.seek(SeekFrom::Start(segment.offset))?;
        io::copy(&mut (&mut stored).take(segment.length), &mut writer)?;
    }
    writer.rewind()?;
    match Source::of(file)? {
        Source::File(region) => Ok(region),
        _ => bail!("no regular file"),
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
