//! Messages: one line `tool: what: why`, then `tool: hint: …` where the cause is known.

use std::fmt;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::sys::signal::{SigHandler, Signal, signal};

use crate::{FAILED, Tool, failures, security_module};

/// What to do about an error. It travels in the error's chain and prints on a line of its own.
#[derive(Debug)]
pub struct Hint(pub String);

impl fmt::Display for Hint {
    fn fmt(&self, _: &mut fmt::Formatter) -> fmt::Result {
        Ok(())
    }
}

pub trait WithHint<T> {
    fn hint(self, text: impl Into<String>) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> WithHint<T> for Result<T, E> {
    fn hint(self, text: impl Into<String>) -> anyhow::Result<T> {
        self.map_err(|error| error.into().context(Hint(text.into())))
    }
}

/// The error, with the hint if its cause is known.
pub fn hinted(error: anyhow::Error, hint: Option<String>) -> anyhow::Error {
    match hint {
        Some(text) => error.context(Hint(text)),
        None => error,
    }
}

/// An error whose exit status is not 125.
#[derive(Debug)]
pub(crate) struct WithStatus {
    pub status: u8,
    pub message: String,
}

impl fmt::Display for WithStatus {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for WithStatus {}

/// Prints an error and its hint, and says with what status to exit.
pub fn fail(tool: Tool, error: &anyhow::Error) -> u8 {
    // Without a reader for the message the exit status must still be ours.
    // SAFETY: no handler is installed, and nothing is executed after this.
    let _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigIgn) };
    say(tool, &message(error));
    match error.downcast_ref::<Hint>() {
        Some(Hint(hint)) => say(tool, &format!("hint: {hint}")),
        None if describe(error.root_cause()) == Errno::EMFILE.desc() => {
            //: any descriptor | open and others: EMFILE | RLIMIT_NOFILE is reached | the only cause |
            //: isolate/process::a_limit_that_is_too_low_is_named_or_enough
            say(tool, "hint: RLIMIT_NOFILE is too low: ulimit -n 64 or more");
        }
        None if is_forbidden(error) => {
            security_module::hint().inspect(|hint| say(tool, &format!("hint: {hint}")));
        }
        None => {}
    }
    let status = status_of(error);
    failures::report(tool, status);
    status
}

fn is_forbidden(error: &anyhow::Error) -> bool {
    let cause = describe(error.root_cause());
    [Errno::EPERM, Errno::EACCES].iter().any(|errno| cause == errno.desc())
}

/// The exit status that goes with an error.
pub fn status_of(error: &anyhow::Error) -> u8 {
    error.downcast_ref::<WithStatus>().map_or(FAILED, |error| error.status)
}

/// What went wrong and why, from the chain of an error.
pub fn message(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(describe).filter(|cause| !cause.is_empty()) {
        // A cause whose text the message above it already ends with says nothing new.
        if !text.ends_with(&cause) {
            let separator = if text.is_empty() { "" } else { ": " };
            let _ = write!(text, "{separator}{cause}");
        }
    }
    text
}

/// Writes to stdout. std's own writers report success on a closed stdout.
pub fn print(text: impl AsRef<[u8]>) -> io::Result<()> {
    File::from(io::stdout().as_fd().try_clone_to_owned()?).write_all(text.as_ref())
}

/// Prints a line on stderr and goes on.
pub fn warn(tool: Tool, text: impl fmt::Display) {
    say(tool, &text.to_string());
}

fn say(tool: Tool, text: &str) {
    // One write, so that lines of the stages of a pipeline do not mix. A closed stderr is no reason to fail.
    let _ = io::stderr().write_all(format!("{}: {}\n", tool.name(), one_line(text)).as_bytes());
}

/// What an error number means, without its number.
pub(crate) fn reason(error: impl Into<std::io::Error>) -> String {
    describe(&error.into())
}

fn describe(cause: &(dyn std::error::Error + 'static)) -> String {
    let text = cause.to_string();
    match cause.downcast_ref::<Errno>() {
        Some(errno) => errno.desc().to_owned(),
        None => match text.find(" (os error ") {
            Some(end) => text[..end].to_owned(),
            None => text,
        },
    }
}

/// C0, DEL and C1, and what turns the direction of text (Unicode's annex 9) or ends its line.
pub fn drives_terminal(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Names in messages may come from a hostile image: control characters are escaped, so that a
/// message stays on its line and cannot drive the terminal.
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if drives_terminal(c) => {
                let _ = write!(line, "{}", c.escape_default());
            }
            c => line.push(c),
        }
    }
    line
}
