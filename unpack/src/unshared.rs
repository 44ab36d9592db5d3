//! Whether a file's bytes can change between two readings of it.

use std::fs::File;
use std::os::fd::AsRawFd;

use nix::libc;
use rustix::fs::OFlags;

/// Whether only the caller can change a file while it is read: nobody else may write to it, and nobody has it open for
/// writing from an earlier time. False if that cannot be told.
pub fn is_unshared(file: &File) -> bool {
    let Ok(stat) = rustix::fs::fstat(file) else { return false };
    if chain::receipt::others(stat.st_uid, stat.st_mode).is_some() {
        return false;
    }
    // What was spooled here has no name, and no other descriptor than this one.
    let spooled = stat.st_nlink == 0 && rustix::fs::fcntl_getfl(file).is_ok_and(|flags| flags.contains(OFlags::RDWR));
    spooled || nobody_writes(file)
}

/// A lease for reading is given where no descriptor and no mapping can write (fcntl(2), F_SETLEASE). It is given back at
/// once: from now on only the caller or root can open the file for writing.
fn nobody_writes(file: &File) -> bool {
    // SAFETY: the descriptor is open, and the command takes an integer.
    let lease = |kind: i32| unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) } == 0;
    lease(libc::F_RDLCK) && lease(libc::F_UNLCK)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_the_callers_alone_while_nobody_else_can_write_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let writer = File::create(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let file = File::open(&path).unwrap();
        assert!(!is_unshared(&file), "somebody has it open for writing");
        drop(writer);
        // Where there are no leases, no file is known to be open to its owner alone.
        if !nobody_writes(&file) {
            return;
        }
        assert!(is_unshared(&file));
        for mode in [0o664, 0o646] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert!(!is_unshared(&file), "{mode:o}");
        }
    }
}
