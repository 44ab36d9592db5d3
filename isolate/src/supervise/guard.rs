//! A process beside the child, outside of its namespaces: a second hand on its life, and an ear in
//! its process group.
//!
//! The kernel's parent-death signal is forgotten when a process changes its ids, which any command
//! may do (su, a daemon that drops root); then only somebody outside can end the child of an isolate
//! that was killed. And where the child leads a process group of its own, what the terminal sends
//! goes there and not to isolate; the kernel keeps it from a PID 1 that leaves it at the default.
//!
//! It shares our memory and our descriptors, since copies of them take longer than all that it does. So until
//! we are dead it allocates nothing, and calls nothing that sets errno, which both of us have in one place.
//! (Out of memory, the kernel ends all that share it: then the parent-death signal is all there is.)

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::OnceLock;

use anyhow::{Context, Result};
use chain::patient::waitpid;
use nix::fcntl::OFlag;
use nix::libc;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{Pid, pipe2, setpgid};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, Signal as RustixSignal, pidfd_open, pidfd_send_signal, setsid};

use crate::limits::cgroup::Group;
use crate::namespaces::pasta::Pasta;
use crate::supervise::disposition::{self, Disposition};
use crate::supervise::process::{clone_beside, close_all_but, let_go_of};
use crate::supervise::terminal::Terminal;
use crate::supervise::waiting::SI_KERNEL;

#[derive(Clone, Copy)]
pub struct Guard {
    pid: Pid,
    pub post: &'static Post,
}

/// What isolate and its guard both know.
pub struct Post {
    pub us: OwnedFd,
    /// What the child gets when isolate dies.
    pub kill: Signal,
    /// The child is PID 1 of its namespace.
    pub first: bool,
    pub terminal: Terminal,
    pub group: Option<Group>,
    pub pasta: OnceLock<Pasta>,
    child: OnceLock<(Pid, OwnedFd)>,
    /// Each of the two reads its own signals from it (signalfd(2)).
    pub signals: SignalFd,
    /// Where the child leads a process group of its own, the signals that this hears: a byte each,
    /// whose top bit says that the kernel sent it.
    pub ear: Option<Ear>,
}

pub struct Ear {
    pub heard: OwnedFd,
    tells: OwnedFd,
}

impl Post {
    pub fn new(
        us: OwnedFd,
        (kill, first): (Signal, bool),
        (terminal, listens): (Terminal, bool),
        group: Option<Group>,
    ) -> Result<Post> {
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&SigSet::all(), flags).context("signalfd")?;
        let pipe = listens.then(|| pipe2(OFlag::O_CLOEXEC)).transpose().context("pipe")?;
        let ear = pipe.map(|(heard, tells)| Ear { heard, tells });
        Ok(Post { us, kill, first, terminal, group, pasta: OnceLock::new(), child: OnceLock::new(), signals, ear })
    }

    /// The descriptors that the two need while they wait.
    pub fn descriptors(&self) -> Vec<i32> {
        let ear = self.ear.iter().flat_map(|ear| [ear.heard.as_raw_fd(), ear.tells.as_raw_fd()]);
        let child = self.child.get().map(|(_, child)| child.as_raw_fd());
        let tty = self.terminal.file().map(|tty| tty.as_raw_fd());
        let pasta = self.pasta.get().map(Pasta::descriptor);
        let own = [self.us.as_raw_fd(), self.signals.as_fd().as_raw_fd()];
        own.into_iter().chain(ear).chain(child).chain(tty).chain(pasta).collect()
    }
}

impl Guard {
    /// Every signal must be blocked already.
    pub fn start(post: Post) -> Result<Guard> {
        let post: &Post = Box::leak(Box::new(post));
        let pid = clone_beside(stand, std::ptr::from_ref(post).cast_mut().cast()).context("fork")?;
        Ok(Guard { pid, post })
    }

    /// To be told of the child before that is let go.
    pub fn watch(&self, child: Pid) -> Result<()> {
        let pid = rustix::process::Pid::from_raw(child.as_raw()).context("pid of the child")?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).context("pidfd of the child")?;
        let _ = self.post.child.set((child, pidfd));
        if self.post.ear.is_some() {
            setpgid(child, child).context("process group")?;
            let _ = setpgid(self.pid, child);
        }
        Ok(())
    }

    pub fn dismiss(&self) {
        let _ = nix::sys::signal::kill(self.pid, Signal::SIGKILL);
        let _ = waitpid(self.pid, None);
    }

    /// Where the child never started: what the guard would have done is done here.
    pub fn give_up(&self) {
        self.dismiss();
        // A child that the limit has killed could not say why.
        if let Some(exceeded) = self.post.group.as_ref().and_then(Group::finish) {
            chain::warn(chain::Tool::Isolate, exceeded);
        }
    }
}

extern "C" fn stand(post: *mut libc::c_void) -> libc::c_int {
    // SAFETY: what Guard::start gave, for good.
    let post: &Post = unsafe { &*post.cast() };
    // Out of the job, so that what is sent to all of it leaves the guard alive.
    if post.ear.is_none() {
        let _ = setsid();
    }
    let watched = 1 + usize::from(post.ear.is_some());
    loop {
        let mut any = [post.us.as_fd(), post.signals.as_fd()].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        match poll(&mut any[..watched], None) {
            Err(Errno::INTR) => continue,
            Err(_) => return 1,
            Ok(_) => {}
        }
        let [us_dead, heard] = any.map(|fd| !fd.revents().is_empty());
        if us_dead {
            take_over(post);
            return 0;
        }
        if let (true, Some(ear)) = (heard, &post.ear) {
            pass_on(&post.signals, ear);
        }
    }
}

/// nix's read_signal would set errno. ssi_signo and ssi_code (signalfd(2)).
fn pass_on(signals: &SignalFd, ear: &Ear) {
    let mut info = [0; size_of::<libc::signalfd_siginfo>()];
    while rustix::io::read(signals.as_fd(), &mut info) == Ok(info.len()) {
        let [s0, s1, s2, s3, _, _, _, _, c0, c1, c2, c3, ..] = info;
        let (signal, code) = (u32::from_ne_bytes([s0, s1, s2, s3]), i32::from_ne_bytes([c0, c1, c2, c3]));
        let kernel = if code == SI_KERNEL { 0x80 } else { 0 };
        let _ = rustix::io::write(&ear.tells, &[signal as u8 | kernel]);
    }
}

/// Isolate is dead.
fn take_over(post: &Post) {
    close_all_but(&post.descriptors());
    let_go_of(&[0, 1, 2]);
    // Without a child that it was told of: one that is there finds its gate gone.
    if let Some((child, pidfd)) = post.child.get() {
        let _ = pidfd_send_signal(pidfd, last_signal(post, *child));
        let _ = poll(&mut [PollFd::new(pidfd, PollFlags::IN)], None);
        post.terminal.give_back(Some(*child));
    }
    post.pasta.get().inspect(|pasta| pasta.stop());
    post.group.as_ref().inspect(|group| group.remove());
}

/// The one that was asked for; but what a PID 1 leaves at its default the kernel keeps from it.
fn last_signal(post: &Post, child: Pid) -> RustixSignal {
    let dropped = post.first && disposition::of(child, post.kill as i32) == Some(Disposition::Default);
    RustixSignal::from_named_raw(post.kill as i32).filter(|_| !dropped).unwrap_or(RustixSignal::KILL)
}
