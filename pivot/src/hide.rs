//! Something of the root's that COMMAND shall not see: an empty directory in memory over a directory, the empty file
//! /dev/null over anything else, both read-only.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use anyhow::{Context, Result};
use chain::attach::{self, NODEV, NOEXEC, NOSUID, Place, READ_ONLY};
use chain::retry_eintr::open;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use crate::place::{Kind, kind_of};

/// Nothing is made where nothing is.
pub fn hide(root: BorrowedFd, path: &Path) -> Result<()> {
    let place = Place { root, path };
    // Another error: it may be there all the same, and in COMMAND's sight.
    let there = place.open_if_there().with_context(|| format!("{} in the root", path.display()))?;
    let Some(there) = there else { return Ok(()) };
    match kind_of(&there)? {
        Kind::Directory => {
            let options = [("mode", Some("555")), ("size", Some("4k"))];
            attach::filesystem("tmpfs", &options, READ_ONLY | NOSUID | NODEV | NOEXEC, place).map(drop)
        }
        Kind::File => {
            let null = open("/dev/null", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).context("/dev/null")?;
            attach::bind(null.as_fd(), place, READ_ONLY | NOSUID | NOEXEC).map(drop)
        }
    }
}

/// `path` is in the root, and quoted already.
pub fn shell(path: &str, f: &mut fmt::Formatter) -> fmt::Result {
    write!(
        f,
        "if [ -d {path} ]; then mount -t tmpfs -o ro,nosuid,nodev,noexec,mode=555,size=4k tmpfs {path}; \
         elif [ -e {path} ]; then mount --bind /dev/null {path}; mount -o remount,bind,ro,nosuid,noexec {path}; fi"
    )
}
