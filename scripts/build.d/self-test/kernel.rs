//! Calls whose structures and numbers the C library has a hand in.

use std::fs::{self, File};
use std::io::{ErrorKind, IoSlice, IoSliceMut, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::errno::Errno;
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal};

use crate::{Checked, ensure};

/// errno is the thread's own, and its texts are there.
pub(crate) fn errors(dir: &Path) -> Checked {
    ensure!(File::open(dir.join("missing")).is_err_and(|error| error.raw_os_error() == Some(2)));
    let other = std::thread::spawn(|| File::open("/proc/self/mem/x").map_err(|error| error.raw_os_error()).err());
    ensure!(other.join().is_ok_and(|error| error == Some(Some(20))));
    ensure!(std::io::Error::from_raw_os_error(2).to_string() == "No such file or directory (os error 2)");
    ensure!(std::io::Error::from_raw_os_error(39).kind() == ErrorKind::DirectoryNotEmpty);
    Ok(())
}

static CAUGHT: AtomicU32 = AtomicU32::new(0);

extern "C" fn catch(signal: i32) {
    CAUGHT.fetch_add(signal as u32, Ordering::Relaxed);
}

/// Handlers, masks (against what /proc shows), pending signals, a child's death.
pub(crate) fn signals(_: &Path) -> Checked {
    // SAFETY: the handler only adds to an atomic.
    unsafe { nix::sys::signal::signal(Signal::SIGUSR2, SigHandler::Handler(catch)) }?;
    let set = SigSet::from_iter([Signal::SIGUSR2, Signal::SIGTERM]);
    let mut before = SigSet::empty();
    nix::sys::signal::pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&set), Some(&mut before))?;
    ensure!(!before.contains(Signal::SIGUSR2));
    let status = fs::read_to_string("/proc/thread-self/status")?;
    ensure!(status.contains(&format!("SigBlk:\t{:016x}", 1_u64 << 11 | 1 << 14)));
    nix::sys::signal::raise(Signal::SIGUSR2)?;
    ensure!(CAUGHT.load(Ordering::Relaxed) == 0);
    nix::sys::signal::pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None)?;
    ensure!(CAUGHT.load(Ordering::Relaxed) == Signal::SIGUSR2 as u32);
    let mut sleeper = Command::new("sleep").arg("60").spawn()?;
    sleeper.kill()?;
    ensure!(sleeper.wait()?.signal() == Some(9));
    Ok(())
}

/// sendmsg(2), recvmsg(2) and their control messages; poll(2) and epoll(7).
pub(crate) fn sockets(dir: &Path) -> Checked {
    use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
    use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
    let (ours, theirs) = UnixStream::pair()?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(&theirs, EpollEvent::new(EpollFlags::EPOLLIN, 0x1_0000_0002))?;
    let mut events = [EpollEvent::empty(); 4];
    ensure!(epoll.wait(&mut events, EpollTimeout::ZERO)? == 0);
    let mut file = File::create(dir.join("passed"))?;
    file.write_all(b"passed")?;
    let fds = [file.as_raw_fd()];
    let sent = sendmsg::<()>(
        ours.as_raw_fd(),
        &[IoSlice::new(b"o"), IoSlice::new(b"ne")],
        &[ControlMessage::ScmRights(&fds)],
        MsgFlags::empty(),
        None,
    )?;
    ensure!(sent == 3);
    ensure!(epoll.wait(&mut events, EpollTimeout::ZERO)? == 1 && events[0].data() == 0x1_0000_0002);
    let (mut bytes, mut space) = ([0; 8], nix::cmsg_space!([i32; 1]));
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let message = recvmsg::<()>(theirs.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    ensure!(message.bytes == 3);
    let Some(ControlMessageOwned::ScmRights(passed)) = message.cmsgs()?.next() else { return Err("no rights".into()) };
    // SAFETY: the kernel has just made this descriptor for us.
    let passed = File::from(unsafe { OwnedFd::from_raw_fd(passed[0]) });
    ensure!(passed.metadata()?.ino() == file.metadata()?.ino() && passed.as_raw_fd() != file.as_raw_fd());
    Ok(())
}

/// termios(3) on a new pty, and the size that ioctl_tty(2) sets.
pub(crate) fn terminals(_: &Path) -> Checked {
    use nix::sys::termios::{LocalFlags, SetArg, SpecialCharacterIndices, tcgetattr, tcsetattr};
    let size = nix::pty::Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = match nix::pty::openpty(Some(&size), None) {
        // No devpts here: nothing to compare with.
        Err(Errno::ENOENT | Errno::EACCES) => return Ok(()),
        pty => pty?,
    };
    let mut modes = tcgetattr(&pty.slave)?;
    ensure!(modes.local_flags.contains(LocalFlags::ECHO | LocalFlags::ICANON));
    ensure!(modes.control_chars[SpecialCharacterIndices::VINTR as usize] == 3);
    modes.local_flags.remove(LocalFlags::ECHO);
    tcsetattr(&pty.slave, SetArg::TCSANOW, &modes)?;
    let out = Command::new("stty")
        .args(["-a", "-F", &format!("/proc/{}/fd/{}", std::process::id(), pty.slave.as_raw_fd())])
        .output()?;
    let shown = String::from_utf8_lossy(&out.stdout);
    ensure!(shown.contains("rows 24; columns 80") && shown.contains("-echo ") && shown.contains(" icanon"));
    Ok(())
}
