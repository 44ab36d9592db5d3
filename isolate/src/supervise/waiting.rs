//! The process that stays behind: it passes signals on, acts where the kernel would not, stops and
//! continues with the child, and learns how it ended.

mod stops;

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use chain::retry_eintr::retry;
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use nix::unistd::{Pid, getpgid, getpgrp};

use crate::process::{Change, Ending, next_change};
use crate::signals::{self, Arrivals, Target};
use crate::supervise::decision::{Action, Known, Phase, Source, decide};
use crate::supervise::disposition::Proc;
use crate::supervise::guard::{Child, Guard, Shared};
use crate::supervise::listener;
use crate::supervise::reaper::{Report, TYPED};
use crate::supervise::waiting::stops::Coming;

/// After this time the command is one to wait for.
const SOON: Duration = Duration::from_millis(2);

pub struct Waiting {
    pub shared: &'static Shared,
    pub child: &'static Child,
    /// An isolate waits for us as we do for the child: it stops us, as PID 1 cannot stop itself.
    pub nested: bool,
    /// We lead a session of the child's own, and a relay outside of it waits for us.
    pub relayed: bool,
    /// The child leads a process group of its own.
    pub own_group: bool,
    /// PID 1 is our reaper, which reports here what becomes of the command.
    pub reports: Option<File>,
    pub arrivals: Arrivals,
    pub guard: Guard,
    /// The member of the child's group, where that is at a terminal.
    pub listener: Option<Pid>,
    /// Until the child has become COMMAND: readable once it has.
    pub gate: Option<OwnedFd>,
    pub now: Now,
}

/// What is known at the moment.
#[derive(Default)]
pub struct Now {
    proc: Option<Proc>,
    pub is_dying_of: Option<i32>,
    pub is_stopped: bool,
    pub stop: Option<Coming>,
    child_group: Option<Pid>,
    /// The last signal that the terminal sent to the child's group and not to ours.
    pub from_terminal: i32,
    /// What the reaper told of the command, before its own end.
    reported: Option<Ending>,
    /// Nobody stopped us when the child asked for the terminal.
    pub is_orphaned: bool,
    end: Option<Ending>,
}

impl Waiting {
    /// The descriptors that it needs while it waits.
    pub fn descriptors(&self) -> Vec<i32> {
        let own = [
            Some(self.arrivals.as_fd()),
            self.reports.as_ref().map(|reports| reports.as_fd()),
            self.gate.as_ref().map(|gate| gate.as_fd()),
            self.now.proc.as_ref().map(|proc| proc.as_fd()),
        ];
        self.shared.descriptors().into_iter().chain(own.into_iter().flatten().map(|fd| fd.as_raw_fd())).collect()
    }

    /// `settle` gives back what only starting needed; not for a command that ends at once.
    pub fn until_the_end(&mut self, settle: impl FnOnce(&Waiting)) -> Result<(Ending, Target)> {
        let mut settle = Some(settle);
        // The child may have changed before we heard its signals.
        self.reap()?;
        let ending = loop {
            if let Some(ending) = self.now.end {
                break ending;
            }
            let news = self.wait_for_news(settle.is_some())?;
            // The group's signals come first: the child may have died of one.
            if news.group {
                self.hear_group()?;
            }
            if news.report {
                self.hear_reaper()?;
            }
            if news.own {
                self.hear()?;
            }
            if news.gate {
                self.gate = None;
            }
            if self.now.stop.is_some_and(|stop| stop.deadline <= Instant::now()) {
                self.stop_now();
            }
            if let Some(settle) = settle.take_if(|_| !news.gate && self.now.end.is_none()) {
                settle(self);
            }
        };
        self.shared.terminal.give_back(self.now.child_group);
        self.dismiss_helpers();
        let whole = ending == Ending::Signal(self.now.from_terminal);
        Ok((ending, if whole { Target::OwnGroup } else { Target::Own }))
    }

    fn wait_for_news(&self, soon: bool) -> Result<News> {
        let stop = self.now.stop.map(|stop| stop.deadline.saturating_duration_since(Instant::now()));
        let timeout = stop.or(soon.then_some(SOON)).map(TimeSpec::from);
        let own = self.arrivals.as_fd();
        let mut fds = [
            Some(own),
            self.shared.group_signals.as_ref().map(|group| group.as_fd()),
            self.reports.as_ref().map(|reports| reports.as_fd()),
            self.gate.as_ref().map(|gate| gate.as_fd()),
        ]
        .map(|fd| PollFd::new(fd.unwrap_or(own), fd.map_or(PollFlags::empty(), |_| PollFlags::POLLIN)));
        retry(|| ppoll(&mut fds, timeout, None)).context("poll")?;
        let [own, group, report, gate] = fds.map(|fd| fd.any() != Some(false));
        Ok(News { own, group, report, gate })
    }

    /// Signals to this process.
    fn hear(&mut self) -> Result<()> {
        while let Some(arrival) = self.arrivals.next() {
            // What the terminal sends goes to a whole group.
            let shares_group = || getpgid(Some(self.child.pid)) == Ok(getpgrp());
            let source = match arrival.from_kernel && shares_group() {
                true => Source::OwnTerminal,
                false => Source::Sender,
            };
            if !(arrival.from_self && arrival.signal == libc::SIGPIPE) {
                self.act(arrival.signal, source)?;
            }
        }
        Ok(())
    }

    /// Signals to the child's group.
    fn hear_group(&mut self) -> Result<()> {
        let Some(group) = &self.shared.group_signals else { return Ok(()) };
        let (from_kernel, from_member) = group.news();
        for signal in from_kernel {
            self.now.from_terminal = signal;
            self.act(signal, Source::ChildsTerminal)?;
        }
        from_member.into_iter().try_for_each(|signal| self.act(signal, Source::Member))
    }

    /// What the reaper at PID 1 tells of the command.
    fn hear_reaper(&mut self) -> Result<()> {
        let mut record = [0; Report::SIZE];
        let read = self.reports.as_mut().map(|reports| reports.read_exact(&mut record));
        match Report::from_bytes(record) {
            // It died before the command: what the kernel says of it is all there is.
            _ if !matches!(read, Some(Ok(()))) => self.reports = None,
            // Both of these have been heard already, for us or in the child's group.
            Report::Stopped(libc::SIGTTIN | libc::SIGTTOU) => {}
            Report::Stopped(signal) => self.stop(signal, self.target_of(signal)),
            Report::Failed(errno) => return Err(Errno::from_raw(errno)).context("the reaper at PID 1"),
            Report::Ended(ending) => self.now.reported = Some(ending),
        }
        Ok(())
    }

    fn known(&mut self, signal: i32, source: Source) -> Known {
        let terminal = &self.shared.terminal;
        let phase = match (&self.gate, self.now.is_dying_of) {
            (_, Some(_)) => Phase::Dying,
            (Some(_), None) => Phase::Starting,
            (None, None) => Phase::Running,
        };
        let is_pid1 = self.shared.is_pid1;
        let has_reaper = self.reports.is_some();
        let asks = matches!(signal, libc::SIGTTIN | libc::SIGTTOU)
            && matches!(source, Source::ChildsTerminal | Source::Member);
        let is_seen = is_pid1 && signal != libc::SIGCHLD && (phase == Phase::Starting || !has_reaper);
        if is_seen && self.now.proc.is_none() {
            self.now.proc = Proc::of(self.child.pidfd.as_fd());
        }
        let disposition = self.now.proc.as_ref().filter(|_| is_seen).and_then(|proc| proc.disposition(signal));
        let has_terminal = asks && (terminal.hand_over() || terminal.is_childs());
        Known { phase, is_pid1, has_reaper, disposition, has_terminal }
    }

    fn act(&mut self, signal: i32, source: Source) -> Result<()> {
        // Once the child is reaped, its number may be another process's.
        if self.now.end.is_some() {
            return Ok(());
        }
        let known = self.known(signal, source);
        let target = match source {
            Source::ChildsTerminal | Source::Member => Target::OwnGroup,
            Source::Sender | Source::OwnTerminal => Target::Own,
        };
        match decide(signal, source, &known) {
            Action::Nothing => {}
            Action::Reap => self.reap()?,
            Action::GoOn => self.go_on(),
            Action::Continue => self.send_continue(),
            // What the terminal sent to the relay, it would have sent to all of the job.
            Action::Forward if self.relayed && TYPED.contains(&signal) && source == Source::Sender => {
                let _ = signals::send(-self.child.pid.as_raw(), signal);
            }
            Action::Forward => self.send(signal),
            Action::Stop => self.stop_with_child(signal, target),
            Action::Kill => {
                self.now.child_group = getpgid(Some(self.child.pid)).ok();
                self.send(libc::SIGKILL);
                self.now.is_dying_of = Some(signal);
            }
            Action::Leave => Ending::Signal(signal).exit_like(Target::Own),
        }
        Ok(())
    }

    fn reap(&mut self) -> Result<()> {
        self.now.child_group = getpgid(Some(self.child.pid)).ok().or(self.now.child_group);
        while let Some((pid, change)) = next_change()? {
            match change {
                _ if pid != self.child.pid => self.keep_helper(pid, change)?,
                Change::Continued => self.now.is_stopped = false,
                Change::Stopped(signal) => {
                    self.now.is_stopped = true;
                    match self.now.stop {
                        Some(_) => self.stop_now(),
                        None => self.stop(signal, Target::Own),
                    }
                }
                Change::Ended(ending) => self.now.end = Some(self.end_as(ending)),
            }
        }
        Ok(())
    }

    fn end_as(&mut self, ending: Ending) -> Ending {
        // The reaper's report may still be unread.
        while self.reports.is_some() && self.now.reported.is_none() && self.hear_reaper().is_ok() {}
        match (self.now.reported, self.now.is_dying_of, ending) {
            (Some(reported), ..) => reported,
            // It may have heard the signal as well, and come to its own end before us.
            (None, Some(signal), Ending::Signal(_)) => Ending::Signal(signal),
            _ => ending,
        }
    }

    /// Somebody has killed or stopped one of our helpers: the child must not lose it.
    fn keep_helper(&mut self, pid: Pid, change: Change) -> Result<()> {
        let is_guard = pid == self.guard.0;
        match change {
            _ if !is_guard && self.listener != Some(pid) => {}
            Change::Ended(_) if is_guard => self.guard = Guard::start(self.shared)?,
            Change::Ended(_) => self.listener = listener::start(self.shared, self.child.pid)?,
            Change::Stopped(_) => {
                let _ = signals::send(pid.as_raw(), libc::SIGCONT);
            }
            Change::Continued => {}
        }
        Ok(())
    }

    fn dismiss_helpers(&self) {
        for helper in [Some(self.guard), self.listener.map(Guard)].into_iter().flatten() {
            helper.dismiss();
        }
    }

    pub fn send(&self, signal: i32) {
        // The child is not reaped yet, so the pid is its own.
        let _ = signals::send(self.child.pid.as_raw(), signal);
    }
}

/// What can be read.
struct News {
    own: bool,
    group: bool,
    report: bool,
    gate: bool,
}
