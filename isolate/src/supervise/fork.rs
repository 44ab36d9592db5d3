//! The fork: what the child does before it goes on, and what only its parent can do for it from
//! outside of the new namespaces.

use std::convert::Infallible;
use std::fs::File;
use std::os::fd::OwnedFd;

use anyhow::{Context, Error, Result};
use chain::patient::waitpid;
use chain::{Hint, Rest, Tool};
use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::WaitStatus;
use nix::unistd::{Pid, pipe2};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, pidfd_open};

use crate::limits::joined;
use crate::namespaces::unshare::{Unshare, Wait};
use crate::namespaces::{Kind, flags};
use crate::namespaces::{join, pasta, persist, refusal};
use crate::state::State;
use crate::supervise::ending::{Ending, Whom};
use crate::supervise::gate::{self, Side};
use crate::supervise::guard::{Guard, Post};
use crate::supervise::process::{SignalState, clone_into, clone_sharing, close_all_but, let_go_of, let_go_of_code};
use crate::supervise::status;
use crate::supervise::terminal::Terminal;
use crate::supervise::waiting::Waiting;

/// Made by the child for itself: a cgroup namespace shows the group that its maker is in, so it has
/// to wait until the child is in its group; clone(2) has no flag left for time.
const LATER: [Kind; 2] = [Kind::Cgroup, Kind::Time];

pub fn fork(step: &Unshare, wait: &Wait, state: &mut State, rest: &mut Rest<State>) -> Result<Infallible> {
    let own = |error| chain::named(step, error);
    let us = pidfd_open(rustix::process::getpid(), PidfdFlags::empty()).map_err(|errno| own(no_pidfd(errno)))?;
    let nested = state.carry.parent.is_some();
    let (made, report) = Made::new(step, wait, us, state).map_err(own)?;
    let mut go_on = |state: &mut State| {
        made.arrive(step, wait, state).map_err(own)?;
        rest(state)
    };
    let at_once = flags(step.new.iter().filter(|new| !LATER.contains(&new.kind)));
    let joined = state.join.take();
    state.joined = joined.as_ref().map_or_else(Vec::new, |opened| opened.groups.clone());
    let mut childs_life = || match go_on(state) {
        Err(error) => chain::fail(Tool::Isolate, &error).into(),
        Ok(never) => match never {},
    };
    let child = match joined {
        Some(opened) => join::clone_into(opened, at_once, made.guard, wait.status)
            .inspect_err(|_| made.guard.give_up())
            .map_err(own)?,
        // SAFETY: this function, whose locals these are, is not left before the child has left this memory: `stay` waits for
        // that, and where it or `send_off` fails the child is killed. Until then they do nothing but what gate.rs allows.
        None if wait.shares_memory => unsafe { clone_sharing(at_once, &raw mut childs_life) }.map(Some),
        None => clone_into(at_once),
    };
    let refused = |errno| own(refusal::explain(errno, &step.kinds()));
    match child.inspect_err(|_| made.guard.give_up()).map_err(refused)? {
        None => go_on(state),
        Some(child) => {
            let mut waiting = Waiting::new(child, made.guard);
            (waiting.report, waiting.nested) = (report, nested);
            let sent_off = send_off(&made, step, wait, state, &mut waiting);
            let started = sent_off.is_ok();
            let Err(error) = sent_off.and_then(|keep| stay(&made, wait, waiting, keep));
            // It may be on our memory: nothing else is done until it is gone.
            let _ = kill(child, Signal::SIGKILL);
            let ended = waitpid(child, None);
            made.guard.give_up();
            match ended {
                // It was about to leave, and has said why.
                Ok(WaitStatus::Exited(_, code)) if !started => Ending::Exit(code).share(Whom::Us),
                _ => Err(own(error)),
            }
        }
    }
}

/// What the two have when they part.
struct Made {
    leads: bool,
    gate: Side,
    childs: Side,
    signals: SignalState,
    guard: Guard,
}

impl Made {
    fn new(step: &Unshare, wait: &Wait, us: OwnedFd, state: &mut State) -> Result<(Made, Option<File>)> {
        let terminal = Terminal::find();
        let leads = step.has(Kind::Pid) && terminal.wants_own_group();
        let (gate, childs) = gate::make().context("pipe")?;
        let mut report = None;
        if wait.init {
            let (read, write) = pipe2(OFlag::O_CLOEXEC).context("pipe")?;
            (report, state.report) = (Some(read.into()), Some(write.into()));
        }
        let signals = SignalState::put_aside()?;
        let post = Post::new(us, (wait.kill, step.has(Kind::Pid)), (terminal, leads), state.group.take())?;
        // Before the child, for then it is ready when that is.
        let guard = Guard::start(post)?;
        // After the guard, which removes it whatever happens to us.
        if let Some(group) = &guard.post.group {
            group.create().inspect_err(|_| guard.give_up())?;
        }
        Ok((Made { leads, gate, childs, signals, guard }, report))
    }

    /// The child's part, in the new namespaces.
    fn arrive(&self, step: &Unshare, wait: &Wait, state: &mut State) -> Result<()> {
        self.gate.close();
        // Until it is told, the memory is its parent's.
        self.childs.wait()?;
        let us = self.guard.post.us.try_clone()?;
        if wait.kill == Signal::SIGKILL {
            chain::die_with_parent(&us, wait.kill)?;
        } else {
            // Another one the guard sends alone: once, and after a change of ids as well.
            state.told_by_guard = true;
        }
        self.signals.put_back()?;
        status::leave(wait.status);
        let later = flags(step.new.iter().filter(|new| LATER.contains(&new.kind)));
        unshare(later).map_err(|errno| refusal::explain(errno, &step.kinds()))?;
        state.carry.parent = Some(us);
        step.arrive(state)?;
        if waits_for_arrival(step, wait) {
            self.childs.tell()?;
            self.childs.wait()?;
        }
        Ok(())
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

/// The parent's part until the child needs it no more. What descriptors are to be kept for waiting.
fn send_off(made: &Made, step: &Unshare, wait: &Wait, state: &mut State, waiting: &mut Waiting) -> Result<Vec<i32>> {
    let (child, post) = (waiting.child, made.guard.post);
    made.childs.close();
    // A reaper's, which is not on our memory.
    state.report = None;
    made.guard.watch(child)?;
    from_outside(step, wait, state, child, post)?;
    if made.leads {
        post.terminal.belongs_to(child);
    }
    waiting.first = step.has(Kind::Pid);
    waiting.leads = made.leads;
    waiting.shares_memory = wait.shares_memory.then_some(made.gate);
    let mut keep = waiting.descriptors();
    keep.extend(wait.status);
    made.gate.tell()?;
    if waits_for_arrival(step, wait) && made.gate.hear()? {
        persist::keep(&step.new, child)?;
        if let Some(fd) = wait.status {
            status::started(fd, child);
        }
        made.gate.tell()?;
    }
    Ok(keep)
}

/// To the end of this process.
fn stay(made: &Made, wait: &Wait, waiting: Waiting, keep: Vec<i32>) -> Result<Infallible> {
    let post = made.guard.post;
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
        chain::warn(Tool::Isolate, exceeded);
    }
    ending.share(whom)
}

fn from_outside(step: &Unshare, wait: &Wait, state: &State, child: Pid, post: &Post) -> Result<()> {
    step.maps.write(Some(child))?;
    joined::join(&state.joined, child);
    post.group.as_ref().map_or(Ok(()), |group| group.add(child))?;
    if wait.pasta {
        let _ = post.pasta.set(pasta::start(child)?);
    }
    Ok(())
}

/// A child whose whole purpose is to make the real one: ends as it ended, if it failed.
pub fn end_as(pid: Pid) -> ! {
    let ending = waitpid(pid, None).ok().and_then(Ending::of).unwrap_or(Ending::Exit(chain::FAILED.into()));
    ending.share(Whom::Us)
}

pub const PLAIN: CloneFlags = CloneFlags::empty();
