//! What a process does with a signal, as far as it can be seen from outside.

use std::fs::{read_link, read_to_string};
use std::thread::sleep;
use std::time::Duration;

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

/// How often it is looked whether a moment in which a process blocks signals is over. Not a time, of which
/// neither gets much where the machine is busy.
const LOOKS: u32 = 500;

/// From the masks in /proc/PID/status; None without a /proc of our own pid namespace.
/// The C library blocks every signal while it forks: that is no answer yet, and there the process is not
/// asleep, but for the one look in a thousand between whose lines it wakes up.
pub fn of(pid: Pid, signal: i32) -> Option<Disposition> {
    let mut slept = false;
    for _ in 0..LOOKS {
        let (disposition, sleeps) = look(pid, signal)?;
        if disposition != Disposition::Blocked || sleeps && slept {
            return Some(disposition);
        }
        slept = sleeps;
        sleep(Duration::from_millis(1));
    }
    Some(Disposition::Blocked)
}

/// What it does with the signal, and whether it is asleep or stopped.
fn look(pid: Pid, signal: i32) -> Option<(Disposition, bool)> {
    let status = status(pid)?;
    let has = |name| Some(u64::from_str_radix(field(&status, name)?, 16).ok()? >> signal.checked_sub(1)? & 1 == 1);
    let sleeps = !field(&status, "State:")?.starts_with(['R', 'D']);
    let disposition = if has("SigCgt:")? || has("SigIgn:")? {
        Disposition::Handled
    } else if has("SigBlk:")? || sleeps && is_in_sigwait(pid) {
        Disposition::Blocked
    } else {
        Disposition::Default
    };
    Some((disposition, sleeps))
}

/// Whether it waits for a signal, which then does not show as blocked.
fn is_in_sigwait(pid: Pid) -> bool {
    let call = read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    call.split(' ').next() == Some(&*libc::SYS_rt_sigtimedwait.to_string())
}

pub fn is_stopped(pid: Pid) -> Option<bool> {
    let status = status(pid)?;
    Some(field(&status, "State:")?.starts_with('T'))
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
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
