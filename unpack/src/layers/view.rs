//! What overlayfs will show of layers, worked out by the same rules without mounting them: an ordinary user could not.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::tree::{Needs, shown};

/// A layer in its place in a stack.
pub struct Placed<'a> {
    pub store: BorrowedFd<'a>,
    /// In the store. Not a descriptor for each: there may be hundreds.
    pub name: &'a str,
    pub needs: &'a Needs,
}

impl Placed<'_> {
    pub fn open(&self, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        crate::retry_eintr::openat(self.store, &self.at(path)[..], flags, Mode::empty())
    }

    fn at(&self, path: &[u8]) -> Vec<u8> {
        [self.name.as_bytes(), b"/", path].concat()
    }
}

/// What a stack shows at a path.
pub enum Seen {
    Nothing,
    /// No directory, or something else than a directory on the way.
    Other,
    /// The layers whose directories are merged, uppermost first.
    Directory(Vec<usize>),
}

enum Found {
    Nothing,
    Whiteout,
    Other,
    Directory { opaque: bool },
}

/// Looks at a path, base first. With `metadata` an opaque directory without an entry is seen through at the path's end:
/// it hides what is in the directories below it, and has their metadata.
pub fn look(stack: &[Placed], path: &[u8], metadata: bool) -> Result<Seen> {
    let ends = path.iter().enumerate().filter(|&(_, &b)| b == b'/').map(|(at, _)| at).chain([path.len()]);
    let mut merged: Vec<usize> = (0..stack.len()).rev().collect();
    // The root is a directory in every layer.
    for end in [0].into_iter().chain(ends.filter(|_| !path.is_empty())) {
        let (at, last) = (&path[..end], end == path.len());
        let mut below = Vec::new();
        for number in merged {
            let layer = &stack[number];
            match find(layer, at).with_context(|| shown(at))? {
                Found::Nothing => {}
                Found::Directory { opaque } => {
                    below.push(number);
                    if opaque && !(last && metadata && layer.needs.implied.contains(at)) {
                        break;
                    }
                }
                Found::Other if below.is_empty() => return Ok(Seen::Other),
                Found::Other | Found::Whiteout => break,
            }
        }
        if below.is_empty() {
            return Ok(Seen::Nothing);
        }
        merged = below;
    }
    Ok(Seen::Directory(merged))
}

/// Whether the layers below have what a layer needs, and nothing that leads it elsewhere.
pub fn has(below: &[Placed], needs: &Needs) -> Result<bool> {
    if needs.flat {
        return Ok(false);
    }
    for path in &needs.parents {
        if matches!(look(below, path, false)?, Seen::Other) {
            return Ok(false);
        }
    }
    for path in &needs.there {
        if !matches!(look(below, path, false)?, Seen::Directory(_)) {
            return Ok(false);
        }
    }
    for path in &needs.absent {
        if !matches!(look(below, path, false)?, Seen::Nothing) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Every directory on the way is one in this layer, so no link is followed.
fn find(layer: &Placed, path: &[u8]) -> Result<Found> {
    if path.is_empty() {
        return Ok(Found::Directory { opaque: layer.needs.opaque_root });
    }
    let stat = match rustix::fs::statat(layer.store, &layer.at(path)[..], AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(Found::Nothing),
        stat => stat?,
    };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            let opaque = mark(layer, path, "user.overlay.opaque", OFlags::DIRECTORY)?.as_deref() == Some(b"y");
            Ok(Found::Directory { opaque })
        }
        FileType::CharacterDevice if stat.st_rdev == 0 => Ok(Found::Whiteout),
        FileType::RegularFile if is_whiteout(layer, path, &stat)? => Ok(Found::Whiteout),
        _ => Ok(Found::Other),
    }
}

fn is_whiteout(layer: &Placed, path: &[u8], stat: &Stat) -> Result<bool> {
    let may_be = layer.needs.whiteouts == Some(crate::tree::Whiteouts::Attributes) && stat.st_size == 0;
    Ok(may_be && mark(layer, path, "user.overlay.whiteout", OFlags::empty())?.is_some())
}

fn mark(layer: &Placed, path: &[u8], name: &str, flags: OFlags) -> Result<Option<Vec<u8>>> {
    let file = match layer.open(path, flags) {
        // A file that its owner may not read is no whiteout that unpack made.
        Err(Errno::ACCESS) if !flags.contains(OFlags::DIRECTORY) => return Ok(None),
        file => file?,
    };
    let mut value = vec![0; 16];
    match rustix::fs::fgetxattr(file.as_fd(), name, &mut value[..]) {
        Ok(length) => {
            value.truncate(length);
            Ok(Some(value))
        }
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
