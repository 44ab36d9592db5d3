//! The fork: what the child does before it goes on, and what only its parent can do for it from
//! outside of the new namespaces.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;

use anyhow::{Context, Error, Result};
use chain::Hint;
use chain::patient::waitpid;
use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use nix::unistd::{Pid, pipe2};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, pidfd_open};

use crate::ending::{Ending, Whom};
use crate::guard::{Guard, Post};
use crate::namespaces::{Kind, flags};
use crate::process::{SignalState, clone_into, close_all_but, let_go_of, let_go_of_code};
use crate::state::State;
use crate::terminal::Terminal;
use crate::unshare::{Unshare, Wait};
use crate::waiting::Waiting;
use crate::{cgroup, join, pasta, persist, refusal, status};

/// Made by the child for itself: a cgroup namespace shows the group that its maker is in, so it has
/// to wait until the child is in its group; clone(2) has no flag left for time.
const LATER: [Kind; 2] = [Kind::Cgroup, Kind::Time];

/// Where the two wait for each other: the child for what is done from outside, the parent for the
/// namespaces that the child makes for itself.
struct Gate {
    child: (OwnedFd, OwnedFd),
    parent: (OwnedFd, OwnedFd),
}

pub fn fork(step: &Unshare, wait: &Wait, state: &mut State) -> Result<()> {
    let us = pidfd_open(rustix::process::getpid(), PidfdFlags::empty()).map_err(no_pidfd)?;
    let terminal = Terminal::find();
    let leads = step.has(Kind::Pid) && terminal.wants_own_group();
    let gate =
        Gate { child: pipe2(OFlag::O_CLOEXEC).context("pipe")?, parent: pipe2(OFlag::O_CLOEXEC).context("pipe")? };
    let report = wait.init.then(|| pipe2(OFlag::O_CLOEXEC)).transpose().context("pipe")?;
    let signals = SignalState::put_aside()?;
    let post = Post::new(us, (wait.kill, step.has(Kind::Pid)), (terminal, leads), state.group.take())?;
    // Before the child, for then it is ready when that is.
    let guard = Guard::start(post)?;
    let at_once = flags(step.new.iter().filter(|new| !LATER.contains(&new.kind)));
    let child = match state.join.take() {
        Some(opened) => {
            state.joined = opened.groups.clone();
            join::clone_into(opened, at_once, guard).inspect_err(|_| guard.dismiss())?
        }
        None => clone_into(at_once),
    };
    match child.inspect_err(|_| guard.dismiss()).map_err(|errno| refusal::explain(errno, &step.kinds()))? {
        None => {
            let us = guard.post.us.try_clone()?;
            if wait.kill == Signal::SIGKILL {
                chain::die_with_parent(&us, wait.kill)?;
            } else {
                // Another one the guard sends alone: once, and after a change of ids as well.
                state.told_by_guard = true;
            }
            signals.put_back()?;
            status::leave(wait.status);
            state.report = report.map(|(_, write)| write.into());
            let parent = gate.childs_side();
            parent.wait()?;
            let later = flags(step.new.iter().filter(|new| LATER.contains(&new.kind)));
            unshare(later).map_err(|errno| refusal::explain(errno, &step.kinds()))?;
            state.carry.parent = Some(us);
            step.arrive(state)?;
            if waits_for_arrival(step, wait) {
                parent.tell()?;
                parent.wait()?;
            }
            Ok(())
        }
        Some(child) => {
            let report = report.map(|(read, _)| read.into());
            stay(step, wait, state, Child { pid: child, leads, gate: gate.parents_side(), report, guard })
        }
    }
}

fn no_pidfd(errno: Errno) -> Error {
    let error = Error::new(errno).context("pidfd");
    if errno == Errno::NOSYS { error.context(Hint("this needs Linux 5.3 or newer".into())) } else { error }
}

/// Whether the parent has something to do with namespaces that the child makes for itself.
fn waits_for_arrival(step: &Unshare, wait: &Wait) -> bool {
    wait.status.is_some() || step.new.iter().any(|new| new.file.is_some())
}

struct Child {
    pid: Pid,
    leads: bool,
    gate: Side,
    report: Option<File>,
    guard: Guard,
}

/// The parent's part, to the end of this process.
fn stay(step: &Unshare, wait: &Wait, state: &mut State, child: Child) -> Result<()> {
    // What the link before us left is the child's now.
    let nested = std::mem::take(&mut state.carry).parent.is_some();
    let Child { pid, leads, gate, report, guard } = child;
    let post = guard.post;
    if let Err(error) = guard.watch(pid).and_then(|()| from_outside(step, wait, state, pid, post)) {
        return give_up(pid, gate, guard, error);
    }
    if leads {
        post.terminal.belongs_to(pid);
    }
    let mut waiting = Waiting::new(pid, guard);
    waiting.first = step.has(Kind::Pid);
    waiting.nested = nested;
    waiting.leads = leads;
    waiting.report = report;
    gate.tell()?;
    if waits_for_arrival(step, wait) && gate.hear()? {
        let kept = persist::keep(&step.new, pid);
        if let Err(error) = kept {
            return give_up(pid, gate, guard, error);
        }
        if let Some(fd) = wait.status {
            status::started(fd, pid);
        }
        gate.tell()?;
    }
    drop(gate);
    let mut keep = waiting.descriptors();
    keep.extend(wait.status);
    let (ending, whom) = waiting.until_the_end(|| {
        close_all_but(&keep);
        let_go_of(&[0, 1]);
        let_go_of_code();
    })?;
    post.pasta.get().inspect(|pasta| pasta.stop());
    let exceeded = post.group.as_ref().and_then(|group| group.finish());
    if let Some(fd) = wait.status {
        status::exited(fd, ending, exceeded.as_ref());
    }
    if let Some(exceeded) = exceeded {
        chain::warn(chain::Tool::Isolate, exceeded);
    }
    ending.share(whom)
}

/// The child finds the gate gone, and leaves.
fn give_up(child: Pid, gate: Side, guard: Guard, error: Error) -> Result<()> {
    drop(gate);
    let _ = waitpid(child, None);
    guard.dismiss();
    Err(error)
}

fn from_outside(step: &Unshare, wait: &Wait, state: &State, child: Pid, post: &Post) -> Result<()> {
    step.maps.write(Some(child))?;
    match &post.group {
        Some(group) => group.add(child)?,
        None => cgroup::join(&state.joined, child),
    }
    if wait.pasta {
        let _ = post.pasta.set(pasta::start(child)?);
    }
    Ok(())
}

/// One end of a gate.
struct Side {
    hears: File,
    tells: File,
}

impl Gate {
    fn childs_side(self) -> Side {
        Side { hears: self.child.0.into(), tells: self.parent.1.into() }
    }

    fn parents_side(self) -> Side {
        Side { hears: self.parent.0.into(), tells: self.child.1.into() }
    }
}

impl Side {
    fn tell(&self) -> Result<()> {
        match (&self.tells).write_all(b"!") {
            // The other is gone already, and has said why.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            result => result.context("the gate between parent and child"),
        }
    }

    /// Whether the other has told something; it is gone otherwise.
    fn hear(&self) -> Result<bool> {
        match (&self.hears).read_exact(&mut [0]) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
            result => result.map(|()| true).context("the gate between parent and child"),
        }
    }

    /// Waits until the parent has done its part; leaves without a word if it never will, since the
    /// parent says why.
    fn wait(&self) -> Result<()> {
        if !self.hear()? {
            std::process::exit(chain::FAILED.into());
        }
        Ok(())
    }
}

/// A child whose whole purpose is to make the real one: ends as it ended, if it failed.
pub fn end_as(pid: Pid) -> ! {
    let ending = waitpid(pid, None).ok().and_then(Ending::of).unwrap_or(Ending::Exit(chain::FAILED.into()));
    ending.share(Whom::Us)
}

pub const PLAIN: CloneFlags = CloneFlags::empty();
