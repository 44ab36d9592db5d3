//! The signal state that we were started with, for the command to start with.

use std::sync::OnceLock;

use anyhow::Result;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, pthread_sigmask, sigaction};

static STARTED_WITH: OnceLock<(bool, SigSet)> = OnceLock::new();

extern "C" fn remember() {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: no handler is installed, the old disposition is put back at once, and there is one thread.
    let ignored = unsafe {
        let old = sigaction(Signal::SIGPIPE, &default);
        old.is_ok_and(|old| sigaction(Signal::SIGPIPE, &old).is_ok() && matches!(old.handler(), SigHandler::SigIgn))
    };
    let mut mask = SigSet::empty();
    let _ = pthread_sigmask(SigmaskHow::SIG_BLOCK, None, Some(&mut mask));
    let _ = STARTED_WITH.set((ignored, mask));
}

// Rust's runtime ignores SIGPIPE before main, so the disposition has to be read before the runtime starts.
// SAFETY: .init_array holds functions that the C library calls once before main; this one needs nothing of the runtime.
#[used]
#[unsafe(link_section = ".init_array")]
static REMEMBER: extern "C" fn() = remember;

/// Puts SIGPIPE and the signal mask back to what this process was started with.
pub fn restore_signals() -> Result<()> {
    let (ignored, mask) = STARTED_WITH.get().copied().unwrap_or((false, SigSet::empty()));
    let handler = if ignored { SigHandler::SigIgn } else { SigHandler::SigDfl };
    // SAFETY: no handler is installed.
    unsafe { sigaction(Signal::SIGPIPE, &SigAction::new(handler, SaFlags::empty(), SigSet::empty())) }?;
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&mask), None)?;
    Ok(())
}
