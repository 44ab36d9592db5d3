//! A directory of the root in which the caller may make nothing, covered by one in memory that shows what is there.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result};
use chain::attach::{self, NODEV, NOSUID, Place};
use chain::names_in;
use chain::retry_eintr::openat;
use nix::fcntl::{OFlag, readlinkat};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat, mknodat};
use nix::unistd::symlinkat;

/// Mounts the directory in memory at `path`, which `dir` is open on. Each entry is bound into it, not copied: what
/// could be changed below can be changed through it.
pub fn cover(root: &OwnedFd, path: &Path, dir: &OwnedFd) -> Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let below = openat(dir, ".", flags, Mode::empty()).context("list it")?;
    let mode = format!("{:o}", fstat(&below)?.st_mode & 0o7777);
    let options = [("mode", Some(mode.as_str())), ("size", Some("1m"))];
    let memory = attach::filesystem("tmpfs", &options, NOSUID | NODEV, Place { root: root.as_fd(), path })?;
    for name in names_in(below.try_clone()?)? {
        show(&name, &below, &memory).with_context(|| name.display().to_string())?;
    }
    Ok(memory)
}

fn show(name: &OsStr, below: &OwnedFd, memory: &OwnedFd) -> Result<()> {
    let entry = openat(below, name, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
    match SFlag::from_bits_truncate(fstat(&entry)?.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFLNK => return Ok(symlinkat(readlinkat(below, name)?.as_os_str(), memory, name)?),
        SFlag::S_IFDIR => mkdirat(memory, name, Mode::from_bits_truncate(0o755))?,
        _ => mknodat(memory, name, SFlag::S_IFREG, Mode::from_bits_truncate(0o644), 0)?,
    }
    attach::bind(&entry, Place { root: memory.as_fd(), path: Path::new(name) }, 0).map(drop)
}
