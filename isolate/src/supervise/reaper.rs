//! A small PID 1: it reaps what is left to it, passes signals on, and reports to isolate outside what becomes of the command,
//! since as PID 1 it can neither stop nor die of a signal itself.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};

use anyhow::{Context, Result};
use chain::retry_eintr::{poll, retry};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::statvfs::{FsFlags, fstatvfs};
use nix::unistd::{Pid, chdir, getpgid, getpgrp, getpid, write};

use crate::process::{Change, Ending, close_all_but, fork, let_go_of, next_change, no_process};
use crate::signals::{self, Arrivals, ChildSignal};

/// What a terminal sends to a job.
pub const TYPED: [i32; 3] = [libc::SIGINT, libc::SIGQUIT, libc::SIGTSTP];

/// What PID 1 reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    Stopped(i32),
    Ended(Ending),
    /// An error of its own: an errno.
    Failed(i32),
}

impl Report {
    /// A letter and a number.
    pub const SIZE: usize = 5;

    fn to_bytes(self) -> [u8; Report::SIZE] {
        let (letter, number) = match self {
            Report::Stopped(signal) => (b's', signal),
            Report::Ended(Ending::Exit(code)) => (b'e', code),
            Report::Ended(Ending::Signal(signal)) => (b'k', signal),
            Report::Failed(errno) => (b'f', errno),
        };
        let [a, b, c, d] = number.to_ne_bytes();
        [letter, a, b, c, d]
    }

    pub fn from_bytes([letter, a, b, c, d]: [u8; Report::SIZE]) -> Report {
        let number = i32::from_ne_bytes([a, b, c, d]);
        match letter {
            b's' => Report::Stopped(number),
            b'e' => Report::Ended(Ending::Exit(number)),
            b'k' => Report::Ended(Ending::Signal(number)),
            _ => Report::Failed(number),
        }
    }
}

/// Whether this program runs from a read-only clone or a sealed copy of itself: root in the container could
/// otherwise change the host's file through /proc/1/exe.
pub fn is_sealed() -> Result<bool> {
    let exe = File::open("/proc/self/exe").context("/proc/self/exe")?;
    if retry(|| fstatvfs(&exe))?.flags().contains(FsFlags::ST_RDONLY) {
        return Ok(true);
    }
    Ok(fcntl(&exe, FcntlArg::F_GET_SEALS)
        .is_ok_and(|seals| SealFlag::from_bits_retain(seals).contains(SealFlag::F_SEAL_WRITE)))
}

/// Returns in the command's process; PID 1 stays in here. In a session of its own isolate sends to the whole of the command's
/// group what is typed (`TYPED`).
pub fn start(reports: File, session: bool) -> Result<()> {
    let child_signal = ChildSignal::set_default();
    let mask = signals::block_all();
    match fork().map_err(no_process)? {
        None => {
            mask.restore();
            child_signal.put_back();
            Ok(())
        }
        Some(command) => stay(command, reports, session),
    }
}

fn stay(command: Pid, reports: File, session: bool) -> Result<()> {
    let arrivals = Arrivals::open()?;
    close_all_but(&[arrivals.as_fd().as_raw_fd(), reports.as_raw_fd()]);
    let_go_of(&[0, 1, 2]);
    // A command that stops and continues all the time must not make this wait for isolate.
    let _ = fcntl(&reports, FcntlArg::F_SETFL(OFlag::O_NONBLOCK));
    // pivot_root moves the working directories that are the old root itself, and no others.
    let _ = chdir("/");
    loop {
        if let Err(errno) = poll(&mut [PollFd::new(arrivals.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE) {
            fail(&reports, errno as i32);
        }
        while let Some(arrival) = arrivals.next() {
            if arrival.signal == libc::SIGCHLD {
                reap(command, &reports);
                continue;
            }
            let shares_group = getpgid(Some(command)) == Ok(getpgrp());
            // What the terminal sends goes to a whole group, and what continues a group of our own comes from isolate: a
            // second SIGCONT from here might come when the command has stopped again.
            let is_typed = session && arrival.from_outside && TYPED.contains(&arrival.signal);
            let has_it = arrival.from_kernel || is_typed || arrival.signal == libc::SIGCONT && getpgrp() == getpid();
            if !(shares_group && has_it || arrival.from_self) {
                // The command is not reaped yet.
                let _ = signals::send(command.as_raw(), arrival.signal);
            }
        }
    }
}

fn tell(reports: &File, report: Report) {
    // If the pipe is full, nobody has read thousands of earlier stops; an end is in our own status too.
    let _ = retry(|| write(reports, &report.to_bytes()));
}

/// This process has nowhere to print a message: isolate outside does. It ends, and the command with it, rather than wait
/// for signals that it cannot hear.
fn fail(reports: &File, errno: i32) -> ! {
    tell(reports, Report::Failed(errno));
    chain::leave(chain::FAILED)
}

/// Reaps all that can be reaped; ends with the command.
fn reap(command: Pid, reports: &File) {
    loop {
        let change = match next_change() {
            Ok(None) => return,
            Ok(Some((pid, change))) if pid == command => change,
            Ok(Some(_)) => continue,
            Err(error) => fail(reports, error.downcast_ref::<Errno>().map_or(0, |&errno| errno as i32)),
        };
        match change {
            Change::Continued => {}
            Change::Stopped(signal) => tell(reports, Report::Stopped(signal)),
            Change::Ended(ending) => {
                tell(reports, Report::Ended(ending));
                chain::leave(match ending {
                    Ending::Exit(code) => code as u8,
                    Ending::Signal(signal) => 128 + signal as u8,
                })
            }
        }
    }
}
