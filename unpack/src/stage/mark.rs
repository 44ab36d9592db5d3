//! The file by which a later run knows a staging directory. A name can be anyone's, and an image may hold any file: the
//! mark names the one directory that it was made for, whose inode and birth time nobody knows beforehand.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::Result;
use chain::receipt::{identity, names};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use serde_json::Value;

use super::{RECEIPT, TREE};
use crate::tree::remove;

pub const MARK: &str = "made-by-unpack";
const LARGEST: u64 = 4096;

/// Marks a directory that was just made. False if its name now means another one: the owner of its parent may have put
/// another full one of unpack's there, or an empty one. Nothing in that one is changed.
pub fn make(dir: &OwnedFd) -> Result<bool> {
    if !remove::names(dir.as_fd())?.is_empty() {
        return Ok(false);
    }
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mark = match crate::retry_eintr::openat(dir, MARK, flags, Mode::RUSR) {
        Err(Errno::EXIST) => return Ok(false),
        opened => opened?,
    };
    let filled = fill(dir, mark);
    if !matches!(filled, Ok(true)) {
        let _ = rustix::fs::unlinkat(dir, MARK, AtFlags::empty());
    }
    filled
}

fn fill(dir: &OwnedFd, mark: OwnedFd) -> Result<bool> {
    // Not the caller's id: a file server may give everything that root makes to another user (exports(5): root_squash).
    if rustix::fs::fstat(dir)?.st_uid != rustix::fs::fstat(&mark)?.st_uid {
        return Ok(false);
    }
    inherit_nothing(dir)?;
    File::from(mark).write_all(identity(dir)?.to_string().as_bytes())?;
    // From here on nobody else can make a name in it.
    Ok(remove::names(dir.as_fd())? == [MARK.as_bytes()])
}

/// A parent with setgid or a default ACL would pass them on to everything made below.
fn inherit_nothing(dir: &OwnedFd) -> Result<()> {
    for acl in [c"system.posix_acl_default", c"system.posix_acl_access"] {
        match rustix::fs::fremovexattr(dir, acl) {
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let gid = rustix::process::getegid();
    if rustix::fs::fstat(dir)?.st_gid != gid.as_raw() {
        rustix::fs::fchown(dir, None, Some(gid))?;
    }
    Ok(rustix::fs::fchmod(dir, Mode::RWXU)?)
}

/// Whether a directory holds its own mark, and nothing but what a run stages.
pub fn is_staging(dir: BorrowedFd) -> rustix::io::Result<bool> {
    let found = remove::names(dir)?;
    let known = |name: &Vec<u8>| [TREE, RECEIPT, MARK].iter().any(|known| known.as_bytes() == name.as_slice());
    let Some(mark) = read(dir) else { return Ok(false) };
    // A run that was killed before it had written its mark has made nothing else.
    let begun = mark.is_empty() && found.len() == 1;
    let ours = || serde_json::from_slice::<Value>(&mark).is_ok_and(|said| names(&said, dir));
    Ok(found.iter().all(known) && (begun || ours()))
}

fn read(dir: BorrowedFd) -> Option<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let mark = crate::retry_eintr::openat(dir, MARK, flags, Mode::empty()).ok()?;
    let stat = rustix::fs::fstat(&mark).ok()?;
    let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    let mut text = Vec::new();
    (regular && File::from(mark).take(LARGEST).read_to_end(&mut text).is_ok()).then_some(text)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    use std::path::PathBuf;

    use super::*;

    struct Made(PathBuf);

    impl Made {
        fn new(name: &str) -> Made {
            let path = std::env::temp_dir().join(format!("unpack-mark-{name}-{}", std::process::id()));
            fs::create_dir(&path).unwrap();
            Made(path)
        }

        fn open(&self) -> OwnedFd {
            File::open(&self.0).unwrap().into()
        }
    }

    impl Drop for Made {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_fresh_directory_is_marked_for_its_owner_alone() {
        let made = Made::new("fresh");
        assert!(make(&made.open()).unwrap());
        assert_eq!(made.0.metadata().unwrap().mode() & 0o7777, 0o700);
        assert!(is_staging(made.open().as_fd()).unwrap());
        fs::create_dir(made.0.join(TREE)).unwrap();
        assert!(is_staging(made.open().as_fd()).unwrap());
        fs::write(made.0.join("thesis"), "kept").unwrap();
        assert!(!is_staging(made.open().as_fd()).unwrap());
    }

    #[test]
    fn a_directory_that_holds_something_is_not_the_one_that_was_made() {
        let full = Made::new("full");
        fs::write(full.0.join("thesis"), "kept").unwrap();
        fs::set_permissions(&full.0, fs::Permissions::from_mode(0o711)).unwrap();
        assert!(!make(&full.open()).unwrap());
        assert_eq!(full.0.metadata().unwrap().mode() & 0o7777, 0o711);
        assert_eq!(remove::names(full.open().as_fd()).unwrap(), [b"thesis"]);
    }

    #[test]
    fn an_empty_directory_of_another_users_is_not_the_one_that_was_made() {
        if !rustix::process::geteuid().is_root() {
            return eprintln!("skipped: only root can be two users");
        }
        let other = Made::new("other");
        chown(&other.0, Some(31347), Some(31347)).unwrap();
        fs::set_permissions(&other.0, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(!make(&other.open()).unwrap());
        let stat = other.0.metadata().unwrap();
        assert_eq!((stat.uid(), stat.gid(), stat.mode() & 0o7777), (31347, 31347, 0o777));
        assert!(remove::names(other.open().as_fd()).unwrap().is_empty());
    }

    #[test]
    fn a_mark_made_for_another_directory_marks_nothing() {
        let (one, other) = (Made::new("one"), Made::new("copy"));
        assert!(make(&one.open()).unwrap());
        fs::copy(one.0.join(MARK), other.0.join(MARK)).unwrap();
        assert!(!is_staging(other.open().as_fd()).unwrap());
    }
}
