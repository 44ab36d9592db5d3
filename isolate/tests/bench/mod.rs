//! What the tests of isolate share: running it, as the user who runs the tests and as an ordinary user.
#![allow(dead_code)]

pub mod systemd;

use std::ffi::OsStr;
use std::process::{Command, Output};

pub const ISOLATE: &str = env!("CARGO_BIN_EXE_isolate");

/// A user without a name and without rights.
pub const NOBODY: u32 = 65534;

pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Ends the test that cannot run here.
#[macro_export]
macro_rules! skip {
    ($($why:tt)*) => {{
        eprintln!("skipped: {}", format_args!($($why)*));
        return;
    }};
}

#[macro_export]
macro_rules! needs_root {
    () => {
        if !$crate::bench::is_root() {
            $crate::skip!("needs root");
        }
    };
}

#[derive(Debug)]
pub struct Outcome {
    pub stdout: String,
    pub stderr: String,
    /// As a shell has it: 128 and more for a signal.
    pub status: i32,
}

impl Outcome {
    pub fn of(output: Output) -> Outcome {
        use std::os::unix::process::ExitStatusExt;
        let status = output.status.code().or(output.status.signal().map(|signal| 128 + signal)).expect("it ended");
        Outcome {
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            status,
        }
    }

    /// It succeeded, and said nothing on stderr.
    #[track_caller]
    pub fn good(self) -> String {
        assert_eq!((self.status, &self.stderr[..]), (0, ""), "{self:?}");
        self.stdout.trim_end().to_owned()
    }

    /// isolate itself failed, with this in its message.
    #[track_caller]
    pub fn refused(self, part: &str) {
        assert_eq!(self.status, 125, "{self:?}");
        assert!(self.stderr.starts_with("isolate: ") && self.stderr.contains(part), "no {part:?} in {self:?}");
        assert!(self.stderr.lines().count() <= 2, "{self:?}");
    }
}

/// Runs isolate as root, or as an ordinary user in a user namespace where it is root.
pub fn as_root<W: AsRef<OsStr>>(words: impl IntoIterator<Item = W>) -> Outcome {
    let mut command = Command::new(ISOLATE);
    if !is_root() {
        command.arg("--map-root");
    }
    Outcome::of(command.args(words).output().expect("isolate starts"))
}

/// Runs isolate exactly so.
pub fn isolate<W: AsRef<OsStr>>(words: impl IntoIterator<Item = W>) -> Outcome {
    Outcome::of(Command::new(ISOLATE).args(words).output().expect("isolate starts"))
}

/// Runs isolate as a user without rights.
pub fn as_nobody<W: AsRef<OsStr>>(words: impl IntoIterator<Item = W>) -> Outcome {
    let mut command = match is_root() {
        true => {
            let mut command = Command::new("setpriv");
            let ids = [format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")];
            command.args(ids).args(["--clear-groups", "--inh-caps=-all", ISOLATE]);
            command
        }
        false => Command::new(ISOLATE),
    };
    Outcome::of(command.args(words).current_dir("/").output().expect("isolate starts"))
}

/// Runs a script, `$ISOLATE` in its environment.
pub fn sh(script: &str) -> Outcome {
    let user = if is_root() { "" } else { "--map-root" };
    Outcome::of(
        Command::new("sh").args(["-c", script]).env("ISOLATE", ISOLATE).env("U", user).output().expect("sh starts"),
    )
}

pub fn have(program: &str) -> bool {
    Command::new("sh").args(["-c", "command -v \"$1\" >/dev/null", "sh", program]).status().is_ok_and(|s| s.success())
}
