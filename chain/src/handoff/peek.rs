//! The first bytes of a pipe or socket, seen without taking them.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{OFlag, SpliceFFlags, tee};
use nix::sys::socket::{MsgFlags, recv};
use nix::sys::stat::SFlag;
use nix::unistd::{pipe2, read};

use crate::file_kind;
use crate::retry_eintr::retry;

pub(super) enum Peek<'a> {
    /// tee(2) copies what is in a pipe into another one.
    Pipe(BorrowedFd<'a>),
    Socket(BorrowedFd<'a>),
}

impl<'a> Peek<'a> {
    /// None: neither a pipe nor a socket.
    pub fn on(fd: BorrowedFd<'a>) -> Result<Option<Peek<'a>>> {
        Ok(match file_kind(fd).context("standard input")? {
            SFlag::S_IFIFO => Some(Peek::Pipe(fd)),
            SFlag::S_IFSOCK => Some(Peek::Socket(fd)),
            _ => None,
        })
    }

    /// How many bytes were seen; none yet; or `Some(0)`: the other end is closed.
    pub fn first_bytes(&self, buffer: &mut [u8]) -> Result<Option<usize>, Errno> {
        let result = match self {
            Peek::Pipe(fd) => pipe2(OFlag::O_CLOEXEC).and_then(|copy| tee_into(*fd, copy, buffer)),
            Peek::Socket(fd) => retry(|| recv(fd.as_raw_fd(), buffer, MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT)),
        };
        match result {
            Ok(n) => Ok(Some(n)),
            Err(Errno::EAGAIN) => Ok(None),
            // A socket that was never connected, or that only listens, has no bytes to show.
            Err(Errno::ENOTCONN | Errno::EINVAL) => Ok(Some(0)),
            Err(errno) => Err(errno),
        }
    }
}

fn tee_into(fd: BorrowedFd, (out, into): (OwnedFd, OwnedFd), buffer: &mut [u8]) -> Result<usize, Errno> {
    let copied = retry(|| tee(fd, &into, buffer.len(), SpliceFFlags::SPLICE_F_NONBLOCK))?;
    let mut filled = 0;
    while filled < copied {
        let free = &mut buffer[filled..copied];
        filled += retry(|| read(&out, free))?;
    }
    Ok(copied)
}

/// Takes exactly `length` bytes that are known to be there.
pub(super) fn take(fd: impl AsFd, length: usize) -> Result<()> {
    let mut line = vec![0; length];
    let mut taken = 0;
    while taken < length {
        match read(&fd, &mut line[taken..]) {
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
