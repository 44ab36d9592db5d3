//! Ending as the child ended.

use nix::libc;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::wait::WaitStatus;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Exit(i32),
    Signal(i32),
}

impl Ending {
    pub fn of(status: WaitStatus) -> Option<Ending> {
        match status {
            WaitStatus::Exited(_, code) => Some(Ending::Exit(code)),
            WaitStatus::Signaled(_, signal, _) => Some(Ending::Signal(signal as i32)),
            _ => None,
        }
    }

    /// Ends this process in the same way. Nothing of it waits to be written; what Rust would do first, it does for nobody.
    pub fn share(self, with: Whom) -> ! {
        match self {
            Ending::Exit(code) => chain::leave(code as u8),
            Ending::Signal(signal) => {
                // The child left the core dump, if one was wanted.
                let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
                raise_default(signal, with);
                // PID 1 of a namespace does not die of a signal of its own: the shell's number says it.
                chain::leave(128 + signal as u8)
            }
        }
    }
}

/// Whom a signal that reached COMMAND happens to as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    Us,
    /// The terminal would have sent it to the whole of our group, a script around us included.
    Group,
}

/// Lets the default action of a signal happen to this process, and blocks it again where that
/// returns: after a stop, and where the kernel has none (an orphaned group, PID 1).
pub fn raise_default(signal: i32, whom: Whom) {
    // SAFETY: no handler is installed; the sets are initialised by sigemptyset before their use.
    unsafe {
        let mut only = std::mem::zeroed();
        libc::sigemptyset(&mut only);
        libc::sigaddset(&mut only, signal);
        libc::signal(signal, libc::SIG_DFL);
        libc::kill(if whom == Whom::Group { 0 } else { libc::getpid() }, signal);
        libc::sigprocmask(libc::SIG_UNBLOCK, &only, std::ptr::null_mut());
        libc::sigprocmask(libc::SIG_BLOCK, &only, std::ptr::null_mut());
    }
}
