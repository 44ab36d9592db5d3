//! Making the child: clone(2) with namespaces, and the state it starts from.

use anyhow::{Context, Result};
use chain::patient::again;
use nix::errno::Errno;
use nix::libc;
use nix::sched::CloneFlags;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, pthread_sigmask, sigaction};
use nix::unistd::Pid;

/// fork(2) into new namespaces: None in the child. A clone and not an unshare before a fork, so
/// that the parent stays outside: it keeps its privileges there and none of the child's mounts.
pub fn clone_into(flags: CloneFlags) -> Result<Option<Pid>, Errno> {
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

/// A process on our memory and our descriptors: it runs `body` on a stack of its own, and ends with it.
pub fn clone_beside(
    body: extern "C" fn(*mut libc::c_void) -> libc::c_int,
    with: *mut libc::c_void,
) -> Result<Pid, Errno> {
    clone_on::<{ 64 << 10 }>(CloneFlags::CLONE_FILES, body, with)
}

/// A child in new namespaces that is on our memory until it becomes another program: a copy, and the pages that both
/// would then copy, take longer than all that it does. It runs `body` on a stack of its own; the value is its status.
///
/// # Safety
/// Until the child has left it, `body` and what that borrows stay where they are, and only one of the two processes at a
/// time uses them, allocates or sets errno (gate.rs).
pub unsafe fn clone_sharing<F: FnMut() -> i32>(flags: CloneFlags, body: *mut F) -> Result<Pid, Errno> {
    extern "C" fn run<F: FnMut() -> i32>(body: *mut libc::c_void) -> libc::c_int {
        // SAFETY: the caller's.
        unsafe { (*body.cast::<F>())() }
    }
    clone_on::<{ 256 << 10 }>(flags, run::<F>, body.cast())
}

fn clone_on<const STACK: usize>(
    flags: CloneFlags,
    body: extern "C" fn(*mut libc::c_void) -> libc::c_int,
    with: *mut libc::c_void,
) -> Result<Pid, Errno> {
    #[repr(align(16))]
    struct Stack<const SIZE: usize> {
        _bytes: [u8; SIZE],
    }
    let stack = Box::leak(Box::<Stack<STACK>>::new_uninit()).as_mut_ptr();
    let flags = libc::CLONE_VM | flags.bits() | libc::SIGCHLD;
    // SAFETY: the stack, which grows down from its end, is nobody else's and stays.
    let pid = unsafe { libc::clone(body, stack.add(1).cast(), flags, with) };
    Errno::result(pid).map(Pid::from_raw)
}

/// The signal mask and SIGCHLD's disposition, put aside for the time around a fork: until the
/// parent reads signals from a descriptor none may be lost, and the child gets them as they were.
pub struct SignalState {
    mask: SigSet,
    child: SigAction,
}

impl SignalState {
    pub fn put_aside() -> Result<SignalState> {
        let mut mask = SigSet::empty();
        pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut mask)).context("signal mask")?;
        let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
        // Where our caller ignores SIGCHLD the kernel would reap the child and its status with it.
        // SAFETY: no handler is installed.
        let child = unsafe { sigaction(Signal::SIGCHLD, &default) }.context("SIGCHLD")?;
        Ok(SignalState { mask, child })
    }

    pub fn put_back(&self) -> Result<()> {
        // SAFETY: the disposition is the one that was here before.
        unsafe { sigaction(Signal::SIGCHLD, &self.child) }.context("SIGCHLD")?;
        pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&self.mask), None).context("signal mask")
    }
}

/// Closes every descriptor from 3 up but these: while it waits, a process of ours holds no end of
/// its caller's pipes.
pub fn close_all_but(keep: &[i32]) {
    let mut keep: Vec<u32> = keep.iter().filter_map(|&fd| u32::try_from(fd).ok()).filter(|&fd| fd > 2).collect();
    keep.sort_unstable();
    let mut next = 3;
    for last in keep.into_iter().chain([u32::MAX]) {
        let end = if last == u32::MAX { last } else { last - 1 };
        if next <= end {
            // SAFETY: nothing of this process uses a descriptor outside of `keep` any more.
            unsafe { libc::syscall(libc::SYS_close_range, next, end, 0) };
        }
        next = last.saturating_add(1);
    }
}

/// Lets go of the caller's standard streams: `yes | isolate …` must still end with SIGPIPE.
pub fn let_go_of(streams: &[i32]) {
    use std::os::fd::AsRawFd;
    let null = std::fs::File::options().read(true).write(true).open("/dev/null");
    for &stream in streams {
        // SAFETY: dup2 and close of a standard stream that this process does not use any more.
        unsafe {
            match &null {
                Ok(null) => drop(again(|| Errno::result(libc::dup2(null.as_raw_fd(), stream)))),
                Err(_) => drop(libc::close(stream)),
            }
        }
    }
}

/// Unmaps the pages of our code: what waiting needs comes back from the page cache, a tenth of what starting needed.
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
