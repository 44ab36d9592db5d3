//! Processes: how they are made, what they leave behind of their caller's, and how they change.

mod between;
mod change;

use std::os::fd::{BorrowedFd, OwnedFd};

use anyhow::{Context, Error, Result, anyhow};
pub use between::fork_from_between;
use chain::retry_eintr::retry;
use chain::{Hint, WithHint, pidfd};
pub use change::{Change, Ending, ending_of, has_continued, next_change};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;
use nix::sched::CloneFlags;
use nix::unistd::getppid;
pub use nix::unistd::{Pid, setpgid};

use crate::why_no_process;

/// fork(2) into new namespaces: None in the child. A clone and not an unshare before a fork, so
/// that the parent stays outside: it keeps its privileges there and none of the child's mounts.
pub fn fork_into(flags: CloneFlags) -> Result<Option<Pid>, Errno> {
    let flags = flags.bits() as libc::c_ulong | libc::SIGCHLD as libc::c_ulong;
    // s390 alone has the stack first; no stack of its own, no pointers: then it is fork(2).
    #[cfg(target_arch = "s390x")]
    let (first, second) = (0, flags);
    #[cfg(not(target_arch = "s390x"))]
    let (first, second) = (flags, 0);
    // SAFETY: without CLONE_VM the child runs on its copy of this stack, and this process has one
    // thread, so that no lock is held by a thread that the child lacks.
    let pid = unsafe { libc::syscall(libc::SYS_clone, first, second, 0, 0, 0) };
    match Errno::result(pid)? {
        0 => Ok(None),
        pid => Ok(Some(Pid::from_raw(pid as libc::pid_t))),
    }
}

/// The process that started this one.
pub fn caller() -> Result<OwnedFd> {
    let parent = getppid();
    if parent.as_raw() == 0 {
        //: --die-with-parent | getppid: 0 | the caller is outside the pid namespace | the only cause |
        //: isolate/deaths::a_parent_outside_the_pid_namespace_is_none_to_die_with
        return Err(anyhow!("--die-with-parent: the process that started this one is outside its pid namespace"))
            .hint("start the pid namespace itself with --die-with-parent");
    }
    let pidfd = pidfd::of(parent.as_raw()).context("--die-with-parent: pidfd")?;
    // It may have ended before, and its number be another's.
    if getppid() != parent {
        chain::leave(128 + libc::SIGKILL as u8);
    }
    Ok(pidfd)
}

pub fn no_process(errno: Errno) -> Error {
    match errno {
        Errno::EAGAIN => anyhow!("fork: too many processes").context(Hint(why_no_process::explain())),
        Errno::ENOMEM => {
            let error = Error::new(errno).context("fork");
            //: fork | clone, unshare: ENOMEM | out of memory, or the pid namespace has lost its PID 1 | the only causes;
            //: neither can be seen | isolate/refusals::a_pid_namespace_without_its_pid_1_is_named
            error.context(Hint("out of memory, or the pid namespace to fork into has lost its PID 1".into()))
        }
        _ => Error::new(errno).context("fork"),
    }
}

pub fn fork() -> Result<Option<Pid>, Errno> {
    fork_into(CloneFlags::empty())
}

/// A helper that shares our memory and descriptors, because copying them takes longer than all that it does. Runs `body`
/// on its own stack and ends with it.
///
/// # Safety
/// While this process lives, `body` makes only raw system calls: no allocation, and no errno, which the two share. It
/// changes only atomics. What `with` points to is never freed.
pub unsafe fn spawn_beside(
    body: extern "C" fn(*mut libc::c_void) -> libc::c_int,
    with: *mut libc::c_void,
) -> Result<Pid, Errno> {
    #[repr(align(16))]
    struct Stack {
        _bytes: [u8; 64 << 10],
    }
    let stack = Box::leak(Box::<Stack>::new_uninit()).as_mut_ptr();
    let flags = libc::CLONE_VM | libc::CLONE_FILES | libc::SIGCHLD;
    // SAFETY: the stack, which grows down from its end, is nobody else's and stays.
    let pid = unsafe { libc::clone(body, stack.add(1).cast(), flags, with) };
    Errno::result(pid).map(Pid::from_raw)
}

/// Closes every descriptor from 3 up except these: a waiting isolate must hold no end of its caller's pipes.
pub fn close_all_but(keep: &[i32]) {
    let mut keep: Vec<u32> = keep.iter().filter_map(|&fd| u32::try_from(fd).ok()).filter(|&fd| fd > 2).collect();
    keep.sort_unstable();
    let mut next = 3;
    for last in keep.into_iter().chain([u32::MAX]) {
        let end = if last == u32::MAX { last } else { last - 1 };
        if next <= end {
            // SAFETY: this process no longer uses any descriptor outside `keep`.
            unsafe { libc::syscall(libc::SYS_close_range, next, end, 0) };
        }
        next = last.saturating_add(1);
    }
}

/// For a descriptor of the caller that COMMAND must not inherit.
pub fn close_at_exec(fd: Option<i32>) {
    if let Some(fd) = fd {
        // SAFETY: fcntl(2) takes any number, and this one was open when the options were read.
        let _ = fcntl(unsafe { BorrowedFd::borrow_raw(fd) }, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC));
    }
}

/// Replaces the caller's standard streams with /dev/null: `yes | isolate …` must still end with SIGPIPE.
pub fn let_go_of(streams: &[i32]) {
    use std::os::fd::AsRawFd;
    let null = std::fs::File::options().read(true).write(true).open("/dev/null");
    for &stream in streams {
        // SAFETY: dup2 and close of a standard stream that this process no longer uses.
        unsafe {
            match &null {
                Ok(null) => drop(retry(|| Errno::result(libc::dup2(null.as_raw_fd(), stream)))),
                Err(_) => drop(libc::close(stream)),
            }
        }
    }
}

/// Unmaps the pages of our code. Waiting needs a tenth of what starting did, and gets it back from the page cache.
pub fn let_go_of_code() {
    unsafe extern "C" {
        // ld(1) puts these around the program's headers and code.
        static __executable_start: u8;
        static etext: u8;
    }
    const PAGE: usize = 4096;
    let start = (&raw const __executable_start).addr().next_multiple_of(PAGE);
    let length = (&raw const etext).addr().saturating_sub(start) / PAGE * PAGE;
    // SAFETY: nothing is ever written to these pages, so the file still has all of them (madvise(2), MADV_DONTNEED).
    unsafe { libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED) };
}
