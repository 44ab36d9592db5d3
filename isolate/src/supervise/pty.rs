//! Terminals: the pair for a new session, and the settings and sizes of both sides (pty(7)). nix has neither TIOCGPTPEER nor
//! window sizes, and cannot keep unusual line speeds.

use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use anyhow::{Context, Result};
use chain::WithHint;
use chain::sys::errno;
use nix::errno::Errno;
use rustix::io::ioctl_fionbio;
use rustix::process::ioctl_tiocsctty;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

/// The terminal of the new session.
pub struct Pty {
    pub master: Rc<OwnedFd>,
    /// Open here as well: while a session has none of it open, a master only ever says that it is hung up.
    pub slave: Rc<OwnedFd>,
}

impl Pty {
    /// With the size and the settings of the caller's terminal.
    pub fn open(tty: &Rc<OwnedFd>) -> Result<Pty> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags)
            .map_err(errno)
            .context("--pty: /dev/ptmx")
            .hint("mount a devpts: mount -t devpts devpts /dev/pts")?;
        let pty = grantpt(&master)
            .and_then(|()| unlockpt(&master))
            // By the master: the name may lead elsewhere (TIOCGPTPEER in ioctl_tty(2)).
            .and_then(|()| ioctl_tiocgptpeer(&master, flags))
            .and_then(|slave| ioctl_fionbio(&master, true).map(|()| slave))
            .map(|slave| Pty { master: Rc::new(master), slave: Rc::new(slave) });
        let pty = pty.map_err(errno).context("--pty")?;
        Settings::of(tty)
            .context("the terminal's settings")?
            .apply(&pty.slave)
            .context("the new terminal's settings")?;
        pty.take_size(tty);
        Ok(pty)
    }

    /// Makes it the terminal of the session that the caller leads.
    pub fn make_controlling(&self) -> Result<(), Errno> {
        ioctl_tiocsctty(&self.slave).map_err(errno)
    }

    /// The kernel sends SIGWINCH to who is in the new terminal's foreground.
    pub fn take_size(&self, tty: &Rc<OwnedFd>) {
        if let Ok(size) = tcgetwinsize(tty) {
            let _ = tcsetwinsize(&self.slave, size);
        }
    }
}

/// What stty(1) shows.
pub struct Settings(Termios);

impl Settings {
    pub fn of(tty: impl AsFd) -> Result<Settings, Errno> {
        tcgetattr(tty).map(Settings).map_err(errno)
    }

    /// Every key is passed on. `others_write`: programs that know nothing of the new terminal print on this one (`| tee log`),
    /// and need their newlines turned into CR LF.
    pub fn raw(&self, others_write: bool) -> Settings {
        let mut raw = self.0.clone();
        raw.make_raw();
        if others_write {
            raw.output_modes = self.0.output_modes;
        }
        Settings(raw)
    }

    pub fn apply(&self, tty: impl AsFd) -> Result<(), Errno> {
        tcsetattr(tty, OptionalActions::Now, &self.0).map_err(errno)
    }

    pub fn is_same(&self, other: &Settings) -> bool {
        let modes = |Settings(s): &Settings| (s.input_modes, s.output_modes, s.local_modes);
        modes(self) == modes(other)
    }
}
