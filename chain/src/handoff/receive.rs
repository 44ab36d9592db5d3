//! The reading end: waits for a root's line where one can come, and takes nothing else.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, anyhow};
use nix::errno::Errno;
use nix::libc::PATH_MAX;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::first_line::{Expect, Verdict, verdict};
use super::peek::{Peek, take};
use super::writer::{self, Writer};
use super::{absolute, receipt_path, stdin_from_terminal};
use crate::{Carry, Hint, Tool, WithHint, warn};

/// Milliseconds between looks at who writes. A fork that has not exec'd holds its parent's pipes for a moment, so the
/// first is short. The last is where the user learns what we are waiting for.
const LOOK_AGAIN: [u16; 5] = [15, 60, 225, 700, 1000];

/// Whether stdin can be the pipe of an unpack at all.
pub fn may_come() -> bool {
    !matches!(Peek::on(std::io::stdin().as_fd()), Ok(None))
}

/// Notes who writes to standard input if the next links will not be able to see it: `pipes` and `sockets` say for which
/// kind that holds. Once bytes have arrived there is nothing to note.
pub fn note_writer(carry: &mut Carry, pipes: bool, sockets: bool) {
    if carry.writer.is_some() || !(pipes || sockets) {
        return;
    }
    let stdin = std::io::stdin();
    let Ok(Some(peek)) = Peek::on(stdin.as_fd()) else { return };
    let hides = if matches!(peek, Peek::Pipe(_)) { pipes } else { sockets };
    if hides && peek.first_bytes(&mut [0]) == Ok(None) {
        carry.writer = Some(writer::of_stdin());
    }
}

/// If the expected root's line is coming in on stdin: waits until it is whole, takes exactly that line and gives COMMAND
/// the terminal (or /dev/null) as its stdin. Otherwise takes nothing. `known` is what an earlier link saw of the writer.
pub fn receive(tool: Tool, expect: Expect, known: Option<Writer>) -> Result<Option<PathBuf>> {
    let stdin = std::io::stdin();
    let Some(peek) = Peek::on(stdin.as_fd())? else {
        return match expect {
            Expect::Root(_) => Ok(None),
            Expect::Any => Err(anyhow!("-: standard input is not a pipe")).hint("unpack img.tar | pivot - -- COMMAND"),
        };
    };
    // Edge-triggered: tells of every further write while the first bytes stay where they are (epoll(7)).
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let events = EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
    epoll.add(stdin.as_fd(), EpollEvent::new(events, 0)).context("standard input")?;
    let mut buffer = vec![0; PATH_MAX as usize + 2];
    let (mut ended, mut looks) = (false, 0);
    loop {
        let seen = peek.first_bytes(&mut buffer).context("standard input")?;
        ended |= seen == Some(0);
        let bytes = &buffer[..seen.unwrap_or(0)];
        match verdict(bytes, ended, expect) {
            Verdict::Line(length) => {
                take(&stdin, length).context("standard input")?;
                stdin_from_terminal()?;
                return Ok(Some(Path::new(OsStr::from_bytes(&bytes[..length - 1])).to_owned()));
            }
            Verdict::Another { path, whole } => match another(path, whole, ended) {
                Another::Root => return Err(mismatch(path, expect)),
                Another::Data => return Ok(None),
                Another::Open => {}
            },
            Verdict::Data => return data(bytes),
            Verdict::Broken => return Err(broken(bytes)),
            Verdict::Wait => {}
        }
        let mut patience = EpollTimeout::NONE;
        if bytes.is_empty() && matches!(expect, Expect::Root(_)) {
            let writer = known.clone().unwrap_or_else(writer::of_stdin);
            // It may have written and gone between the two looks.
            if writer == Writer::Caller && peek.first_bytes(&mut buffer).context("standard input")?.is_none() {
                return Ok(None);
            }
            if looks == LOOK_AGAIN.len() - 1 {
                warn(tool, format_args!("waiting for {writer}; --no-handoff leaves standard input to COMMAND"));
            }
            patience = LOOK_AGAIN[looks.min(LOOK_AGAIN.len() - 1)].into();
            looks += 1;
        }
        let mut event = [EpollEvent::empty()];
        match epoll.wait(&mut event, patience) {
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => ended |= event[0].events().intersects(EpollFlags::EPOLLHUP | EpollFlags::EPOLLRDHUP),
            Err(errno) => return Err(errno).context("standard input"),
        }
    }
}

/// What the path of something else turns out to be.
enum Another {
    Root,
    Data,
    /// The next bytes decide.
    Open,
}

fn another(path: &Path, whole: bool, ended: bool) -> Another {
    let by_unpack = || matches!(writer::of_stdin(), Writer::Stage { unpack: true, .. });
    match (whole, ended) {
        // All that a failing unpack writes. It names roots in one form only, and never a file.
        (false, true) if absolute(path).is_ok_and(|form| form.as_os_str() == path.as_os_str()) && !path.is_file() => {
            Another::Root
        }
        (false, true) => Another::Data,
        // Unpack writes one line: where more follows, this is a list.
        (true, true) if receipt_path(path).exists() => Another::Root,
        (_, false) if by_unpack() => Another::Root,
        (false, false) => Another::Open,
        (true, false) if receipt_path(path).exists() => Another::Open,
        (true, _) => Another::Data,
    }
}

fn mismatch(other: &Path, expect: Expect) -> Error {
    let Expect::Root(own) = expect else { return anyhow!("-: {} is no root", other.display()) };
    let (other, own) = (other.display(), own.display());
    anyhow!("standard input names another root, {other}, but ROOT is {own}: COMMAND was not started").context(Hint(
        "name the same ROOT twice: unpack IMAGE ROOT | … pivot ROOT; where it is a list that a loop reads, pivot --no-handoff \
         leaves it alone"
            .into(),
    ))
}

fn data(bytes: &[u8]) -> Result<Option<PathBuf>> {
    if bytes.starts_with(b"unpack: ") {
        let message = bytes.split(|&b| b == b'\n').next().unwrap_or_default();
        let message = String::from_utf8_lossy(message);
        return Err(anyhow!("standard input begins with a message of unpack's, {message:?}: COMMAND was not started"))
            .hint("leave 2>&1 out of the pipe from unpack; --no-handoff leaves standard input to COMMAND");
    }
    Ok(None)
}

fn broken(bytes: &[u8]) -> Error {
    let begun = String::from_utf8_lossy(bytes);
    match bytes {
        [] => anyhow!("-: standard input ended without the path of a root"),
        [b'/', ..] => anyhow!("unpack did not finish: {begun} is not complete, COMMAND was not started")
            .context(Hint("the message of unpack says why".into())),
        _ => {
            let line = begun.lines().next().unwrap_or_default();
            anyhow!("-: standard input begins with {line:?}, which is not the path of a root")
                .context(Hint("unpack img.tar | pivot - -- COMMAND".into()))
        }
    }
}

/// What [`receive`] would do now, for `--explain`.
pub fn described(expect: Expect) -> String {
    let kind = match Peek::on(std::io::stdin().as_fd()) {
        Ok(Some(Peek::Pipe(_))) => "a pipe",
        Ok(Some(Peek::Socket(_))) => "a socket",
        _ => return "standard input is no pipe: no line of unpack's is awaited".into(),
    };
    let Expect::Root(root) = expect else { return format!("standard input is {kind}: its first line names ROOT") };
    match writer::of_stdin() {
        Writer::Caller => {
            format!("standard input is {kind} of the caller's: it is left to COMMAND unless unpack's line is there")
        }
        writer => format!(
            "standard input is {kind}, from {writer}: wait for the line {}, take it and reopen /dev/tty; \
             another root's is an error, anything else is left to COMMAND",
            crate::shell::quote(root)
        ),
    }
}
