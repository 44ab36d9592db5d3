//! Signals by raw numbers and masks, the real-time ones among them: the C library keeps some to itself (nptl(7); musl
//! refuses 32 to 34), and nix knows none.

mod arrivals;

pub use arrivals::{Arrival, Arrivals};
use nix::errno::Errno;
use nix::libc;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::getpid;

use crate::process::Ending;

/// The first real-time signal, as programs and shells on Linux number them (kill -l).
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// The kernel's sigset_t, as the raw calls are told: sigprocmask(2), "C library/kernel differences".
const SET_SIZE: usize = 8;

/// A name, with or without SIG, or a number: as kill(1) has it.
pub fn by_name(name: &str) -> Option<i32> {
    let number = match name.parse() {
        Ok(number) => number,
        Err(_) if name == "RTMIN" => RTMIN,
        Err(_) if name == "RTMAX" => RTMAX,
        Err(_) => {
            let offset = |rest: &str| rest.parse::<i32>().ok();
            match (name.strip_prefix("RTMIN+"), name.strip_prefix("RTMAX-")) {
                (Some(rest), _) => offset(rest).filter(|more| (0..=RTMAX - RTMIN).contains(more))? + RTMIN,
                (_, Some(rest)) => RTMAX - offset(rest).filter(|less| (0..=RTMAX - RTMIN).contains(less))?,
                _ => format!("SIG{name}").parse::<Signal>().ok()? as i32,
            }
        }
    };
    (1..=RTMAX).contains(&number).then_some(number)
}

pub fn name(number: i32) -> String {
    match Signal::try_from(number) {
        Ok(signal) => signal.to_string(),
        Err(_) if (RTMIN..=RTMAX).contains(&number) => format!("RTMIN+{}", number - RTMIN),
        Err(_) => number.to_string(),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mask(u64);

const fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

fn change_mask(how: libc::c_int, set: u64) -> Mask {
    let mut before = 0u64;
    // SAFETY: two sets of the kernel's own size.
    unsafe { libc::syscall(libc::SYS_rt_sigprocmask, how, &raw const set, &raw mut before, SET_SIZE) };
    Mask(before)
}

/// Blocks every signal there is, and says what was blocked before.
pub fn block_all() -> Mask {
    change_mask(libc::SIG_SETMASK, u64::MAX)
}

impl Mask {
    pub fn restore(self) {
        change_mask(libc::SIG_SETMASK, self.0);
    }

    pub fn and(self, signals: &[i32]) -> Mask {
        Mask(signals.iter().fold(self.0, |set, &signal| set | bit(signal)))
    }
}

/// sigaction(2) to the default; whether it was ignored before.
fn set_default(signal: i32) -> bool {
    // The kernel's struct: handler, flags, restorer where there is one, and mask.
    let (default, mut before) = ([0usize; 8], [0usize; 8]);
    // SAFETY: no handler is installed, and both are larger than the kernel's struct anywhere.
    unsafe {
        libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), before.as_mut_ptr(), SET_SIZE);
    }
    before[0] == libc::SIG_IGN
}

/// Where our caller ignores SIGCHLD the kernel would reap the child, and its status with it (wait(2), NOTES).
pub struct ChildSignal {
    was_ignored: bool,
}

impl ChildSignal {
    pub fn set_default() -> ChildSignal {
        ChildSignal { was_ignored: set_default(libc::SIGCHLD) }
    }

    /// In the child: as the caller left it.
    pub fn put_back(&self) {
        if self.was_ignored {
            // SAFETY: no handler is installed.
            unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
        }
    }
}

/// kill(2): a process, or with 0 or a negative number a group.
pub fn send(to: i32, signal: i32) -> Result<(), Errno> {
    // SAFETY: kill(2) takes any numbers.
    Errno::result(unsafe { libc::kill(to, signal) }).map(drop)
}

/// Takes one of these that has arrived, if one has: `Arrivals` will not tell of it.
pub fn take(signals: &[i32]) -> Option<i32> {
    let set = signals.iter().fold(0, |set, &signal| set | bit(signal));
    let no_time = [0u64; 2];
    // SAFETY: a set of the kernel's own size, and a time of zero in any layout.
    let signal = unsafe {
        libc::syscall(
            libc::SYS_rt_sigtimedwait,
            &raw const set,
            std::ptr::null::<libc::siginfo_t>(),
            no_time.as_ptr(),
            SET_SIZE,
        )
    };
    (signal > 0).then_some(signal as i32)
}

/// Who is to have what COMMAND had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Own,
    /// The terminal would have sent it to all of our group, a script around us included.
    OwnGroup,
}

/// Lets the default action of a signal happen to this process, and blocks it again where that
/// returns: after a stop, and where the kernel has none (an orphaned group, PID 1).
pub fn raise_default(signal: i32, target: Target) {
    set_default(signal);
    let _ = send(if target == Target::OwnGroup { 0 } else { getpid().as_raw() }, signal);
    change_mask(libc::SIG_UNBLOCK, bit(signal));
    change_mask(libc::SIG_BLOCK, bit(signal));
}

impl Ending {
    /// Ends this process in the same way. `_exit`: skips std's cleanup; nothing is buffered.
    pub fn exit_like(self, target: Target) -> ! {
        match self {
            Ending::Exit(code) => chain::leave(code as u8),
            Ending::Signal(signal) => {
                // The child left the core dump, if one was wanted.
                let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
                raise_default(signal, target);
                // PID 1 of a namespace does not die of a signal of its own: the shell's number says it.
                chain::leave(128 + signal as u8)
            }
        }
    }
}

/// What the kernel does with a signal that nobody handles (signal(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Default {
    Ends,
    Stops,
    Nothing,
}

pub fn default_action(signal: i32) -> Default {
    match signal {
        libc::SIGCHLD | libc::SIGURG | libc::SIGWINCH | libc::SIGCONT => Default::Nothing,
        libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU | libc::SIGSTOP => Default::Stops,
        _ => Default::Ends,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signal_has_a_name_that_means_it() {
        for number in (1..32).chain(RTMIN..=RTMAX) {
            let name = name(number);
            assert_eq!(by_name(name.strip_prefix("SIG").unwrap_or(&name)), Some(number), "{name}");
            assert_eq!(by_name(&number.to_string()), Some(number));
        }
        for nonesuch in ["", "0", "65", "-1", "NONESUCH", "RTMIN+31", "RTMIN+-1", "RTMAX-31", "RTMIN+"] {
            assert_eq!(by_name(nonesuch), None, "{nonesuch}");
        }
        assert_eq!((by_name("RTMIN+1"), by_name("RTMAX-1")), (Some(35), Some(63)));
    }
}
