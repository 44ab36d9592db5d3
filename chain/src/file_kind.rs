//! What kind of file a descriptor is on.

use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::sys::stat::{SFlag, fstat};

/// One of S_IFREG, S_IFDIR and so on (inode(7)).
pub fn file_kind(fd: impl AsFd) -> Result<SFlag, Errno> {
    Ok(SFlag::from_bits_truncate(fstat(fd)?.st_mode) & SFlag::S_IFMT)
}
