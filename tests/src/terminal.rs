//! A person at a terminal: a pseudo-terminal of 80 columns with a session of its own on it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};

use crate::Work;
use crate::work::kill_marked;

/// What every shell at the terminal prompts with; no test types it.
const PROMPT: &str = "ready> ";

pub struct Terminal<'a> {
    work: &'a Work,
    master: File,
    name: String,
    child: Child,
    seen: String,
}

impl Work {
    /// Starts a command as the leader of a new session, with a terminal as its stdin, stdout and stderr.
    pub fn terminal(&self, program: &str, args: &[&str]) -> Terminal<'_> {
        let mut command = self.command(program);
        command.args(args);
        self.terminal_with(command)
    }

    pub fn terminal_with(&self, mut command: Command) -> Terminal<'_> {
        let size = rustix::termios::Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        // Not openpty(3): what other tests start meanwhile would inherit it, and keep the session open.
        let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).expect("a terminal");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("a terminal");
        let name = ptsname_r(&master).expect("its name");
        let slave =
            File::options().read(true).write(true).custom_flags(libc::O_NOCTTY).open(&name).expect("a terminal");
        rustix::termios::tcsetwinsize(&slave, size).expect("its size");
        let stdio = || Stdio::from(slave.try_clone().expect("dup"));
        command
            .stdin(stdio())
            .stdout(stdio())
            .stderr(stdio())
            .env("TERM", "dumb")
            .env("PS1", PROMPT)
            .env("HOME", self.path());
        // An ordinary user's own start-up files would change the prompt.
        // SAFETY: setsid, ioctl and signal are async-signal-safe.
        unsafe {
            command.pre_exec(|| {
                nix::unistd::setsid()?;
                nix::errno::Errno::result(libc::ioctl(0, libc::TIOCSCTTY, 0))?;
                // As a login starts it, whatever the tests were started from.
                for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU] {
                    libc::signal(signal, libc::SIG_DFL);
                }
                Ok(())
            });
        }
        let child = command.spawn().expect("spawn");
        drop(slave);
        // SAFETY: the descriptor is the master's alone.
        let master = unsafe { File::from_raw_fd(master.into_raw_fd()) };
        Terminal { work: self, master, name, child, seen: String::new() }
    }
}

impl Terminal<'_> {
    pub fn send(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).expect("the terminal is open");
    }

    /// Waits for a shell's prompt, as a person does before typing; returns what was printed before it.
    #[track_caller]
    pub fn prompt(&mut self) -> String {
        self.expect(PROMPT)
    }

    /// Types a line at the prompt that is there, and returns what is printed until the next one.
    #[track_caller]
    pub fn run(&mut self, line: &str) -> String {
        self.send(&format!("{line}\n"));
        self.prompt()
    }

    /// Waits until the text has been printed, and returns everything before it since the last wait.
    #[track_caller]
    pub fn expect(&mut self, text: &str) -> String {
        let before = self.look_for(text, Duration::from_secs(60));
        before.unwrap_or_else(|| panic!("no {text:?} in:\n{}", self.seen))
    }

    /// The same; None where the text has not been printed by then.
    pub fn look_for(&mut self, text: &str, patience: Duration) -> Option<String> {
        let begun = Instant::now();
        loop {
            if let Some(at) = self.seen.find(text) {
                let before = self.seen[..at].to_owned();
                self.seen.drain(..at + text.len());
                return Some(before);
            }
            let left = patience.saturating_sub(begun.elapsed());
            if left.is_zero() || !self.read(left) {
                return None;
            }
        }
    }

    /// Reads what there is; false at the end of the session or of the time.
    fn read(&mut self, patience: Duration) -> bool {
        let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
        if !matches!(poll(&mut fds, timeout), Ok(1..)) {
            return false;
        }
        let mut buffer = [0; 4096];
        match self.master.read(&mut buffer) {
            Ok(n @ 1..) => {
                self.seen.push_str(&String::from_utf8_lossy(&buffer[..n]));
                true
            }
            // EIO: every process that had the terminal open is gone.
            _ => false,
        }
    }

    /// Leaves the shell that is at its prompt.
    #[track_caller]
    pub fn leave(mut self) {
        self.send("exit 0\n");
        let (rest, status) = self.end();
        assert_eq!(status, 0, "{rest}");
    }

    /// Waits for the end: everything printed since the last wait, and the exit status as a shell has it.
    #[track_caller]
    pub fn end(mut self) -> (String, i32) {
        let begun = Instant::now();
        while self.read(Duration::from_secs(60).saturating_sub(begun.elapsed())) {}
        assert!(begun.elapsed() < Duration::from_secs(60), "the session does not end:\n{}", self.seen);
        let status = self.child.wait().expect("wait");
        (std::mem::take(&mut self.seen), status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
    }

    /// How the command has ended, if it has.
    pub fn try_wait(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("wait")
    }

    /// The terminal goes away, as a window that is closed does.
    pub fn hang_up(mut self) {
        self.master = File::open("/dev/null").expect("/dev/null");
        self.child.wait().expect("wait");
    }

    /// Its name, for stty(1) -F.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Waits until a process of this name leads the terminal's foreground group: a key that is
    /// struck earlier would go to the shell that starts it.
    #[track_caller]
    pub fn wait_for_foreground(&self, name: &str) {
        self.work.wait_until("the foreground to change hands", || {
            // SAFETY: tcgetpgrp takes a descriptor and returns a number.
            let group = unsafe { libc::tcgetpgrp(self.master.as_raw_fd()) };
            std::fs::read_to_string(format!("/proc/{group}/comm")).is_ok_and(|comm| comm.trim_end() == name)
        });
    }
}

impl Drop for Terminal<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            kill_marked(self.work.mark());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
