//! The names that unpack makes beside ROOT, and whether one still means the file that it was made for.

use std::ffi::OsStr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::AtFlags;

/// `.NAME.unpack-`, short enough to take a suffix within NAME_MAX.
pub fn prefix(name: &OsStr) -> Vec<u8> {
    let name = name.as_bytes();
    let short = &name[..name.len().min(220)];
    [b".", short, b".unpack-"].concat()
}

/// Whether a name still means this file.
pub fn still(parent: BorrowedFd, name: &OsStr, file: &OwnedFd) -> bool {
    let (Ok(named), Ok(open)) = (rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW), rustix::fs::fstat(file))
    else {
        return false;
    };
    (named.st_dev, named.st_ino) == (open.st_dev, open.st_ino)
}
