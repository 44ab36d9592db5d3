//! The terminal goes back to whom it belonged to.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::killpg;
use nix::unistd::{Pid, getpgrp, tcgetpgrp, tcsetpgrp};

pub struct Terminal {
    tty: Option<File>,
    foreground: bool,
}

impl Terminal {
    pub fn find() -> Terminal {
        let flags = (OFlag::O_NOCTTY | OFlag::O_NONBLOCK).bits();
        let tty = File::options().read(true).write(true).custom_flags(flags).open("/dev/tty").ok();
        let mut terminal = Terminal { tty, foreground: false };
        terminal.look();
        terminal
    }

    pub fn file(&self) -> Option<&File> {
        self.tty.as_ref()
    }

    /// A shell may move us to the foreground and back.
    pub fn look(&mut self) {
        self.foreground = self.tty.as_ref().is_some_and(|tty| tcgetpgrp(tty) == Ok(getpgrp()));
    }

    /// Back to our group, if it had the terminal when last we looked and what has it now was the
    /// child's: an interactive shell in a new pid namespace cannot name the group that it took the
    /// terminal from, so it cannot give it back. To be called with SIGTTOU blocked.
    pub fn give_back(&self, child_group: Option<Pid>) {
        let Some(tty) = self.tty.as_ref().filter(|_| self.foreground) else { return };
        let Ok(now) = tcgetpgrp(tty) else { return };
        let dead = || now.as_raw() <= 1 || killpg(now, None) == Err(Errno::ESRCH);
        if now != getpgrp() && (Some(now) == child_group || dead()) {
            let _ = tcsetpgrp(tty, getpgrp());
        }
    }
}
