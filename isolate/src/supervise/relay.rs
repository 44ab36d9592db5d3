//! The process between a caller's terminal and a session of COMMAND's own: it passes bytes, sizes and signals on, stops and
//! continues with the session's leader, and ends as that does. Whatever happens to it, the caller's terminal is restored.

use std::convert::Infallible;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::rc::Rc;

use anyhow::{Context, Result};
use chain::retry_eintr::poll;
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::prctl::set_name;
use nix::unistd::{Pid, isatty, read, setpgid};

use crate::process::{Change, Ending, close_all_but, fork, let_go_of, next_change};
use crate::signals::{self, Arrivals, Target, raise_default, take};
use crate::supervise::flow::{Flow, Pumped};
use crate::supervise::guard::Guard;
use crate::supervise::pty::{Pty, Settings};

/// How much of a session's output the kernel may still hold at its end: a pipe's buffer, which is more than a terminal's.
const LAST_BYTES: usize = 128 << 10;

/// How often to look whether we are in the foreground again, in milliseconds.
const LOOK: u16 = 300;

pub struct Relay {
    leader: Pid,
    own_pidfd: OwnedFd,
    arrivals: Arrivals,
    tty: Option<Rc<OwnedFd>>,
    pty: Option<Pty>,
    /// From the caller's terminal to the session's, while we have that.
    input: Option<Attached>,
    outputs: Vec<Flow>,
    /// Output goes elsewhere, perhaps to a program that prints on the caller's terminal.
    others_write: bool,
    /// A signal that somebody sent, passed on.
    passed_on: Option<i32>,
    end: Option<Ending>,
}

/// The caller's terminal passes every key on.
struct Attached {
    flow: Flow,
    before: Settings,
    guard: Guard,
}

impl Relay {
    /// Every signal is blocked.
    pub fn new(
        leader: Pid,
        own_pidfd: OwnedFd,
        tty: Option<Rc<OwnedFd>>,
        pty: Option<Pty>,
        outputs: Vec<Flow>,
    ) -> Result<Relay> {
        let arrivals = Arrivals::open()?;
        let others_write = isatty(std::io::stdout()) != Ok(true);
        let relay = Relay {
            leader,
            own_pidfd,
            arrivals,
            tty,
            pty,
            input: None,
            outputs,
            others_write,
            passed_on: None,
            end: None,
        };
        close_all_but(&relay.descriptors());
        let_go_of(&[0, 1]);
        Ok(relay)
    }

    fn descriptors(&self) -> Vec<i32> {
        let pty = self.pty.iter().flat_map(|pty| [&pty.master, &pty.slave]);
        let own = [self.own_pidfd.as_raw_fd(), self.arrivals.as_fd().as_raw_fd()].into_iter();
        let flows = self.outputs.iter().flat_map(Flow::descriptors);
        own.chain(flows).chain(self.tty.iter().chain(pty).map(|fd| fd.as_raw_fd())).collect()
    }

    pub fn until_the_end(mut self) -> Result<Infallible> {
        let relayed = self.relay();
        if relayed.is_ok() {
            self.drain()?;
        }
        self.detach();
        relayed?.exit_like(self.target())
    }

    fn relay(&mut self) -> Result<Ending> {
        self.attach()?;
        loop {
            if let Some(ending) = self.end {
                return Ok(ending);
            }
            // In the background nobody tells us when we come to the foreground: a shell continues only what has stopped.
            let is_away = self.input.is_none() && self.pty.is_some();
            self.wait(if is_away { LOOK.into() } else { PollTimeout::NONE })?;
            self.hear()?;
            if is_away {
                self.attach()?;
            }
            self.pump();
        }
    }

    /// Until there is a signal, or something to pass on.
    fn wait(&self, timeout: PollTimeout) -> Result<()> {
        let flows = self.outputs.iter().chain(self.input.as_ref().map(|input| &input.flow)).map(Flow::interest);
        let all = flows.chain([(self.arrivals.as_fd(), PollFlags::POLLIN)]);
        let mut all: Vec<PollFd> = all.map(|(fd, flags)| PollFd::new(fd, flags)).collect();
        poll(&mut all, timeout).context("poll")?;
        Ok(())
    }

    fn pump(&mut self) {
        self.outputs.retain_mut(|flow| flow.pump() != Pumped::Ended);
        if self.input.as_mut().is_some_and(|input| input.flow.pump() == Pumped::Ended) {
            if self.is_hung_up() {
                self.hang_up();
            } else {
                // Somebody has put us into the background without a signal: the terminal's settings are no longer ours.
                self.let_go();
            }
        }
    }

    fn is_hung_up(&self) -> bool {
        let Some(tty) = &self.tty else { return true };
        let mut fds = [PollFd::new(tty.as_fd(), PollFlags::empty())];
        poll(&mut fds, PollTimeout::ZERO).is_ok()
            && fds[0].revents().is_some_and(|events| events.intersects(PollFlags::POLLHUP | PollFlags::POLLERR))
    }

    /// The new terminal hangs up as the caller's has: the kernel tells the session.
    fn hang_up(&mut self) {
        self.let_go();
        (self.tty, self.pty, self.outputs) = (None, None, Vec::new());
    }

    fn hear(&mut self) -> Result<()> {
        while let Some(arrival) = self.arrivals.next() {
            match arrival.signal {
                libc::SIGCHLD => self.reap()?,
                libc::SIGPIPE if arrival.from_self => {}
                libc::SIGWINCH if self.pty.is_some() => {
                    self.pty.iter().zip(&self.tty).for_each(|(pty, tty)| pty.take_size(tty));
                }
                libc::SIGCONT => {
                    self.attach()?;
                    self.send(libc::SIGCONT);
                }
                signal => {
                    self.passed_on = Some(signal);
                    self.send(signal);
                }
            }
        }
        Ok(())
    }

    fn reap(&mut self) -> Result<()> {
        while let Some((pid, change)) = next_change()? {
            match change {
                Change::Ended(ending) if pid == self.leader => self.end = Some(ending),
                Change::Stopped(_) if pid == self.leader => self.suspend()?,
                Change::Ended(_) if self.input.as_ref().is_some_and(|input| input.guard.0 == pid) => {
                    self.guard_again()?
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The session's leader has stopped, and so do we, for our caller to see it.
    fn suspend(&mut self) -> Result<()> {
        // What it has written so far, the echo of the key included, comes before the shell's message about the stop.
        let mut left = LAST_BYTES / 4096;
        while left > 0 && self.outputs.iter_mut().any(|flow| flow.pump() == Pumped::Some) {
            left -= 1;
        }
        // Somebody has continued us since: a stop now would discard that (signal(7)).
        if take(&[libc::SIGCONT]).is_some() {
            self.send(libc::SIGCONT);
            return Ok(());
        }
        self.detach();
        // The terminal would have stopped our whole group. Without one, the sender chose whom to stop.
        let target = if self.pty.is_some() { Target::OwnGroup } else { Target::Own };
        raise_default(libc::SIGTSTP, target);
        let _ = take(&[libc::SIGCONT]);
        self.attach()?;
        self.send(libc::SIGCONT);
        Ok(())
    }

    /// Takes the caller's terminal, where we are in its foreground: every key is for the session.
    fn attach(&mut self) -> Result<()> {
        let (Some(tty), Some(pty), None) = (&self.tty, &self.pty, &self.input) else { return Ok(()) };
        if !is_in_foreground(tty) {
            return Ok(());
        }
        let Ok(before) = Settings::of(tty) else { return Ok(()) };
        pty.take_size(tty);
        let guard = start_guard(&self.own_pidfd, tty, &before, self.others_write)?;
        let _ = before.raw(self.others_write).apply(tty);
        self.input = Some(Attached { flow: Flow::new(tty, &pty.master), before, guard });
        Ok(())
    }

    /// Gives the caller's terminal back as it was.
    fn detach(&mut self) {
        if let (Some(input), Some(tty)) = (&self.input, &self.tty) {
            let _ = input.before.apply(tty);
        }
        self.let_go();
    }

    fn let_go(&mut self) {
        if let Some(input) = self.input.take() {
            input.guard.dismiss();
        }
    }

    fn guard_again(&mut self) -> Result<()> {
        if let (Some(input), Some(tty)) = (&mut self.input, &self.tty) {
            input.guard = start_guard(&self.own_pidfd, tty, &input.before, self.others_write)?;
        }
        Ok(())
    }

    /// Passes on what the session wrote before its end. Processes that it left behind may write for ever.
    fn drain(&mut self) -> Result<()> {
        if let Some(pty) = self.pty.take() {
            drop(pty.slave);
        }
        let mut left = LAST_BYTES / 4096;
        self.outputs.retain_mut(|flow| !(flow.is_empty() && flow.pump() != Pumped::Some));
        while !self.outputs.is_empty() && left > 0 {
            if let Some(flow) = self.outputs.first_mut() {
                match flow.pump() {
                    Pumped::Some => left -= 1,
                    Pumped::Nothing if !flow.is_empty() => self.wait(PollTimeout::NONE)?,
                    Pumped::Nothing | Pumped::Ended => drop(self.outputs.remove(0)),
                }
            }
            // We do not stay for a terminal that takes nothing.
            let ends = |arrival: &signals::Arrival| signals::default_action(arrival.signal) == signals::Default::Ends;
            if self.arrivals.next().is_some_and(|arrival| ends(&arrival) && !arrival.from_self) {
                break;
            }
        }
        Ok(())
    }

    /// A key that ended the session's command would have reached all of our group: a script around us, too.
    fn target(&self) -> Target {
        match self.end {
            Some(Ending::Signal(signal @ (libc::SIGINT | libc::SIGQUIT))) if self.passed_on != Some(signal) => {
                Target::OwnGroup
            }
            _ => Target::Own,
        }
    }

    fn send(&self, signal: i32) {
        // It is not reaped yet, so the pid is its own.
        if self.end.is_none() {
            let _ = signals::send(self.leader.as_raw(), signal);
        }
    }
}

/// The kernel is asked, by a read of no bytes: in a pid namespace all groups from outside are 0. SIGTTIN is blocked, so in the
/// background it answers EIO. A script's `&` shares the script's group.
fn is_in_foreground(tty: &Rc<OwnedFd>) -> bool {
    !chain::handoff::started_with_ampersand_in_a_script() && read(tty, &mut [0; 0]) != Err(Errno::EIO)
}

/// A process that gives the caller's terminal back where we cannot: in no group that a signal for ours would reach.
fn start_guard(own_pidfd: &OwnedFd, tty: &Rc<OwnedFd>, before: &Settings, others_write: bool) -> Result<Guard> {
    if let Some(guard) = fork().context("fork")? {
        return Ok(Guard(guard));
    }
    let _ = setpgid(Pid::from_raw(0), Pid::from_raw(0));
    let _ = set_name(chain::handoff::GUARD);
    close_all_but(&[own_pidfd.as_raw_fd(), tty.as_raw_fd()]);
    let_go_of(&[2]);
    let _ = poll(&mut [PollFd::new(own_pidfd.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE);
    // Unless a shell has set it by now: then it is the shell's.
    if Settings::of(tty).is_ok_and(|now| now.is_same(&before.raw(others_write))) {
        let _ = before.apply(tty);
    }
    chain::leave(0)
}
