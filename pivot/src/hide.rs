//! Something of the root's that COMMAND shall not see: an empty directory in memory over a directory, an empty file that
//! has no permissions over anything else, both read-only. A device would be taken for one: git stash fails at /dev/null in
//! the place of a file.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Error, Result};
use chain::attach::{self, NODEV, NOEXEC, NOSUID, Place, READ_ONLY};
use chain::retry_eintr::{open, openat};
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::Mode;
use nix::unistd::fchdir;

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
            // Attached while the file is taken from it (Linux before 6.15 copies no mount that is not), on top of the root,
            // where no path leads to it.
            let on_top = Place { root, path: Path::new("/") };
            let memory = attach::filesystem("tmpfs", &[("size", Some("4k"))], NOSUID | NODEV | NOEXEC, on_top)?;
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
            let hidden = openat(&memory, "hidden", flags, Mode::empty())
                .map_err(Error::new)
                .and_then(|empty| attach::bind(empty.as_fd(), place, READ_ONLY | NOSUID | NODEV | NOEXEC));
            detach(&memory)?;
            hidden.map(drop)
        }
    }
}

/// By way of the working directory: no path is resolved again.
pub fn detach(memory: &OwnedFd) -> Result<()> {
    let cwd = open(".", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    fchdir(memory)?;
    umount2(".", MntFlags::MNT_DETACH).context("detach a filesystem in memory")?;
    Ok(fchdir(&cwd)?)
}

/// Both are quoted already.
pub fn shell(root: &str, path: &str, f: &mut fmt::Formatter) -> fmt::Result {
    write!(
        f,
        "if [ -d {path} ]; then mount -t tmpfs -o ro,nosuid,nodev,noexec,mode=555,size=4k tmpfs {path}; \
         elif [ -e {path} ]; then mount -t tmpfs -o size=4k tmpfs {root}/proc; (umask 777; : >{root}/proc/hidden); mount --bind {root}/proc/hidden {path}; \
         umount -l {root}/proc; mount -o remount,bind,ro,nosuid,nodev,noexec {path}; fi"
    )
}
