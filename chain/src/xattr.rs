//! Extended attributes (xattr(7)), which nix does not have.

use std::os::fd::AsFd;
use std::path::Path;

use nix::errno::Errno;
use rustix::fs::{XattrFlags, fremovexattr, fsetxattr, getxattr};

use crate::sys::errno;

/// How long the value is, which must fit.
pub fn get(path: &Path, name: &str, value: &mut [u8]) -> Result<usize, Errno> {
    getxattr(path, name, value).map_err(errno)
}

pub fn set(file: impl AsFd, name: &str, value: &[u8]) -> Result<(), Errno> {
    fsetxattr(file, name, value, XattrFlags::empty()).map_err(errno)
}

pub fn remove(file: impl AsFd, name: &str) -> Result<(), Errno> {
    fremovexattr(file, name).map_err(errno)
}
