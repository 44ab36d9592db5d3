//! What a process does with a signal, as far as it can be seen from outside.

use std::fs::{read_link, read_to_string};

use nix::libc;
use nix::unistd::{Pid, getpid};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    Default,
    /// Default, but blocked: it waits, or sigwait(3) or a signalfd takes it.
    Blocked,
    /// Caught or ignored.
    Handled,
}

/// From the masks in /proc/PID/status; None without a /proc of our own pid namespace.
pub fn of(pid: Pid, signal: i32) -> Option<Disposition> {
    let status = status(pid)?;
    let has = |field: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(field))?;
        Some(u64::from_str_radix(line.trim(), 16).ok()? >> signal.checked_sub(1)? & 1 == 1)
    };
    if has("SigCgt:")? || has("SigIgn:")? {
        Some(Disposition::Handled)
    } else if has("SigBlk:")? {
        Some(Disposition::Blocked)
    } else {
        Some(Disposition::Default)
    }
}

pub fn is_stopped(pid: Pid) -> Option<bool> {
    let status = status(pid)?;
    let state = status.lines().find_map(|line| line.strip_prefix("State:"))?;
    Some(state.trim_start().starts_with('T'))
}

fn status(pid: Pid) -> Option<String> {
    let proc_is_ours = read_link("/proc/self").is_ok_and(|link| link.as_os_str() == &*getpid().to_string());
    proc_is_ours.then(|| read_to_string(format!("/proc/{pid}/status")).ok()).flatten()
}

/// What the kernel does with a signal whose disposition is the default one (signal(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Default {
    Ends,
    Stops,
    Nothing,
}

pub fn default(signal: i32) -> Default {
    match signal {
        libc::SIGCHLD | libc::SIGURG | libc::SIGWINCH | libc::SIGCONT => Default::Nothing,
        libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU | libc::SIGSTOP => Default::Stops,
        _ => Default::Ends,
    }
}
