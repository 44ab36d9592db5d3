//! In place of COMMAND: a PID 1 that others join, and that needs no program of the root.

use std::io::{Write, stdin, stdout};
use std::os::fd::AsFd;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::read;

/// Says that the root can be joined; returns when standard input ends.
pub fn until_stdin_ends() -> Result<()> {
    let child: SigSet = [Signal::SIGCHLD].into_iter().collect();
    child.thread_block().context("SIGCHLD")?;
    let ended = SignalFd::with_flags(&child, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).context("signalfd")?;
    stdout().write_all(b"ready\n").and_then(|()| stdout().flush()).context("standard output")?;
    let input = stdin();
    loop {
        let both = &mut [PollFd::new(input.as_fd(), PollFlags::POLLIN), PollFd::new(ended.as_fd(), PollFlags::POLLIN)];
        match poll(both, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            result => result.context("poll")?,
        };
        if both[1].any() != Some(false) {
            while let Ok(Some(_)) = ended.read_signal() {}
            reap();
        }
        if both[0].any() != Some(false) && input_is_at_its_end()? {
            return Ok(());
        }
    }
}

fn input_is_at_its_end() -> Result<bool> {
    match read(stdin(), &mut [0; 4096]) {
        Ok(length) => Ok(length == 0),
        Err(Errno::EINTR | Errno::EAGAIN) => Ok(false),
        Err(errno) => Err(errno).context("standard input"),
    }
}

/// What loses its parent in a pid namespace becomes its PID 1's (pid_namespaces(7)).
fn reap() {
    while !matches!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD)) {}
}
