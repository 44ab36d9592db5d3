//! What a process does with a signal, as far as that shows from outside.

use std::fs::{File, read_to_string};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::thread::sleep;
use std::time::Duration;

use chain::retry_eintr::openat;
use chain::{attach, pidfd};
use nix::fcntl::{AT_FDCWD, OFlag};
use nix::libc;
use nix::sys::stat::Mode;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    Default,
    /// Default, but blocked: it waits, or sigwait(3) or a signalfd takes it.
    Blocked,
    /// Caught or ignored.
    Handled,
}

/// How many times to poll while the target has signals blocked. A count, not a timeout: on a busy machine neither side
/// makes progress.
const LOOKS: u32 = 500;

/// A process's directory in a proc filesystem.
pub struct Proc(OwnedFd);

impl Proc {
    /// By its pidfd: /proc may be that of an outer pid namespace, where the process has another number than here
    /// (pidfd_open(2), fdinfo). If it has none there, or there is no /proc, from a proc that is attached nowhere, if we may
    /// make one.
    pub fn of(pidfd: BorrowedFd) -> Option<Proc> {
        let info = |proc: &str| read_to_string(format!("{proc}/self/fdinfo/{}", pidfd.as_raw_fd())).ok();
        if let Some(number) = info("/proc").as_deref().and_then(pidfd::number) {
            return open(AT_FDCWD, &format!("/proc/{number}")).map(Proc);
        }
        let proc = attach::unattached("proc", &[], 0).ok()?;
        let text = read_at(&proc, &format!("self/fdinfo/{}", pidfd.as_raw_fd()))?;
        open(&proc, &pidfd::number(&text)?.to_string()).map(Proc)
    }

    /// From the masks in its status. The C library blocks every signal while it forks: that is not the answer yet. The
    /// process is not asleep then, except once in a thousand reads, when it wakes up between two lines.
    pub fn disposition(&self, signal: i32) -> Option<Disposition> {
        let mut slept = false;
        for _ in 0..LOOKS {
            let (disposition, sleeps) = self.look(signal)?;
            if disposition != Disposition::Blocked || sleeps && slept {
                return Some(disposition);
            }
            slept = sleeps;
            sleep(Duration::from_millis(1));
        }
        Some(Disposition::Blocked)
    }

    /// Whether this signal is pending for the process, not for one of its threads.
    pub fn has_pending(&self, signal: i32) -> bool {
        self.read("status").and_then(|status| is_in(&status, "ShdPnd:", signal)) == Some(true)
    }

    /// What it does with the signal, and whether it is asleep or stopped.
    fn look(&self, signal: i32) -> Option<(Disposition, bool)> {
        let status = self.read("status")?;
        let has = |name| is_in(&status, name, signal);
        let sleeps = !field(&status, "State:")?.starts_with(['R', 'D']);
        let disposition = if has("SigCgt:")? || has("SigIgn:")? {
            Disposition::Handled
        } else if has("SigBlk:")? || sleeps && self.is_in_sigwait() {
            Disposition::Blocked
        } else {
            Disposition::Default
        };
        Some((disposition, sleeps))
    }

    /// Whether it waits for a signal, which then does not show as blocked.
    fn is_in_sigwait(&self) -> bool {
        let call = self.read("syscall").unwrap_or_default();
        call.split(' ').next() == Some(&*libc::SYS_rt_sigtimedwait.to_string())
    }

    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    fn read(&self, file: &str) -> Option<String> {
        read_at(&self.0, file)
    }
}

fn read_at(dir: impl AsFd, path: &str) -> Option<String> {
    let file = openat(dir, path, OFlag::O_CLOEXEC, Mode::empty()).ok()?;
    let mut text = String::new();
    File::from(file).read_to_string(&mut text).ok()?;
    Some(text)
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

/// proc_pid_status(5): a mask in hexadecimal.
fn is_in(status: &str, mask: &str, signal: i32) -> Option<bool> {
    Some(u64::from_str_radix(field(status, mask)?, 16).ok()? >> signal.checked_sub(1)? & 1 == 1)
}

fn open(dir: impl AsFd, path: &str) -> Option<OwnedFd> {
    openat(dir, path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).ok()
}
