//! The process that stays behind: it passes signals on, acts where the kernel would not, stops and
//! continues with the child, and learns how it ended.

use std::os::fd::{AsFd, AsRawFd};

use anyhow::{Context, Result};
use nix::libc;
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpgid, getpgrp};

use crate::disposition::{self, Default, Disposition};
use crate::ending::{Ending, raise_default};
use crate::terminal::Terminal;

/// si_code of a signal that the kernel itself sent, the terminal's among them (sigaction(2)).
const SI_KERNEL: i32 = 0x80;

pub struct Waiting {
    child: Pid,
    child_group: Option<Pid>,
    /// The child is PID 1 of its namespace: the kernel keeps from it what it leaves at the default.
    first: bool,
    terminal: Terminal,
    signals: SignalFd,
}

impl Waiting {
    /// Every signal must be blocked already.
    pub fn new(child: Pid, first: bool, terminal: Terminal) -> Result<Waiting> {
        let signals = SignalFd::with_flags(&SigSet::all(), SfdFlags::SFD_CLOEXEC).context("signalfd")?;
        Ok(Waiting { child, child_group: None, first, terminal, signals })
    }

    /// The descriptors that it needs while it waits.
    pub fn descriptors(&self) -> Vec<i32> {
        let tty = self.terminal.file().map(|tty| tty.as_raw_fd());
        [self.signals.as_fd().as_raw_fd()].into_iter().chain(tty).collect()
    }

    pub fn until_the_end(mut self) -> Result<Ending> {
        let ending = loop {
            let Some(info) = self.signals.read_signal().context("signalfd")? else { continue };
            if let Some(ending) = self.hear(&info)? {
                break ending;
            }
        };
        self.terminal.give_back(self.child_group);
        Ok(ending)
    }

    fn hear(&mut self, info: &siginfo) -> Result<Option<Ending>> {
        let signal = info.ssi_signo as i32;
        match signal {
            libc::SIGCHLD => return self.reap(),
            libc::SIGCONT => self.go_on(),
            _ if self.kernel_drops(signal) => match disposition::default(signal) {
                Default::Nothing => {}
                Default::Stops => self.stop_both(signal),
                Default::Ends => return self.kill(signal).map(Some),
            },
            // What the terminal sends goes to the whole foreground group.
            _ if info.ssi_code == SI_KERNEL && getpgid(Some(self.child)) == Ok(getpgrp()) => {}
            _ => self.send(signal),
        }
        Ok(None)
    }

    /// Whether the child, as PID 1, will never see this signal nor die of it (pid_namespaces(7)).
    fn kernel_drops(&self, signal: i32) -> bool {
        let disposition = || disposition::of(self.child, signal);
        self.first
            && match signal {
                // A link of ours that waits for its turn at the terminal blocks these, sends them to
                // its group as the terminal would, and means to be stopped.
                libc::SIGTTIN | libc::SIGTTOU => disposition() != Some(Disposition::Handled),
                _ => disposition() == Some(Disposition::Default),
            }
    }

    fn reap(&mut self) -> Result<Option<Ending>> {
        loop {
            self.child_group = getpgid(Some(self.child)).ok().or(self.child_group);
            match waitpid(self.child, Some(WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED)).context("wait")? {
                WaitStatus::Stopped(_, signal) => self.stop(signal as i32),
                WaitStatus::StillAlive => return Ok(None),
                status => match Ending::of(status) {
                    None => {}
                    ending => return Ok(ending),
                },
            }
        }
    }

    fn stop_both(&mut self, signal: i32) {
        // From outside, SIGSTOP works on a PID 1 as well.
        self.send(libc::SIGSTOP);
        self.stop(signal);
    }

    /// Stops ourselves, so that our caller sees it, and goes on with the child.
    fn stop(&mut self, signal: i32) {
        raise_default(signal);
        self.go_on();
    }

    fn go_on(&mut self) {
        self.terminal.look();
        // A shell continues the whole group: a child that is running has had its SIGCONT.
        if disposition::is_stopped(self.child) != Some(false) {
            self.send(libc::SIGCONT);
        }
    }

    fn kill(&mut self, signal: i32) -> Result<Ending> {
        self.child_group = getpgid(Some(self.child)).ok();
        self.send(libc::SIGKILL);
        waitpid(self.child, None).context("wait")?;
        Ok(Ending::Signal(signal))
    }

    fn send(&self, signal: i32) {
        // SAFETY: kill(2) takes any number; the child is not reaped yet, so the pid is its own.
        // nix's kill knows no real-time signals.
        unsafe { libc::kill(self.child.as_raw(), signal) };
    }
}
