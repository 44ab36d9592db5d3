//! The terminal, and who has it: while COMMAND runs, a process group of its own that can name
//! itself; afterwards whom it belonged to.
//!
//! In a new pid namespace a group from outside has no number: getpgrp() and tcgetpgrp() are both 0.
//! A shell that starts there in the background takes itself for the foreground, and one that ends
//! there cannot give the terminal back. So COMMAND leads a group of its own, and what a shell does
//! for its jobs is done here: its group has the terminal when ours would.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::sys::signal::killpg;
use nix::unistd::{Pid, getpgrp, isatty, tcgetpgrp, tcsetpgrp};
use rustix::fs::FileType;

/// Isolate's guard reads what isolate changes here: when that is dead.
pub struct Terminal {
    tty: Option<File>,
    ours: Pid,
    /// The group that COMMAND leads, if it does.
    theirs: AtomicI32,
    foreground: AtomicBool,
}

impl Terminal {
    pub fn find() -> Terminal {
        let flags = (OFlag::O_NOCTTY | OFlag::O_NONBLOCK).bits();
        let tty = File::options().read(true).write(true).custom_flags(flags).open("/dev/tty").ok();
        let (theirs, foreground) = (AtomicI32::new(0), AtomicBool::new(false));
        let terminal = Terminal { tty, ours: getpgrp(), theirs, foreground };
        terminal.look();
        terminal
    }

    pub fn file(&self) -> Option<&File> {
        self.tty.as_ref()
    }

    fn theirs(&self) -> Option<Pid> {
        let theirs = self.theirs.load(Ordering::Relaxed);
        (theirs != 0).then(|| Pid::from_raw(theirs))
    }

    fn group(&self) -> Option<Pid> {
        self.tty.as_ref().and_then(|tty| tcgetpgrp(tty).ok())
    }

    /// Whether COMMAND shall lead a group of its own. Without a terminal, always: a signal to the own
    /// group leaves a pid namespace. With one, where a person sits in front of COMMAND: not where its
    /// output goes into a pipe, whose reader may want the terminal; not in the background of a
    /// script, which keeps its input (POSIX has such a shell start it with SIGINT ignored).
    pub fn wants_own_group(&self) -> bool {
        self.tty.is_none()
            || isatty(std::io::stdout()) == Ok(true) && !is_ignored(libc::SIGINT) && (reads_terminal() || reads_pipe())
    }

    /// `group` is COMMAND's own. It gets the terminal at once if it reads it, and when it asks for it
    /// otherwise: until then Ctrl-C is for the rest of the pipeline as well.
    pub fn belongs_to(&self, group: Pid) {
        self.theirs.store(group.as_raw(), Ordering::Relaxed);
        // Where SIGTTIN is ignored a reader in the background asks nobody.
        if reads_terminal() || is_ignored(libc::SIGTTIN) {
            self.hand_over();
        }
    }

    /// Gives COMMAND the terminal, if it is ours to give. SIGTTOU must be blocked.
    pub fn hand_over(&self) -> bool {
        let is_ours = self.look();
        match (&self.tty, self.theirs()) {
            (Some(tty), Some(theirs)) if is_ours => tcsetpgrp(tty, theirs).is_ok(),
            _ => false,
        }
    }

    /// Whether our group has the terminal: a shell may move us to the foreground at any time.
    pub fn look(&self) -> bool {
        let is_ours = self.group() == Some(self.ours);
        self.foreground.fetch_or(is_ours, Ordering::Relaxed);
        is_ours
    }

    /// Whether COMMAND's group has the terminal.
    pub fn is_theirs(&self) -> bool {
        self.theirs().is_some() && self.group() == self.theirs()
    }

    fn is_theirs_or_nobodys(&self, group: Pid) -> bool {
        Some(group) == self.theirs() || group.as_raw() <= 1 || killpg(group, None) == Err(Errno::ESRCH)
    }

    /// Back to our group, if the terminal was ours or COMMAND's when last we looked, and what has it
    /// now is gone. To be called with SIGTTOU blocked.
    pub fn give_back(&self, child_group: Option<Pid>) {
        let foreground = self.foreground.load(Ordering::Relaxed);
        let (Some(tty), Some(now)) = (self.tty.as_ref().filter(|_| foreground), self.group()) else { return };
        if now != self.ours && (Some(now) == child_group || self.is_theirs_or_nobodys(now)) {
            let _ = tcsetpgrp(tty, self.ours);
        }
    }
}

fn reads_terminal() -> bool {
    isatty(std::io::stdin()) == Ok(true)
}

fn reads_pipe() -> bool {
    let kind = rustix::fs::fstat(std::io::stdin()).map(|file| FileType::from_raw_mode(file.st_mode));
    matches!(kind, Ok(FileType::Fifo | FileType::Socket))
}

fn is_ignored(signal: i32) -> bool {
    // SAFETY: asks only, into a struct that the kernel fills.
    unsafe {
        let mut now: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &mut now) == 0 && now.sa_sigaction == libc::SIG_IGN
    }
}
