//! The process that stays behind: it passes signals on, acts where the kernel would not, stops and
//! continues with the child, and learns how it ended.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use chain::patient::{again, waitpid};
use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{Pid, getpgid, getpgrp, getpid};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;

use crate::supervise::disposition::{self, Default, Disposition};
use crate::supervise::ending::{Ending, Whom, raise_default};
use crate::supervise::gate::Side;
use crate::supervise::guard::Guard;
use crate::supervise::init;

/// si_code of a signal that the kernel itself sent, the terminal's among them (sigaction(2)).
pub const SI_KERNEL: i32 = 0x80;

/// How long a child may take to come to a SIGSTOP before we stop without it.
const PATIENCE: Duration = Duration::from_millis(500);

/// A command that has not ended by now is one to wait for.
const SOON: Timespec = Timespec { tv_sec: 0, tv_nsec: 2_000_000 };

pub struct Waiting {
    pub child: Pid,
    /// The child is PID 1 of its namespace: the kernel keeps from it what it leaves at the default.
    pub first: bool,
    /// An isolate waits for us as we do for the child: it stops us, as PID 1 cannot stop itself.
    pub nested: bool,
    /// The child leads a process group of its own.
    pub leads: bool,
    /// The child is a reaper of ours, and tells here what becomes of the command.
    pub report: Option<File>,
    /// Where the child is on our memory: what it holds until it has left that.
    pub shares_memory: Option<Side>,
    guard: Guard,
    child_group: Option<Pid>,
    /// The child was sent a SIGSTOP, which it may not have come to yet.
    stops_soon: bool,
    /// The last signal that the terminal sent to the child's group and not to ours.
    from_terminal: i32,
}

/// Where a signal came from, and whom it has reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// Somebody sent it to this process.
    Sender,
    /// The terminal sent it to our group, the child included.
    OurTerminal,
    /// The child's own group got it, from the kernel or from one of its members.
    TheirKernel,
    TheirSender,
}

/// To read these alone, and not wait for them.
fn only<const N: usize>(signals: [Signal; N]) -> Result<SignalFd, Errno> {
    SignalFd::with_flags(&SigSet::from_iter(signals), SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

/// One of these, if it has arrived: the loop will not hear of it.
fn take<const N: usize>(signals: [Signal; N]) -> Option<i32> {
    let info = only(signals).and_then(|arrived| read_signal(&arrived)).ok()?;
    info.map(|info| info.ssi_signo as i32)
}

/// The next signal that has arrived.
pub fn read_signal(signals: &SignalFd) -> Result<Option<siginfo>, Errno> {
    again(|| signals.read_signal())
}

impl Waiting {
    pub fn new(child: Pid, guard: Guard) -> Waiting {
        Waiting {
            child,
            first: false,
            nested: false,
            leads: false,
            report: None,
            shares_memory: None,
            guard,
            child_group: None,
            stops_soon: false,
            from_terminal: 0,
        }
    }

    /// The descriptors that it needs while it waits.
    pub fn descriptors(&self) -> Vec<i32> {
        let report = self.report.as_ref().map(|report| report.as_raw_fd());
        self.guard.post.descriptors().into_iter().chain(report).collect()
    }

    /// `settle` gives back what only starting needed; not for a command that ends at once.
    pub fn until_the_end(mut self, settle: impl FnOnce()) -> Result<(Ending, Whom)> {
        let post = self.guard.post;
        let mut settle = Some(settle);
        let ending = loop {
            let ear = post.ear.as_ref().map(|ear| ear.heard.as_fd());
            let report = self.report.as_ref().map(|report| report.as_fd());
            let timeout = settle.is_some().then_some(&SOON);
            let [own, theirs, told] = ready(post.signals.as_fd(), [ear, report], timeout)?;
            if let Some(gate) = self.shares_memory.take() {
                while gate.hear()? {}
            }
            // What the group heard comes first: it may be what the child has died of.
            if let Some(ending) = theirs.then(|| self.listen()).transpose()?.flatten() {
                break ending;
            }
            if let Some(ending) = told.then(|| self.learn()).transpose()?.flatten() {
                break ending;
            }
            if let Some(ending) = own.then(|| self.hear()).transpose()?.flatten() {
                break ending;
            }
            if let Some(settle) = settle.take() {
                settle();
            }
        };
        post.terminal.give_back(self.child_group);
        self.guard.dismiss();
        let whole = ending == Ending::Signal(self.from_terminal);
        Ok((ending, if whole { Whom::Group } else { Whom::Us }))
    }

    /// Signals to this process.
    fn hear(&mut self) -> Result<Option<Ending>> {
        while let Some(info) = read_signal(&self.guard.post.signals).context("signalfd")? {
            if let Some(ending) = self.act(info.ssi_signo as i32, self.source(&info))? {
                return Ok(Some(ending));
            }
        }
        Ok(None)
    }

    fn source(&self, info: &siginfo) -> Source {
        // What the terminal sends goes to a whole group.
        if info.ssi_code == SI_KERNEL && getpgid(Some(self.child)) == Ok(getpgrp()) {
            Source::OurTerminal
        } else {
            Source::Sender
        }
    }

    /// Signals to the child's group.
    fn listen(&mut self) -> Result<Option<Ending>> {
        let Some(ear) = &self.guard.post.ear else { return Ok(None) };
        let mut bytes = [0; 64];
        let count = match nix::unistd::read(&ear.heard, &mut bytes) {
            Err(Errno::EINTR) => return Ok(None),
            result => result.context("the guard")?,
        };
        for byte in &bytes[..count] {
            let source = if byte & 0x80 != 0 { Source::TheirKernel } else { Source::TheirSender };
            if let Some(ending) = self.act(i32::from(byte & 0x7f), source)? {
                return Ok(Some(ending));
            }
        }
        Ok(None)
    }

    /// What the reaper at PID 1 tells of the command.
    fn learn(&mut self) -> Result<Option<Ending>> {
        let mut record = [0; 5];
        let Some(report) = &mut self.report else { return Ok(None) };
        if report.read_exact(&mut record).is_err() {
            // It died before the command did: what the kernel says of it is all there is.
            self.report = None;
            return Ok(None);
        }
        let number = i32::from_ne_bytes([record[1], record[2], record[3], record[4]]);
        match record[0] {
            // Both of these have been heard already, for us or in the child's group.
            init::STOPPED if number == libc::SIGTTIN || number == libc::SIGTTOU => {}
            init::STOPPED => self.stop(number, self.whom_for(number)),
            init::FAILED => return Err(Errno::from_raw(number)).context("the reaper at PID 1"),
            letter => {
                self.child_group = getpgid(Some(self.child)).ok();
                waitpid(self.child, None).context("wait")?;
                let exited = letter == init::EXITED;
                return Ok(Some(if exited { Ending::Exit(number) } else { Ending::Signal(number) }));
            }
        }
        Ok(None)
    }

    /// A stop that came from the terminal stops all of our group, as it would have done.
    fn whom_for(&self, signal: i32) -> Whom {
        if signal == self.from_terminal { Whom::Group } else { Whom::Us }
    }

    fn act(&mut self, signal: i32, source: Source) -> Result<Option<Ending>> {
        let default = disposition::default(signal);
        match source {
            Source::TheirKernel => self.from_terminal = signal,
            // Only the terminal's signals are for us as well, and what a job does to stop itself.
            Source::TheirSender if default != Default::Stops => return Ok(None),
            _ => {}
        }
        let whom = if matches!(source, Source::TheirKernel | Source::TheirSender) { Whom::Group } else { Whom::Us };
        match signal {
            libc::SIGCHLD => return self.reap(),
            libc::SIGCONT => self.go_on(),
            // Whoever sends these to the child's group wants the terminal, which may be ours to give.
            // A reader that is PID 1 gets no further and asks many times: some of it is heard late.
            libc::SIGTTIN | libc::SIGTTOU
                if whom == Whom::Group
                    && (self.guard.post.terminal.hand_over() || self.guard.post.terminal.is_theirs()) =>
            {
                self.send_continue()
            }
            _ if self.kernel_drops(signal, source) => match default {
                Default::Nothing => {}
                Default::Stops => self.stop_both(signal, whom),
                Default::Ends => return self.kill(signal).map(Some),
            },
            _ if source == Source::Sender => self.send(signal),
            _ => {}
        }
        Ok(None)
    }

    /// Whether the child, as PID 1, will never see this signal nor die of it (pid_namespaces(7)).
    fn kernel_drops(&self, signal: i32, source: Source) -> bool {
        let disposition = || disposition::of(self.child, signal);
        if self.report.is_some() {
            // The command under a reaper is no PID 1. Only what waits for its turn is stopped from here.
            return matches!(signal, libc::SIGTTIN | libc::SIGTTOU);
        }
        self.first
            && match signal {
                // A link of ours that waits for its turn at the terminal blocks these, sends them to
                // its group as the terminal would, and means to be stopped.
                libc::SIGTTIN | libc::SIGTTOU => disposition() != Some(Disposition::Handled),
                libc::SIGTSTP if source == Source::TheirSender => disposition() != Some(Disposition::Handled),
                _ => disposition() == Some(Disposition::Default),
            }
    }

    fn reap(&mut self) -> Result<Option<Ending>> {
        loop {
            self.child_group = getpgid(Some(self.child)).ok().or(self.child_group);
            match waitpid(self.child, Some(WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED)).context("wait")? {
                WaitStatus::Stopped(_, signal) => self.stop(signal as i32, Whom::Us),
                WaitStatus::StillAlive => return Ok(None),
                status => match Ending::of(status) {
                    None => {}
                    ending => return Ok(ending),
                },
            }
        }
    }

    fn stop_both(&mut self, signal: i32, whom: Whom) {
        // From outside, SIGSTOP works on a PID 1 as well.
        self.send(libc::SIGSTOP);
        self.stops_soon = true;
        self.until_stopped();
        self.stop(signal, whom);
    }

    /// Until it comes to its SIGSTOP, the child may read what is typed to the shell that sees us stopped.
    /// Not for ever: what waits in vfork(2) does not come to it.
    fn until_stopped(&self) {
        let Ok(changes) = only([Signal::SIGCHLD]) else { return };
        let deadline = Instant::now() + PATIENCE;
        let state = WaitPidFlag::WSTOPPED | WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG;
        let mut heard = false;
        while again(|| waitid(Id::Pid(self.child), state)) == Ok(WaitStatus::StillAlive) {
            let left = Timespec::try_from(deadline.saturating_duration_since(Instant::now())).ok();
            let mut fds = [PollFd::new(&changes, PollFlags::IN)];
            if !matches!(retry_on_intr(|| poll(&mut fds, left.as_ref())), Ok(1..)) {
                break;
            }
            heard |= matches!(read_signal(&changes), Ok(Some(_)));
        }
        if heard {
            // It is for the loop to learn what became of the child.
            let _ = nix::sys::signal::kill(getpid(), Signal::SIGCHLD);
        }
    }

    /// Stops ourselves, so that our caller sees it, and goes on with the child.
    fn stop(&mut self, signal: i32, whom: Whom) {
        raise_default(signal, whom);
        if !(self.nested && getpid().as_raw() == 1) {
            // What has ended the stop is dealt with here: a second time it would continue a child that has stopped again.
            let _ = take([Signal::SIGCONT]);
            self.go_on();
        }
    }

    fn go_on(&mut self) {
        self.guard.post.terminal.hand_over();
        // A shell continues the whole group: a child that is running has had its SIGCONT.
        if self.report.is_some() || self.stops_soon || disposition::is_stopped(self.child) != Some(false) {
            // All of the job may have been stopped again already, and the child has come to it before us.
            match take([Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGTTOU]) {
                Some(again) => self.stop(again, Whom::Us),
                None => {
                    self.stops_soon = false;
                    self.send_continue();
                }
            }
        }
    }

    /// As a shell does it, to the whole of the child's group: the kernel stops those members of it
    /// that are not PID 1 by itself.
    fn send_continue(&self) {
        if !self.leads || killpg(self.child, Signal::SIGCONT).is_err() {
            self.send(libc::SIGCONT);
        }
    }

    fn kill(&mut self, signal: i32) -> Result<Ending> {
        self.child_group = getpgid(Some(self.child)).ok();
        self.send(libc::SIGKILL);
        // It may have heard the signal, and come to its own end before us.
        match Ending::of(waitpid(self.child, None).context("wait")?) {
            Some(exit @ Ending::Exit(_)) => Ok(exit),
            _ => Ok(Ending::Signal(signal)),
        }
    }

    fn send(&self, signal: i32) {
        // SAFETY: kill(2) takes any number; the child is not reaped yet, so the pid is its own.
        // nix's kill knows no real-time signals.
        unsafe { libc::kill(self.child.as_raw(), signal) };
    }
}

/// Waits until one of these can be read, or not for longer. Without an allocation or errno (gate.rs).
fn ready(own: BorrowedFd, others: [Option<BorrowedFd>; 2], timeout: Option<&Timespec>) -> Result<[bool; 3]> {
    let [theirs, told] = others.map(|fd| match fd {
        Some(fd) => PollFd::from_borrowed_fd(fd, PollFlags::IN),
        None => PollFd::from_borrowed_fd(own, PollFlags::empty()),
    });
    let mut fds = [PollFd::from_borrowed_fd(own, PollFlags::IN), theirs, told];
    retry_on_intr(|| poll(&mut fds, timeout)).context("poll")?;
    Ok(fds.map(|fd| !fd.revents().is_empty()))
}
