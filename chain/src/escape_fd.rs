//! Descriptors through which other files can be reached: one from before pivot_root leads back to the host's tree.

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use anyhow::Context;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl, readlink};
use nix::sys::stat::SFlag;
use nix::sys::statfs::FsType;

use crate::file_kind;
use crate::retry_eintr::fstatfs;

const NSFS_MAGIC: FsType = FsType(0x6e73_6673);
/// Since Linux 6.9; before, a pidfd is an anonymous inode.
const PIDFS_MAGIC: FsType = FsType(0x5049_4446);
const ANON_INODE_MAGIC: FsType = FsType(0x0904_1934);
/// Anonymous inodes that lead nowhere. Others do: a fanotify group and a pidfd open files, a filesystem context makes a
/// mount, an io_uring has its own files and credentials.
const HARMLESS: [&str; 6] = ["eventfd", "eventpoll", "signalfd", "timerfd", "inotify", "landlock-ruleset"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EscapeFd {
    Directory,
    /// open(2): O_PATH.
    Path,
    Namespace,
    Process,
    /// A kernel object that is more than a stream of bytes.
    Object,
}

impl fmt::Display for EscapeFd {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            EscapeFd::Directory => "a directory",
            EscapeFd::Path => "an O_PATH descriptor",
            EscapeFd::Namespace => "a namespace",
            EscapeFd::Process => "a process's pidfd",
            EscapeFd::Object => "a kernel object (fanotify, a filesystem context, io_uring or the like)",
        })
    }
}

/// How a descriptor leads elsewhere; `None` for data: files, pipes, sockets, terminals.
pub fn escape_fd(fd: impl AsFd) -> Result<Option<EscapeFd>, Errno> {
    let kind = file_kind(&fd)?;
    if kind == SFlag::S_IFDIR {
        return Ok(Some(EscapeFd::Directory));
    }
    if OFlag::from_bits_truncate(fcntl(&fd, FcntlArg::F_GETFL)?).contains(OFlag::O_PATH) {
        return Ok(Some(EscapeFd::Path));
    }
    if [SFlag::S_IFIFO, SFlag::S_IFCHR, SFlag::S_IFSOCK].contains(&kind) {
        return Ok(None);
    }
    Ok(match fstatfs(&fd)?.filesystem_type() {
        NSFS_MAGIC => Some(EscapeFd::Namespace),
        PIDFS_MAGIC => Some(EscapeFd::Process),
        ANON_INODE_MAGIC => {
            // Without /proc they cannot be told apart.
            let name = readlink(&*format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())).unwrap_or_default();
            let name = name.to_string_lossy();
            let name = name.trim_start_matches("anon_inode:").trim_matches(['[', ']']);
            match name {
                "pidfd" => Some(EscapeFd::Process),
                name => (!HARMLESS.contains(&name)).then_some(EscapeFd::Object),
            }
        }
        _ => None,
    })
}

/// The first standard stream that leads elsewhere, by number and name. Those in `keep` are skipped.
pub fn escape_fd_on_streams(keep: &[u32]) -> anyhow::Result<Option<(u32, &'static str, EscapeFd)>> {
    for (number, name) in (0..).zip(["standard input", "standard output", "standard error"]) {
        let Some(fd) = passed_on(number as RawFd).filter(|_| !keep.contains(&number)) else { continue };
        if let Some(door) = escape_fd(fd).context(name)? {
            return Ok(Some((number, name, door)));
        }
    }
    Ok(None)
}

/// A descriptor that this process was started with, if it is open.
pub fn inherited(number: RawFd) -> Option<BorrowedFd<'static>> {
    asked(number).map(|(fd, _)| fd)
}

/// A descriptor that COMMAND inherits: open, and not closed at exec.
pub fn passed_on(number: RawFd) -> Option<BorrowedFd<'static>> {
    asked(number).filter(|(_, flags)| !flags.contains(FdFlag::FD_CLOEXEC)).map(|(fd, _)| fd)
}

fn asked(number: RawFd) -> Option<(BorrowedFd<'static>, FdFlag)> {
    if number < 0 {
        return None;
    }
    // SAFETY: the first call asks whether it is open, and none of our tools closes a descriptor that it did not open.
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
        assert_eq!(escape_fd(File::open("/").unwrap()), Ok(Some(EscapeFd::Directory)));
        assert_eq!(escape_fd(open("/proc/self/exe", OFlag::O_PATH, Mode::empty()).unwrap()), Ok(Some(EscapeFd::Path)));
        assert_eq!(escape_fd(File::open("/proc/self/ns/mnt").unwrap()), Ok(Some(EscapeFd::Namespace)));
        assert_eq!(escape_fd(File::open("/proc/self/exe").unwrap()), Ok(None));
        assert_eq!(escape_fd(File::open("/dev/null").unwrap()), Ok(None));
        assert_eq!(escape_fd(nix::unistd::pipe().unwrap().0), Ok(None));
        assert_eq!(escape_fd(nix::sys::eventfd::EventFd::new().unwrap()), Ok(None));
        assert_eq!(escape_fd(crate::pidfd::own().unwrap()), Ok(Some(EscapeFd::Process)));
        // Takes privilege to make, as most of these do.
        if let Ok(context) = rustix::mount::fsopen("tmpfs", rustix::mount::FsOpenFlags::empty()) {
            assert_eq!(escape_fd(context), Ok(Some(EscapeFd::Object)));
        }
    }
}
