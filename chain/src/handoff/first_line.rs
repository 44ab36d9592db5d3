//! The reading end: the first bytes of a pipe or socket are looked at, not taken, until it is sure
//! that they are a root's path with its newline.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use nix::errno::Errno;
use nix::fcntl::{OFlag, SpliceFFlags, tee};
use nix::libc::PATH_MAX;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{MsgFlags, recv};
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::{pipe2, read};

use super::{receipt_path, stdin_from_terminal};
use crate::patient::again;
use crate::{Tool, WithHint, warn};

/// Which root's line is awaited.
#[derive(Clone, Copy, Debug)]
pub enum Expect<'a> {
    /// This one, as [`super::absolute`] names it.
    Root(&'a Path),
    /// Whichever the line names (ROOT was given as `-`).
    Any,
}

/// What the bytes seen so far say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// They are a root's line of this many bytes, newline included.
    Line(usize),
    /// They may become one.
    Wait,
    /// They are a root's path, and the newline will never come.
    Broken,
    /// They are the command's.
    Data,
}

/// Whether stdin can be the pipe of an unpack at all.
pub fn may_come() -> bool {
    !matches!(Peek::on(std::io::stdin().as_fd()), Ok(None))
}

/// Where stdin is a pipe or socket with an expected root's line in it: waits until the line is
/// whole, takes exactly it and gives the command the terminal (or /dev/null) as its stdin. In every
/// other case nothing is taken.
pub fn receive(tool: Tool, expect: Expect) -> Result<Option<PathBuf>> {
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
    let mut buffer = vec![0; PATH_MAX as usize + 1];
    let (mut ended, mut noticed) = (false, false);
    loop {
        let seen = peek.first_bytes(&mut buffer).context("standard input")?;
        ended |= seen == Some(0);
        let bytes = &buffer[..seen.unwrap_or(0)];
        match verdict(bytes, ended, expect) {
            Verdict::Line(length) => {
                take(stdin.as_fd(), length).context("standard input")?;
                stdin_from_terminal()?;
                return Ok(Some(Path::new(OsStr::from_bytes(&bytes[..length - 1])).to_owned()));
            }
            Verdict::Data => {
                if let Expect::Root(own) = expect {
                    warn_of_other_root(tool, bytes, own);
                }
                return Ok(None);
            }
            Verdict::Broken if bytes.is_empty() => {
                bail!("-: standard input ended without the path of a root");
            }
            Verdict::Broken => {
                let root = String::from_utf8_lossy(bytes);
                return Err(anyhow!("unpack did not finish: {root} is not complete, COMMAND was not started"))
                    .hint("the message of unpack says why");
            }
            Verdict::Wait => {}
        }
        let patience = if bytes.is_empty() && !noticed { EpollTimeout::from(1000u16) } else { EpollTimeout::NONE };
        let mut event = [EpollEvent::empty()];
        match epoll.wait(&mut event, patience) {
            Ok(0) => {
                noticed = true;
                warn(
                    tool,
                    "waiting for the first bytes on standard input, from unpack or for COMMAND; --no-handoff does not look",
                );
            }
            Ok(_) => ended |= event[0].events().intersects(EpollFlags::EPOLLHUP | EpollFlags::EPOLLRDHUP),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno).context("standard input"),
        }
    }
}

pub(crate) fn verdict(bytes: &[u8], ended: bool, expect: Expect) -> Verdict {
    match expect {
        Expect::Root(root) => {
            let root = root.as_os_str().as_bytes();
            match bytes.strip_prefix(root) {
                Some([b'\n', ..]) => Verdict::Line(root.len() + 1),
                Some([]) if ended => Verdict::Broken,
                Some([]) => Verdict::Wait,
                Some(_) => Verdict::Data,
                None if !ended && root.starts_with(bytes) => Verdict::Wait,
                None => Verdict::Data,
            }
        }
        Expect::Any => match bytes.iter().position(|&b| b == b'\n') {
            _ if bytes.first().is_some_and(|&b| b != b'/') => Verdict::Broken,
            Some(end) => Verdict::Line(end + 1),
            None if ended || bytes.len() > PATH_MAX as usize => Verdict::Broken,
            None => Verdict::Wait,
        },
    }
}

/// Data that looks like the line of an unpack into some other root is hardly what was meant.
fn warn_of_other_root(tool: Tool, bytes: &[u8], own: &Path) {
    let line = bytes.split(|&b| b == b'\n' || b == 0).next().unwrap_or_default();
    let other = Path::new(OsStr::from_bytes(line));
    if other.is_absolute() && receipt_path(other).exists() {
        warn(
            tool,
            format_args!(
                "standard input begins with {}, a root of unpack's, but ROOT is {}: it is left to COMMAND",
                other.display(),
                own.display()
            ),
        );
    }
}

/// A way to see a descriptor's first bytes without taking them.
enum Peek<'a> {
    /// tee(2) copies what is in a pipe into another one.
    Pipe(BorrowedFd<'a>),
    Socket(BorrowedFd<'a>),
}

impl<'a> Peek<'a> {
    fn on(fd: BorrowedFd<'a>) -> Result<Option<Peek<'a>>> {
        let kind = SFlag::from_bits_truncate(fstat(fd).context("standard input")?.st_mode) & SFlag::S_IFMT;
        Ok(match kind {
            SFlag::S_IFIFO => Some(Peek::Pipe(fd)),
            SFlag::S_IFSOCK => Some(Peek::Socket(fd)),
            _ => None,
        })
    }

    /// How many bytes were seen; none yet; or `Some(0)`: the other end is closed.
    fn first_bytes(&self, buffer: &mut [u8]) -> Result<Option<usize>, Errno> {
        let result = match self {
            Peek::Pipe(fd) => pipe2(OFlag::O_CLOEXEC).and_then(|copy| tee_into(*fd, copy, buffer)),
            Peek::Socket(fd) => {
                use std::os::fd::AsRawFd;
                again(|| recv(fd.as_raw_fd(), buffer, MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT))
            }
        };
        match result {
            Ok(n) => Ok(Some(n)),
            Err(Errno::EAGAIN) => Ok(None),
            // A socket that nobody connected, or that only listens, has no bytes to show.
            Err(Errno::ENOTCONN | Errno::EINVAL) => Ok(Some(0)),
            Err(errno) => Err(errno),
        }
    }
}

fn tee_into(fd: BorrowedFd, (out, into): (OwnedFd, OwnedFd), buffer: &mut [u8]) -> Result<usize, Errno> {
    let copied = again(|| tee(fd, &into, buffer.len(), SpliceFFlags::SPLICE_F_NONBLOCK))?;
    let mut filled = 0;
    while filled < copied {
        let free = &mut buffer[filled..copied];
        filled += again(|| read(&out, free))?;
    }
    Ok(copied)
}

/// Takes exactly `length` bytes that are known to be there.
fn take(fd: BorrowedFd, length: usize) -> Result<()> {
    let mut line = vec![0; length];
    let mut taken = 0;
    while taken < length {
        match read(fd, &mut line[taken..]) {
            Ok(0) => bail!("another reader took the line"),
            Ok(n) => taken += n,
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(bytes: &[u8], ended: bool) -> Verdict {
        verdict(bytes, ended, Expect::Root(Path::new("/a/root")))
    }

    #[test]
    fn only_the_roots_own_line_is_a_line() {
        assert_eq!(own(b"/a/root\n", false), Verdict::Line(8));
        assert_eq!(own(b"/a/root\nmore", true), Verdict::Line(8));
        assert_eq!(own(b"/a/root2\n", false), Verdict::Data);
        assert_eq!(own(b"/a/roots", true), Verdict::Data);
        assert_eq!(own(b"echo a\n", false), Verdict::Data);
        assert_eq!(own(b"\n", false), Verdict::Data);
    }

    #[test]
    fn a_beginning_waits_and_an_end_decides() {
        assert_eq!(own(b"", false), Verdict::Wait);
        assert_eq!(own(b"/a/ro", false), Verdict::Wait);
        assert_eq!(own(b"/a/root", false), Verdict::Wait);
        assert_eq!(own(b"", true), Verdict::Data);
        assert_eq!(own(b"/a/ro", true), Verdict::Data);
        assert_eq!(own(b"/a/root", true), Verdict::Broken);
    }

    #[test]
    fn any_root_takes_an_absolute_path_and_nothing_else() {
        let any = |bytes: &[u8], ended| verdict(bytes, ended, Expect::Any);
        assert_eq!(any(b"/x\n", false), Verdict::Line(3));
        assert_eq!(any(b"/x", false), Verdict::Wait);
        assert_eq!(any(b"/x", true), Verdict::Broken);
        assert_eq!(any(b"", true), Verdict::Broken);
        assert_eq!(any(b"x\n", false), Verdict::Broken);
        assert_eq!(any(&[b'/'; PATH_MAX as usize + 1], false), Verdict::Broken);
    }

    /// Every text of up to so many of these bytes.
    fn texts(alphabet: &[u8], length: usize) -> Vec<Vec<u8>> {
        let mut all = vec![Vec::new()];
        let mut last = all.clone();
        for _ in 0..length {
            let longer = |text: &Vec<u8>| {
                let text = text.clone();
                alphabet.iter().map(move |&byte| [&text[..], &[byte]].concat())
            };
            last = last.iter().flat_map(longer).collect();
            all.extend(last.iter().cloned());
        }
        all
    }

    #[test]
    fn no_bytes_that_follow_change_what_was_decided() {
        let all = texts(b"/a\n\0", 6);
        for expect in [Expect::Root(Path::new("/a")), Expect::Root(Path::new("/a/a")), Expect::Any] {
            for text in &all {
                let decided = verdict(text, false, expect);
                if let Verdict::Line(length) = decided {
                    assert!(text[..length].ends_with(b"\n") && text.starts_with(b"/"), "{text:?}");
                    assert_eq!(text[..length].iter().filter(|&&b| b == b'\n').count(), 1, "{text:?}");
                    if let Expect::Root(root) = expect {
                        assert_eq!(&text[..length - 1], root.as_os_str().as_bytes());
                    }
                }
                // Whatever arrives later, in whatever pieces, and the end of it too.
                for end in 0..text.len() {
                    let before = verdict(&text[..end], false, expect);
                    assert!(before == Verdict::Wait || before == decided, "{text:?} at {end}: {before:?}, {decided:?}");
                }
                assert_ne!(verdict(text, true, expect), Verdict::Wait, "{text:?}");
                if decided != Verdict::Wait {
                    assert_eq!(verdict(text, true, expect), decided, "{text:?}");
                }
            }
        }
    }

    #[test]
    fn a_look_at_a_pipe_takes_nothing() {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC).unwrap();
        let mut buffer = [0; 100];
        let peek = Peek::on(reader.as_fd()).unwrap().unwrap();
        assert_eq!(peek.first_bytes(&mut buffer), Ok(None));
        nix::unistd::write(&writer, b"ab").unwrap();
        nix::unistd::write(&writer, b"cd").unwrap();
        assert_eq!(peek.first_bytes(&mut buffer), Ok(Some(4)));
        drop(writer);
        assert_eq!(peek.first_bytes(&mut buffer), Ok(Some(4)));
        assert_eq!(read(&reader, &mut buffer), Ok(4));
        assert_eq!(&buffer[..4], b"abcd");
        assert_eq!(peek.first_bytes(&mut buffer), Ok(Some(0)));
    }
}
