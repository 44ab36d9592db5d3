//! A process beside the child, outside of its namespaces: a second hand on its life, and an ear in
//! its process group.
//!
//! The kernel's parent-death signal is forgotten when a process changes its ids, which any command
//! may do (su, a daemon that drops root); then only somebody outside can end the child of an isolate
//! that was killed. And where the child leads a process group of its own, what the terminal sends
//! goes there and not to isolate; the kernel keeps it from a PID 1 that leaves it at the default.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use anyhow::{Context, Result};
use chain::patient::{poll, waitpid};
use nix::fcntl::OFlag;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sched::CloneFlags;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{Pid, pipe2, setpgid, setsid};
use rustix::process::{PidfdFlags, Signal as RustixSignal, pidfd_open, pidfd_send_signal};

use crate::cgroup::Group;
use crate::disposition::{self, Disposition};
use crate::pasta::Pasta;
use crate::process::{clone_into, close_all_but, let_go_of};
use crate::terminal::Terminal;
use crate::waiting::{SI_KERNEL, read_signal};

pub struct Guard {
    pid: Pid,
    /// The signals that the child's group hears, a byte each; its top bit says that the kernel sent it.
    pub heard: Option<OwnedFd>,
}

/// What the guard watches.
pub struct Post<'a> {
    pub us: &'a OwnedFd,
    pub child: Pid,
    /// What the child gets when isolate dies.
    pub kill: Signal,
    /// The child is PID 1 of its namespace.
    pub first: bool,
    /// Whether the child leads a process group of its own.
    pub listens: bool,
    pub terminal: &'a Terminal,
    pub group: Option<&'a Group>,
    pub pasta: Option<&'a Pasta>,
}

impl Guard {
    /// Forks it. Every signal must be blocked already.
    pub fn start(post: &Post) -> Result<Guard> {
        let child = rustix::process::Pid::from_raw(post.child.as_raw()).context("pid of the child")?;
        let child = pidfd_open(child, PidfdFlags::empty()).context("pidfd of the child")?;
        let pipe = post.listens.then(|| pipe2(OFlag::O_CLOEXEC)).transpose().context("pipe")?;
        if let Some(pid) = clone_into(CloneFlags::empty()).context("fork")? {
            if post.listens {
                // Here too, as a shell does it: the child, which is let go next, may ask at once.
                let _ = setpgid(pid, post.child);
            }
            return Ok(Guard { pid, heard: pipe.map(|(read, _)| read) });
        }
        // Out of the job, so that what is sent to all of it leaves the guard alive.
        if post.listens {
            let _ = setpgid(Pid::from_raw(0), post.child);
        } else {
            let _ = setsid();
        }
        watch(post, child, pipe.map(|(_, write)| write.into()));
        // SAFETY: ends this process without running what its parent has registered for its exit.
        unsafe { libc::_exit(0) }
    }

    /// The child is dead: the guard has seen it too and is gone or about to be.
    pub fn dismiss(&self) {
        let _ = nix::sys::signal::kill(self.pid, Signal::SIGKILL);
        let _ = waitpid(self.pid, None);
    }
}

fn watch(post: &Post, child: OwnedFd, mut ear: Option<File>) {
    let Ok(signals) = SignalFd::with_flags(&SigSet::all(), SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK) else {
        return;
    };
    let fd = |file: &Option<File>| file.as_ref().map_or(-1, |file| file.as_raw_fd());
    let tty = post.terminal.file().map_or(-1, |tty| tty.as_raw_fd());
    let pasta = post.pasta.map_or(-1, Pasta::descriptor);
    close_all_but(&[post.us.as_raw_fd(), child.as_raw_fd(), signals.as_fd().as_raw_fd(), fd(&ear), tty, pasta]);
    let_go_of(&[0, 1, 2]);
    loop {
        let mut any = [post.us.as_fd(), child.as_fd(), signals.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        if poll(&mut any, PollTimeout::NONE).is_err() {
            return;
        }
        let [us_dead, child_dead, heard] = any.map(|fd| fd.any() == Some(true));
        if child_dead && !us_dead {
            // What is left to do is isolate's, which may still die over it.
            return post.group.inspect(|group| outlive(post.us, group)).map_or((), drop);
        }
        if us_dead {
            let _ = pidfd_send_signal(&child, last_signal(post));
            let mut gone = [PollFd::new(child.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut gone, PollTimeout::NONE);
            post.terminal.give_back(Some(post.child));
            post.pasta.inspect(|pasta| pasta.stop());
            post.group.inspect(|group| group.remove());
            return;
        }
        while let (true, Ok(Some(info))) = (heard, read_signal(&signals)) {
            let kernel = if info.ssi_code == SI_KERNEL { 0x80 } else { 0 };
            if let Some(ear) = &mut ear {
                let _ = ear.write_all(&[info.ssi_signo as u8 | kernel]);
            }
        }
    }
}

/// The one that was asked for; but what a PID 1 leaves at its default the kernel keeps from it.
fn last_signal(post: &Post) -> RustixSignal {
    let dropped = post.first && disposition::of(post.child, post.kill as i32) == Some(Disposition::Default);
    RustixSignal::from_named_raw(post.kill as i32).filter(|_| !dropped).unwrap_or(RustixSignal::KILL)
}

/// Removes the group if isolate does not come to it.
fn outlive(us: &OwnedFd, group: &Group) {
    let mut dead = [PollFd::new(us.as_fd(), PollFlags::POLLIN)];
    let _ = poll(&mut dead, PollTimeout::NONE);
    group.remove();
}
