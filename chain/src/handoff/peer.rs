//! Who is at the other end of a socket pair: sock_diag(7) names its inode, by which /proc/PID/fd shows
//! who holds it. SO_PEERCRED would name the process that made the pair, which is the shell.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrLike, UnixAddr, getpeername, getsockname, recv,
    send, socket,
};
use nix::sys::stat::fstat;

use crate::retry_eintr::retry;

/// sock_diag(7): struct nlmsghdr and struct unix_diag_req, and the attribute that names the peer.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const UDIAG_SHOW_PEER: u32 = 0x4;
const UNIX_DIAG_PEER: u16 = 2;
const HEADER: usize = 16;
/// struct unix_diag_msg.
const MESSAGE: usize = 16;

/// Whether both ends are of a pair (socketpair(2)): whatever was bound or connected to has a name.
pub fn is_unnamed_pair(fd: BorrowedFd) -> bool {
    let unnamed = |name: nix::Result<UnixAddr>| {
        name.is_ok_and(|name| {
            name.family() == Some(AddressFamily::Unix) && name.path().is_none() && name.as_abstract().is_none()
        })
    };
    unnamed(getsockname(fd.as_raw_fd())) && unnamed(getpeername(fd.as_raw_fd()))
}

/// `Ok(None)`: the peer is gone.
pub fn inode_of_peer(fd: BorrowedFd) -> Result<Option<u32>, Errno> {
    let inode = fstat(fd)?.st_ino as u32;
    let flags = SockFlag::SOCK_CLOEXEC;
    let diag = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkSockDiag)?;
    retry(|| send(diag.as_fd().as_raw_fd(), &request(inode), MsgFlags::empty()))?;
    let mut buffer = [0; 512];
    let length = retry(|| recv(diag.as_fd().as_raw_fd(), &mut buffer, MsgFlags::empty()))?;
    peer_in(&buffer[..length])
}

fn request(inode: u32) -> [u8; 40] {
    let mut bytes = [0; 40];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, &40u32.to_ne_bytes());
    put(4, &SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    put(6, &(libc::NLM_F_REQUEST as u16).to_ne_bytes());
    put(HEADER, &[libc::AF_UNIX as u8]);
    put(HEADER + 4, &u32::MAX.to_ne_bytes());
    put(HEADER + 8, &inode.to_ne_bytes());
    put(HEADER + 12, &UDIAG_SHOW_PEER.to_ne_bytes());
    // No cookie: any socket of this inode.
    put(HEADER + 16, &[0xff; 8]);
    bytes
}

fn peer_in(answer: &[u8]) -> Result<Option<u32>, Errno> {
    let half = |at: usize| Some(u16::from_ne_bytes(answer.get(at..at + 2)?.try_into().ok()?));
    let word = |at: usize| Some(u32::from_ne_bytes(answer.get(at..at + 4)?.try_into().ok()?));
    if half(4) != Some(SOCK_DIAG_BY_FAMILY) {
        // struct nlmsgerr: a negative errno. ENOENT: a socket of another net namespace.
        return Err(Errno::from_raw(word(HEADER).map_or(libc::EPROTO, |errno| (errno as i32).wrapping_neg())));
    }
    let mut at = HEADER + MESSAGE;
    while let (Some(length), Some(kind)) = (half(at), half(at + 2)) {
        if kind == UNIX_DIAG_PEER {
            return Ok(word(at + 4).filter(|&inode| inode != 0));
        }
        at += usize::from(length).max(4).next_multiple_of(4);
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn a_pair_knows_its_other_end() {
        let (one, other) = UnixStream::pair().unwrap();
        assert!(is_unnamed_pair(one.as_fd()));
        assert_eq!(inode_of_peer(one.as_fd()), Ok(Some(fstat(&other).unwrap().st_ino as u32)));
        drop(other);
        assert_eq!(inode_of_peer(one.as_fd()), Ok(None));
    }

    #[test]
    fn what_was_connected_to_is_no_pair() {
        let path = std::env::temp_dir().join(format!("chain-peer-{}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let client = UnixStream::connect(&path).unwrap();
        let (served, _) = listener.accept().unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(!is_unnamed_pair(client.as_fd()) && !is_unnamed_pair(served.as_fd()));
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
        assert!(!is_unnamed_pair(client.as_fd()));
    }
}
