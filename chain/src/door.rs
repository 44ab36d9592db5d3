//! Descriptors through which other files can be reached: after pivot_root one from before it is a
//! door back to the host's tree.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::stat::{SFlag, fstat};
use nix::sys::statfs::FsType;

use crate::patient::fstatfs;

const NSFS_MAGIC: FsType = FsType(0x6e73_6673);
/// Linux 6.9; before it a pidfd is an anonymous inode.
const PIDFS_MAGIC: FsType = FsType(0x5049_4446);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    Directory,
    /// open(2): O_PATH.
    Path,
    Namespace,
    Process,
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Door::Directory => "a directory",
            Door::Path => "an O_PATH descriptor",
            Door::Namespace => "a namespace",
            Door::Process => "a process's pidfd",
        })
    }
}

/// What kind of door a descriptor is; `None` for data: files, pipes, sockets, terminals.
pub fn door(fd: impl AsFd) -> Result<Option<Door>, Errno> {
    let kind = SFlag::from_bits_truncate(fstat(&fd)?.st_mode) & SFlag::S_IFMT;
    if kind == SFlag::S_IFDIR {
        return Ok(Some(Door::Directory));
    }
    if OFlag::from_bits_truncate(fcntl(&fd, FcntlArg::F_GETFL)?).contains(OFlag::O_PATH) {
        return Ok(Some(Door::Path));
    }
    if [SFlag::S_IFIFO, SFlag::S_IFCHR, SFlag::S_IFSOCK].contains(&kind) {
        return Ok(None);
    }
    Ok(match fstatfs(&fd)?.filesystem_type() {
        NSFS_MAGIC => Some(Door::Namespace),
        PIDFS_MAGIC => Some(Door::Process),
        _ => None,
    })
}

/// A descriptor that this process was started with, if it was.
pub fn inherited(number: RawFd) -> Option<BorrowedFd<'static>> {
    asked(number).map(|(fd, _)| fd)
}

/// A descriptor that a command gets: it is open and does not close at exec.
pub fn passed_on(number: RawFd) -> Option<BorrowedFd<'static>> {
    asked(number).filter(|(_, flags)| !flags.contains(FdFlag::FD_CLOEXEC)).map(|(fd, _)| fd)
}

fn asked(number: RawFd) -> Option<(BorrowedFd<'static>, FdFlag)> {
    if number < 0 {
        return None;
    }
    // SAFETY: whether it is open is asked before anything else is done with it, and nothing in a
    // tool of ours closes descriptors that it did not open.
    let fd = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl(fd, FcntlArg::F_GETFD).ok().map(|flags| (fd, FdFlag::from_bits_truncate(flags)))
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use nix::fcntl::open;
    use nix::sys::stat::Mode;

    use super::*;

    #[test]
    fn directories_paths_and_namespaces_are_doors_and_data_is_not() {
        assert_eq!(door(File::open("/").unwrap()), Ok(Some(Door::Directory)));
        assert_eq!(door(open("/proc/self/exe", OFlag::O_PATH, Mode::empty()).unwrap()), Ok(Some(Door::Path)));
        assert_eq!(door(File::open("/proc/self/ns/mnt").unwrap()), Ok(Some(Door::Namespace)));
        assert_eq!(door(File::open("/proc/self/exe").unwrap()), Ok(None));
        assert_eq!(door(File::open("/dev/null").unwrap()), Ok(None));
        assert_eq!(door(nix::unistd::pipe().unwrap().0), Ok(None));
    }
}
