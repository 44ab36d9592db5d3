//! Stops: our caller sees us stopped when the child is, and both go on together.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::libc;
use nix::unistd::{Pid, getpid, setpgid};

use crate::process::has_continued;
use crate::signals::{self, Target, raise_default, take};
use crate::supervise::disposition::Proc;
use crate::supervise::waiting::Waiting;

/// How long a child may take to come to a SIGSTOP before we stop without it: what waits in vfork(2) does not come to it.
const PATIENCE: Duration = Duration::from_millis(500);

/// The child was sent a SIGSTOP: once it has come to it, or the time is over, we stop of this signal.
#[derive(Clone, Copy)]
pub struct Coming {
    pub signal: i32,
    pub target: Target,
    pub deadline: Instant,
}

impl Waiting {
    /// From outside, SIGSTOP works on a PID 1 as well. Until it comes to it, the child may read what is typed to the shell that
    /// sees us stopped.
    pub fn stop_with_child(&mut self, signal: i32, target: Target) {
        self.send(libc::SIGSTOP);
        self.now.stop = Some(Coming { signal, target, deadline: Instant::now() + PATIENCE });
    }

    /// A stop that came from the terminal stops all of our group, as it would have done.
    pub fn target_of(&self, signal: i32) -> Target {
        if signal == self.now.from_terminal { Target::OwnGroup } else { Target::Own }
    }

    pub fn stop_now(&mut self) {
        if let Some(Coming { signal, target, .. }) = self.now.stop.take() {
            self.now.is_stopped = true;
            self.stop(signal, target);
        }
    }

    /// Stops ourselves, so that our caller sees it, and goes on with the child.
    pub fn stop(&mut self, signal: i32, target: Target) {
        // Somebody has continued us since: to stop now would throw that away (signal(7): a stop discards it).
        if take(&[libc::SIGCONT]).is_some() {
            return self.go_on();
        }
        match self.relayed {
            // A leader of a session stops of nothing else: nobody there could continue it (setpgid(2)).
            true => raise_default(libc::SIGSTOP, Target::Own),
            false => raise_default(signal, target),
        }
        if !(self.nested && getpid().as_raw() == 1) {
            // What has ended the stop is dealt with here: a second time it would continue a child that has stopped again.
            let was_stopped = take(&[libc::SIGCONT]).is_some();
            if !was_stopped && matches!(signal, libc::SIGTTIN | libc::SIGTTOU) {
                self.give_up_the_terminal();
            }
            self.go_on();
        }
    }

    /// Nobody is left who could continue our group or bring it to the foreground, so that the kernel did not stop us
    /// (setpgid(2), orphaned process groups). The child's group is none as long as isolate, its parent, is in another one: as a
    /// member of it we let its readers have their EIO. Where that changes nothing, the terminal is gone for the child.
    fn give_up_the_terminal(&mut self) {
        if !std::mem::replace(&mut self.now.is_orphaned, true) {
            let _ = setpgid(Pid::from_raw(0), self.child.pid);
        } else if self.shared.is_pid1 {
            self.send(libc::SIGKILL);
            self.now.is_dying_of = Some(libc::SIGHUP);
        }
    }

    pub fn go_on(&mut self) {
        self.shared.terminal.hand_over();
        // A shell continues the whole group: a child that is running has had its SIGCONT.
        self.now.is_stopped &= !has_continued(self.child.pid);
        self.now.is_stopped |= self.is_about_to_stop();
        if self.reports.is_some() || self.now.stop.is_some() || self.now.is_stopped {
            // All of the job may have been stopped again already, and the child has come to it before us.
            match take(&[libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU]) {
                Some(again) => self.stop(again, Target::Own),
                None => {
                    self.now.stop = None;
                    self.send_continue();
                }
            }
        }
    }

    /// Whether it has got a SIGSTOP, perhaps together with us, that it has not come to yet.
    fn is_about_to_stop(&self) -> bool {
        Proc::of(self.child.pidfd.as_fd()).is_some_and(|proc| proc.has_pending(libc::SIGSTOP))
    }

    /// As a shell does it, to the whole of the child's group: the kernel stops those members of it
    /// that are not PID 1 by itself.
    pub fn send_continue(&self) {
        let child = self.child.pid.as_raw();
        if !self.own_group || signals::send(-child, libc::SIGCONT).is_err() {
            self.send(libc::SIGCONT);
        }
    }
}
