//! The terminal for a command whose stdin was the pipe from unpack.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, sigaction};
use nix::unistd::{Pid, dup2_stdin, getpid, read};

use crate::retry_eintr::retry;
use crate::sys::is_ignored;

/// Makes stdin the controlling terminal, or /dev/null if there is none or we may not read it. A background job waits as
/// any reader would: stopped, until it is continued.
pub fn stdin_from_terminal() -> Result<()> {
    let terminal = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOCTTY).open("/dev/tty");
    let input = match terminal {
        Ok(terminal) if !started_with_ampersand_in_a_script() && in_foreground(&terminal)? => terminal,
        _ => File::open("/dev/null").context("/dev/null")?,
    };
    retry(|| dup2_stdin(&input)).context("standard input")?;
    Ok(())
}

/// POSIX: a shell without job control starts an asynchronous list with SIGINT and SIGQUIT ignored.
/// It shares the terminal's foreground group with the script, whose input it must not take.
pub fn started_with_ampersand_in_a_script() -> bool {
    is_ignored(libc::SIGINT) && is_ignored(libc::SIGQUIT)
}

/// Whether this process may read the terminal now; in the background it stops first, until it is
/// continued. In a new pid namespace the process group and the terminal's both read as 0, so the
/// kernel is asked, by a read of no bytes: in the background that sends SIGTTIN to the group, or
/// gives EIO where nobody could continue the group or the signal is ignored.
fn in_foreground(terminal: &File) -> Result<bool> {
    if getpid() != Pid::from_raw(1) {
        return may_read(terminal);
    }
    if is_ignored(libc::SIGTTIN) {
        return may_read(terminal);
    }
    let mut continued = SigSet::empty();
    continued.add(Signal::SIGCONT);
    continued.thread_block()?;
    let answer = loop {
        match interruptibly(terminal)? {
            Err(Errno::EINTR) => {}
            answer => break answer.is_ok(),
        }
        // The isolate outside got the signal while this process seemed to handle it. With the default action in place
        // again, this one makes isolate stop the job until it has the terminal.
        kill(Pid::from_raw(0), Signal::SIGTTIN)?;
        continued.wait()?;
    };
    continued.thread_unblock()?;
    Ok(answer)
}

/// A read by PID 1, which the kernel does not stop from inside its namespace: it would spin, but a handler makes it
/// return.
fn interruptibly(terminal: &File) -> Result<Result<usize, Errno>> {
    let handler = SigAction::new(SigHandler::Handler(interrupt), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing.
    let before = unsafe { sigaction(Signal::SIGTTIN, &handler) }?;
    let answer = read(terminal, &mut []);
    // SAFETY: what was there before is put back.
    unsafe { sigaction(Signal::SIGTTIN, &before) }?;
    Ok(answer)
}

fn may_read(terminal: &File) -> Result<bool> {
    loop {
        match read(terminal, &mut []) {
            Ok(_) => return Ok(true),
            Err(Errno::EIO) => return Ok(false),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno).context("/dev/tty"),
        }
    }
}

extern "C" fn interrupt(_: libc::c_int) {}
