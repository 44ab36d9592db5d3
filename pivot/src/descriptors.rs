//! Inherited descriptors: none from 3 up passes, and none below leads to the host's tree.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use chain::retry_eintr::open;
use chain::{WithHint, escape_fd_on_streams, inherited, names_in, passed_on, sys};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::stat::{Mode, stat};
use nix::unistd::{SysconfVar, sysconf};

/// Refuses 0, 1 or 2 that lead to the host's tree, and closes everything from 3 up at exec, except `keep`.
pub fn check(keep: &[u32]) -> Result<()> {
    if let Some((number, name, door)) = escape_fd_on_streams(keep)? {
        return Err(anyhow!("{name} is {door}, which leads to the host's tree"))
            .hint(format!("redirect it: {number}<>/dev/null, or pass it on knowingly: --keep-fd {number}"));
    }
    let mut first = 3;
    let mut kept: Vec<u32> = keep.iter().copied().filter(|&fd| fd >= first).collect();
    kept.sort_unstable();
    kept.dedup();
    for number in kept {
        let fd = i32::try_from(number).ok().and_then(passed_on);
        let fd = fd.ok_or_else(|| anyhow!("--keep-fd {number}: there is no such descriptor"))?;
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty())).with_context(|| format!("--keep-fd {number}"))?;
        if number > first {
            close_on_exec(first, number - 1)?;
        }
        first = number + 1;
    }
    close_on_exec(first, u32::MAX)
}

/// What /proc/self/fd/N is open on, by its name. A descriptor from before this mount namespace is on a mount of the old
/// one, which cannot be bound (EINVAL in open_tree(2)); its name leads to our copy of that mount.
pub fn named(path: &Path) -> Result<PathBuf> {
    let numbered = path.file_name().is_some_and(|name| name.as_bytes().iter().all(u8::is_ascii_digit));
    let canonical = |path: &Path| path.canonicalize().ok();
    let own = || canonical(Path::new("/proc/self/fd"));
    if !numbered || path.parent().and_then(canonical).is_none_or(|parent| Some(parent) != own()) {
        return Ok(path.to_owned());
    }
    let name = std::fs::read_link(path).with_context(|| format!("{}: no such descriptor", path.display()))?;
    let same = |path: &Path| stat(path).map(|stat| (stat.st_dev, stat.st_ino));
    if same(&name).is_err() || same(&name) != same(path) {
        return Err(anyhow!("{}: {} is not there under that name", path.display(), name.display()))
            .hint("a descriptor is bound by the name of what it is on: it must not be removed or mounted over");
    }
    Ok(name)
}

fn close_on_exec(first: u32, last: u32) -> Result<()> {
    match sys::close_on_exec(first, last) {
        // Linux 5.9 and 5.10 know close_range, but not this flag.
        Err(Errno::ENOSYS | Errno::EINVAL | Errno::EPERM) => one_by_one(first, last),
        result => result.context("close inherited descriptors"),
    }
}

fn one_by_one(first: u32, last: u32) -> Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let numbers: Vec<i32> = match open("/proc/self/fd", flags, Mode::empty()).and_then(names_in) {
        Ok(names) => names.iter().filter_map(|name| name.to_str()?.parse().ok()).collect(),
        Err(_) => (0..sysconf(SysconfVar::OPEN_MAX)?.unwrap_or(1024) as i32).collect(),
    };
    for number in numbers.into_iter().filter(|&fd| (first..=last).contains(&(fd as u32))) {
        if let Some(fd) = inherited(number) {
            fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).context("close inherited descriptors")?;
        }
    }
    Ok(())
}
