//! A small PID 1: it reaps whatever is left to it, passes signals on, and tells isolate outside what
//! became of the command, for as PID 1 it can neither stop nor die of a signal itself.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStringExt;

use anyhow::{Context, Result, bail};
use chain::patient::again;
use chain::{Command, Link, Tool};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::libc;
use nix::sys::prctl::set_name;
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::statvfs::{FsFlags, fstatvfs};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, chdir, getpgid, getpgrp, getpid};

use crate::state::State;
use crate::step::Step;
use crate::supervise::ending::Ending;
use crate::supervise::fork::PLAIN;
use crate::supervise::process::{SignalState, clone_into, close_all_but, let_go_of};
use crate::supervise::waiting::SI_KERNEL;

/// What PID 1 tells: a letter and a number.
pub const STOPPED: u8 = b's';
pub const EXITED: u8 = b'e';
pub const SIGNALLED: u8 = b'k';
/// An error of its own: the number is an errno.
pub const FAILED: u8 = b'f';

/// Starts this program again from a read-only clone of itself, unless it runs from one: root in the
/// container could otherwise change the host's file through /proc/1/exe.
pub fn sealed(mut link: Link) -> Result<Link> {
    if link.explains() {
        return Ok(link);
    }
    if is_sealed().context("/proc/self/exe")? {
        // A process that is started from a descriptor is named for that in ps(1).
        set_name(c"isolate").context("name of the process")?;
        return Ok(link);
    }
    let mut line = std::fs::read("/proc/self/cmdline").context("/proc/self/cmdline")?;
    line.pop();
    let words = line.split(|&byte| byte == 0).skip(1).map(|word| OsString::from_vec(word.to_vec()));
    let words = std::iter::once(Tool::Isolate.name().into()).chain(words).collect();
    let again = Command::new(words, || Tool::Isolate.name().into());
    link.carry.hold_tools()?;
    link.run::<Step>(&[], State::from, &again)?;
    bail!("it was to start again from a read-only clone of itself")
}

fn is_sealed() -> Result<bool> {
    let exe = File::open("/proc/self/exe")?;
    if again(|| fstatvfs(&exe))?.flags().contains(FsFlags::ST_RDONLY) {
        return Ok(true);
    }
    Ok(fcntl(&exe, FcntlArg::F_GET_SEALS)
        .is_ok_and(|seals| SealFlag::from_bits_retain(seals).contains(SealFlag::F_SEAL_WRITE)))
}

/// Returns in the command's process; PID 1 stays in here.
pub fn perform(state: &mut State) -> Result<()> {
    let report = state.report.take().context("no isolate waits for this one")?;
    let signals = SignalState::put_aside()?;
    match clone_into(PLAIN).context("fork")? {
        None => {
            signals.put_back()?;
            // It dies with its PID 1, and that with isolate.
            state.carry.parent = None;
            Ok(())
        }
        Some(command) => reap(command, report),
    }
}

fn reap(command: Pid, mut report: File) -> Result<()> {
    let signals = SignalFd::with_flags(&SigSet::all(), SfdFlags::SFD_CLOEXEC).context("signalfd")?;
    close_all_but(&[signals.as_fd().as_raw_fd(), report.as_raw_fd()]);
    let_go_of(&[0, 1, 2]);
    // pivot_root moves the working directories that are the old root itself, and no others.
    let _ = chdir("/");
    loop {
        let info = match signals.read_signal() {
            Ok(Some(info)) => info,
            Ok(None) | Err(Errno::EINTR) => continue,
            Err(errno) => fail(&mut report, errno),
        };
        let signal = info.ssi_signo as i32;
        if signal == libc::SIGCHLD {
            bury(command, &mut report);
            continue;
        }
        let shared = getpgid(Some(command)) == Ok(getpgrp());
        // What the terminal sends goes to a whole group, and what continues a group of our own comes from isolate: a second
        // SIGCONT from here might come when the command has stopped again.
        let has_it = info.ssi_code == SI_KERNEL || signal == libc::SIGCONT && getpgrp() == getpid();
        if !(shared && has_it) {
            // SAFETY: kill(2) takes any number; the command is not reaped yet.
            unsafe { libc::kill(command.as_raw(), signal) };
        }
    }
}

fn tell(report: &mut File, letter: u8, number: i32) {
    let mut record = [letter; 5];
    record[1..].copy_from_slice(&number.to_ne_bytes());
    let _ = report.write_all(&record);
}

/// A message of this process's own would go nowhere: isolate outside says it. It ends, and the
/// command with it, rather than wait for what it cannot hear.
fn fail(report: &mut File, errno: Errno) -> ! {
    tell(report, FAILED, errno as i32);
    std::process::exit(chain::FAILED.into())
}

/// Reaps all that can be reaped; ends with the command.
fn bury(command: Pid, report: &mut File) {
    loop {
        let status = match waitpid(None, Some(WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
            Err(Errno::EINTR) => continue,
            Err(errno) => fail(report, errno),
            Ok(status) => status,
        };
        if status.pid() != Some(command) {
            continue;
        }
        if let WaitStatus::Stopped(_, signal) = status {
            tell(report, STOPPED, signal as i32);
        }
        match Ending::of(status) {
            Some(Ending::Exit(code)) => {
                tell(report, EXITED, code);
                std::process::exit(code);
            }
            Some(Ending::Signal(signal)) => {
                tell(report, SIGNALLED, signal);
                std::process::exit(128 + signal);
            }
            None => {}
        }
    }
}
