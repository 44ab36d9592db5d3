//! A process beside the child, outside of its namespaces and its process group: when isolate dies, of
//! whatever cause, it ends the child. It is made before the child: a fork leaves every page of its parent to be copied at the
//! next write, and the guard's start writes to many.
//!
//! The kernel's parent-death signal does the same, until the child asks it not to or changes its ids (prctl(2),
//! PR_SET_PDEATHSIG), which any command may do (su, a daemon that drops root). Nobody inside can name the guard, signal its
//! group or fill a pipe that it writes to.
//!
//! Its rule: it shares isolate's memory and descriptors, so while isolate lives it makes raw system calls alone and changes
//! nothing but atomics. Every signal is blocked in it, and it waits for isolate's end; then all of it is its own. (Out of
//! memory, the kernel ends all that share it: then the parent-death signal is all there is.) With --die-with-parent it watches
//! isolate's caller too, and kills isolate when that ends: the kernel's signal would come when a thread of the caller's ends.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::OnceLock;

use anyhow::{Context, Result};
use chain::pidfd;
use nix::libc;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, retry_on_intr};

use crate::limits::cgroup::Group;
use crate::namespaces::pasta::Pasta;
use crate::process::{Pid, close_all_but, ending_of, let_go_of, no_process, setpgid, spawn_beside};
use crate::signals;
use crate::supervise::disposition::{Disposition, Proc};
use crate::supervise::group_signals::GroupSignals;
use crate::supervise::terminal::Terminal;

/// What isolate and its helpers all know.
pub struct Shared {
    pub own_pidfd: OwnedFd,
    /// The process with which isolate ends.
    pub caller: Option<OwnedFd>,
    /// Once it is made. Until isolate opens its gate it does nothing, and without isolate that is gone.
    pub child: OnceLock<Child>,
    /// The child is PID 1 of its namespace.
    pub is_pid1: bool,
    /// What the child gets when isolate dies.
    pub kill: i32,
    pub terminal: Terminal,
    /// Where the child leads a process group of its own at a terminal.
    pub group_signals: Option<GroupSignals>,
    pub cgroup: Option<Group>,
    pub pasta: OnceLock<Pasta>,
}

pub struct Child {
    pub pid: Pid,
    pub pidfd: OwnedFd,
}

impl Child {
    pub fn of(pid: Pid) -> Result<Child> {
        Ok(Child { pid, pidfd: pidfd::of(pid.as_raw()).context("pidfd of the child")? })
    }
}

impl Shared {
    /// The descriptors that isolate and the guard need while they wait.
    pub fn descriptors(&self) -> Vec<i32> {
        let group_signals = self.group_signals.iter().flat_map(GroupSignals::descriptors);
        let tty = self.terminal.file().map(|tty| tty.as_raw_fd());
        let pasta = self.pasta.get().map(Pasta::descriptor);
        let child = self.child.get().map(|child| child.pidfd.as_raw_fd());
        let own = self.own_pidfd.as_raw_fd();
        let caller = self.caller.as_ref().map(|caller| caller.as_raw_fd());
        [own].into_iter().chain(caller).chain(child).chain(group_signals).chain(tty).chain(pasta).collect()
    }
}

#[derive(Clone, Copy)]
pub struct Guard(pub Pid);

impl Guard {
    /// Every signal must be blocked: the guard never unblocks any.
    pub fn start(shared: &'static Shared) -> Result<Guard> {
        // SAFETY: `stand` keeps to the rule, and `shared` is for good.
        let pid = unsafe { spawn_beside(stand, std::ptr::from_ref(shared).cast_mut().cast()) }.map_err(no_process)?;
        // In our session, to give the terminal back in (tcsetpgrp(3)), but in nobody's group. From here, not by itself: the group
        // may have been stopped before the guard ran.
        let _ = setpgid(pid, pid);
        let _ = signals::send(pid.as_raw(), libc::SIGCONT);
        Ok(Guard(pid))
    }

    pub fn dismiss(self) {
        let _ = signals::send(self.0.as_raw(), libc::SIGKILL);
        let _ = ending_of(self.0);
    }
}

extern "C" fn stand(shared: *mut libc::c_void) -> libc::c_int {
    // SAFETY: what Guard::start gave, for good.
    let shared: &Shared = unsafe { &*shared.cast() };
    // Not isolate's name: `pkill isolate` leaves it alive to do its part.
    let _ = rustix::thread::set_name(chain::handoff::GUARD);
    if let Some(caller) = &shared.caller {
        match wait_for(&mut [PollFd::new(&shared.own_pidfd, PollFlags::IN), PollFd::new(caller, PollFlags::IN)]) {
            Err(_) => return 1,
            // What ends isolate ends all of it, below.
            Ok(()) => pidfd::send(&shared.own_pidfd, libc::SIGKILL).unwrap_or(()),
        }
    }
    if wait_for(&mut [PollFd::new(&shared.own_pidfd, PollFlags::IN)]).is_err() {
        return 1;
    }
    take_over(shared);
    0
}

fn wait_for(any: &mut [PollFd]) -> Result<(), Errno> {
    retry_on_intr(|| poll(any, None)).map(|_| ())
}

/// Isolate is dead.
fn take_over(shared: &Shared) {
    close_all_but(&shared.descriptors());
    let_go_of(&[0, 1, 2]);
    let Some(child) = shared.child.get() else { return };
    let _ = pidfd::send(&child.pidfd, last_signal(shared, child));
    // A child that is stopped acts on nothing but SIGKILL.
    let _ = pidfd::send(&child.pidfd, libc::SIGCONT);
    let _ = wait_for(&mut [PollFd::new(&child.pidfd, PollFlags::IN)]);
    shared.terminal.give_back(Some(child.pid));
    shared.pasta.get().inspect(|pasta| pasta.stop());
    shared.cgroup.as_ref().inspect(|group| group.remove());
}

/// The one that was asked for; but what a PID 1 leaves at its default the kernel keeps from it.
fn last_signal(shared: &Shared, child: &Child) -> i32 {
    let is_default = || {
        let seen = Proc::of(child.pidfd.as_fd()).and_then(|proc| proc.disposition(shared.kill));
        !matches!(seen, Some(Disposition::Blocked | Disposition::Handled))
    };
    match shared.kill {
        libc::SIGKILL => libc::SIGKILL,
        _ if shared.is_pid1 && is_default() => libc::SIGKILL,
        kill => kill,
    }
}
