//! Removes what is in the way, never through a link or a mount, to any depth.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::{Errno, Result};

/// Deeper directories are first moved to the top, so that few are open at once.
const DEPTH: u32 = 32;

/// Removes a name, and everything below it if it is a directory. A missing name is no error.
pub fn remove(parent: BorrowedFd, name: &[u8]) -> Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM | Errno::ACCESS) => {}
        Err(error) => return Err(error),
    }
    let top = match directory(parent, name) {
        Ok(top) => top,
        Err(Errno::NOENT) => return Ok(()),
        // Not a directory: unlink's error stands.
        Err(Errno::NOTDIR | Errno::LOOP) => return rustix::fs::unlinkat(parent, name, AtFlags::empty()),
        Err(error) => return Err(error),
    };
    empty_but(top.as_fd(), b"")?;
    match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOENT) => Ok(()),
        result => result,
    }
}

/// The names in a directory, without `.` and `..`.
pub fn names(dir: BorrowedFd) -> Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in crate::retry_eintr::names(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Removes everything in a directory except this name.
pub fn empty_but(dir: BorrowedFd, kept: &[u8]) -> Result<()> {
    empty(dir, dir, 0, &mut 0, kept)
}

fn empty(dir: BorrowedFd, top: BorrowedFd, depth: u32, moved: &mut u64, kept: &[u8]) -> Result<()> {
    loop {
        // Removing may have hidden names from a listing under way. A pass that removes nothing is the last one: what is
        // still there, rmdir(2) reports.
        let mut removed = false;
        for entry in crate::retry_eintr::names(dir)? {
            let entry = entry?;
            let name = entry.file_name();
            if name.to_bytes() == b"." || name.to_bytes() == b".." || (depth == 0 && name.to_bytes() == kept) {
                continue;
            }
            match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
                Ok(()) => {
                    removed = true;
                    continue;
                }
                Err(Errno::NOENT) => continue,
                Err(Errno::ISDIR | Errno::PERM | Errno::ACCESS) => {}
                Err(error) => return Err(error),
            }
            let emptied = match depth < DEPTH {
                true => {
                    directory(dir, name.to_bytes()).and_then(|below| empty(below.as_fd(), top, depth + 1, moved, kept))
                }
                false => Err(Errno::MFILE),
            };
            match emptied {
                Ok(()) => rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)?,
                Err(Errno::MFILE | Errno::NFILE) if depth > 0 => lift(dir, name.to_bytes(), top, moved)?,
                Err(error) => return Err(error),
            }
            removed = true;
        }
        if !removed {
            return Ok(());
        }
    }
}

fn lift(dir: BorrowedFd, name: &[u8], top: BorrowedFd, moved: &mut u64) -> Result<()> {
    loop {
        *moved += 1;
        let aside = format!(".lifted-{moved}");
        match rustix::fs::renameat_with(dir, name, top, aside, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => continue,
            // A filesystem without the flag; the name is ours alone.
            Err(Errno::INVAL) => return rustix::fs::renameat(dir, name, top, format!(".lifted-{moved}")),
            result => return result,
        }
    }
}

/// Opens a directory to empty it, after a chmod if its mode forbids that. A mount may appear on it at any time, so the
/// open itself must detect one: EBUSY then, as from unlink(2).
fn directory(parent: BorrowedFd, name: &[u8]) -> Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open_as = |flags| match crate::retry_eintr::openat2(parent, name, flags, ResolveFlags::NO_XDEV) {
        Err(Errno::XDEV) => Err(Errno::BUSY),
        opened => opened,
    };
    let open = || open_as(flags);
    let dir = match open() {
        Err(Errno::ACCESS) => {
            let held = open_as(flags | OFlags::PATH)?;
            let by_proc = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&held));
            rustix::fs::chmod(by_proc, Mode::RWXU)?;
            open()?
        }
        result => result?,
    };
    if !rustix::process::geteuid().is_root() {
        // Reading was allowed; removing needs writing too. If we may not change it, unlink reports that.
        let _ = rustix::fs::fchmod(&dir, Mode::RWXU);
    }
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_tree_goes_and_what_its_links_name_stays() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        std::fs::create_dir_all(at("tree/a/b")).unwrap();
        std::fs::create_dir(at("kept")).unwrap();
        std::fs::write(at("kept/file"), "x").unwrap();
        symlink(at("kept"), at("tree/a/link")).unwrap();
        symlink("tree", at("link")).unwrap();
        let parent = File::open(dir.path()).unwrap();
        remove(parent.as_fd(), b"link").unwrap();
        assert!(at("tree").exists());
        remove(parent.as_fd(), b"tree").unwrap();
        assert!(!at("tree").exists());
        assert_eq!(std::fs::read(at("kept/file")).unwrap(), b"x");
        remove(parent.as_fd(), b"tree").unwrap();
    }

    #[test]
    fn depth_is_no_limit() {
        let dir = tempfile::tempdir().unwrap();
        let parent = File::open(dir.path()).unwrap();
        let mut at: OwnedFd = parent.try_clone().unwrap().into();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&at, c"d", Mode::RWXU).unwrap();
            at = directory(at.as_fd(), b"d").unwrap();
        }
        remove(parent.as_fd(), b"d").unwrap();
        assert_eq!(names(parent.as_fd()).unwrap().len(), 0);
    }
}
