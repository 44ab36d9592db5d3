//! The terminal, and who has it: while COMMAND runs, a process group of its own that can name
//! itself; afterwards whom it belonged to.
//!
//! In a new pid namespace a group from outside has no number: getpgrp() and tcgetpgrp() are both 0.
//! A shell that starts there in the background takes itself for the foreground, and one that ends
//! there cannot give the terminal back. So COMMAND leads a group of its own, and isolate does what a shell
//! does for its jobs: its group has the terminal when ours would.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use chain::file_kind;
use chain::sys::is_ignored;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::sys::signal::killpg;
use nix::sys::stat::SFlag;
use nix::unistd::{Pid, getpgid, getpgrp, getppid, getsid, isatty, tcgetpgrp, tcsetpgrp};

/// Isolate's guard reads what isolate changes here: when that is dead.
pub struct Terminal {
    tty: Option<File>,
    own_group: Pid,
    /// The group that COMMAND leads, if it does.
    child_group: AtomicI32,
    was_foreground: AtomicBool,
}

impl Terminal {
    pub fn find() -> Terminal {
        let flags = (OFlag::O_NOCTTY | OFlag::O_NONBLOCK).bits();
        let tty = File::options().read(true).write(true).custom_flags(flags).open("/dev/tty").ok();
        let terminal = Terminal { tty, own_group: getpgrp(), child_group: 0.into(), was_foreground: false.into() };
        terminal.is_ours();
        terminal
    }

    pub fn file(&self) -> Option<&File> {
        self.tty.as_ref()
    }

    fn child_group(&self) -> Option<Pid> {
        let group = self.child_group.load(Ordering::Relaxed);
        (group != 0).then(|| Pid::from_raw(group))
    }

    /// The group that has it now.
    fn group(&self) -> Option<Pid> {
        self.tty.as_ref().and_then(|tty| tcgetpgrp(tty).ok())
    }

    /// Whether COMMAND should lead a group of its own. Without a terminal, always: a signal to the own
    /// group leaves a pid namespace. With one, where a person sits in front of COMMAND: not where its
    /// output goes into a pipe, whose reader may want the terminal; not in the background of a
    /// script, which keeps its input (POSIX has such a shell start it with SIGINT ignored); and not where
    /// nobody could ever bring it to the foreground: there a reader gets EIO, as a member of our group
    /// alone (setpgid(2), orphaned process groups; a group whose parent is isolate is none).
    pub fn wants_own_group(&self) -> bool {
        self.tty.is_none()
            || isatty(std::io::stdout()) == Ok(true)
                && !is_ignored(libc::SIGINT)
                && (reads_terminal() || reads_pipe())
                && (self.is_ours() || !is_own_group_orphaned())
    }

    /// `group` is COMMAND's own. It gets the terminal at once if it reads it, and when it asks for it
    /// otherwise: until then Ctrl-C is for the rest of the pipeline as well.
    pub fn belongs_to(&self, group: Pid) {
        self.child_group.store(group.as_raw(), Ordering::Relaxed);
        // With SIGTTIN ignored, a reader in the background does not ask.
        if reads_terminal() || is_ignored(libc::SIGTTIN) {
            self.hand_over();
        }
    }

    /// Gives COMMAND the terminal, if it is ours to give. SIGTTOU must be blocked.
    pub fn hand_over(&self) -> bool {
        let is_ours = self.is_ours();
        match (&self.tty, self.child_group()) {
            (Some(tty), Some(group)) if is_ours => tcsetpgrp(tty, group).is_ok(),
            _ => false,
        }
    }

    /// Whether our group has the terminal: a shell may move us to the foreground at any time.
    fn is_ours(&self) -> bool {
        let is_ours = self.group() == Some(self.own_group);
        self.was_foreground.fetch_or(is_ours, Ordering::Relaxed);
        is_ours
    }

    /// Whether COMMAND's group has the terminal.
    pub fn is_childs(&self) -> bool {
        self.child_group().is_some() && self.group() == self.child_group()
    }

    fn is_childs_or_nobodys(&self, group: Pid) -> bool {
        Some(group) == self.child_group() || group.as_raw() <= 1 || killpg(group, None) == Err(Errno::ESRCH)
    }

    /// Back to our group, if the terminal was ours or COMMAND's when last we looked, and what has it
    /// now is gone. To be called with SIGTTOU blocked.
    pub fn give_back(&self, child_group: Option<Pid>) {
        let was_foreground = self.was_foreground.load(Ordering::Relaxed);
        let (Some(tty), Some(now)) = (self.tty.as_ref().filter(|_| was_foreground), self.group()) else { return };
        if now != self.own_group && (Some(now) == child_group || self.is_childs_or_nobodys(now)) {
            let _ = tcsetpgrp(tty, self.own_group);
        }
    }
}

/// Whether none of our ancestors in the session could continue our group, as far as can be seen.
fn is_own_group_orphaned() -> bool {
    let (group, session) = (getpgrp(), getsid(None));
    let mut process = getppid();
    // The parent of a PID 1 is outside.
    while process.as_raw() > 0 {
        if getsid(Some(process)) != session {
            return true;
        }
        if getpgid(Some(process)) != Ok(group) {
            return false;
        }
        let Some(parent) = parent_of(process) else { return false };
        process = parent;
    }
    false
}

/// proc_pid_stat(5): the fourth field, behind a name that may hold anything.
fn parent_of(process: Pid) -> Option<Pid> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok().map(Pid::from_raw)
}

fn reads_terminal() -> bool {
    isatty(std::io::stdin()) == Ok(true)
}

fn reads_pipe() -> bool {
    matches!(file_kind(std::io::stdin()), Ok(SFlag::S_IFIFO | SFlag::S_IFSOCK))
}
