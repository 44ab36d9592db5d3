//! Calls of nix that are repeated while a signal interrupts them: no link wants a call to end for a signal (signal(7);
//! open(2), statfs(2), wait(2)). rustix has its own (`rustix::io::retry_on_intr`), for modules that use it.

use std::os::fd::{AsFd, OwnedFd};

use nix::NixPath;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag};
use nix::poll::{PollFd, PollTimeout};
use nix::sys::stat::Mode;
use nix::sys::statfs::Statfs;
use nix::sys::wait::{WaitPidFlag, WaitStatus};
use nix::unistd::Pid;

/// Makes a call again for as long as a signal interrupts it.
pub fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            result => return result,
        }
    }
}

pub fn open<P: ?Sized + NixPath>(path: &P, flags: OFlag, mode: Mode) -> Result<OwnedFd, Errno> {
    // Not open(): musl's makes a second call, fcntl(2), for O_CLOEXEC, which Linux before 2.6.23 did not know.
    openat(AT_FDCWD, path, flags, mode)
}

pub fn openat<P: ?Sized + NixPath>(dir: impl AsFd, path: &P, flags: OFlag, mode: Mode) -> Result<OwnedFd, Errno> {
    retry(|| nix::fcntl::openat(&dir, path, flags, mode))
}

pub fn statfs<P: ?Sized + NixPath>(path: &P) -> Result<Statfs, Errno> {
    retry(|| nix::sys::statfs::statfs(path))
}

pub fn fstatfs(fd: impl AsFd) -> Result<Statfs, Errno> {
    retry(|| nix::sys::statfs::fstatfs(&fd))
}

pub fn waitpid(pid: Pid, options: Option<WaitPidFlag>) -> Result<WaitStatus, Errno> {
    retry(|| nix::sys::wait::waitpid(pid, options))
}

pub fn poll(fds: &mut [PollFd], timeout: PollTimeout) -> Result<i32, Errno> {
    retry(|| nix::poll::poll(fds, timeout))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_call_is_made_again_and_a_failed_one_is_not() {
        let mut answers = [Err(Errno::EINTR), Err(Errno::EINTR), Ok(7)].into_iter();
        assert_eq!(retry(|| answers.next().unwrap()), Ok(7));
        assert_eq!(retry(|| Err::<(), _>(Errno::EIO)), Err(Errno::EIO));
    }
}
