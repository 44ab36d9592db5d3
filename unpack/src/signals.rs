//! The signal state that unpack changes while it works, and restores for COMMAND.

use anyhow::{Context, Result};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, pthread_sigmask, sigaction};

pub struct CallerSignals {
    pipe: SigAction,
    mask: SigSet,
}

impl CallerSignals {
    /// From here on a vanished reader is an error (EPIPE) instead of death halfway.
    pub fn set_aside() -> Result<CallerSignals> {
        let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
        // SAFETY: no handler is installed.
        let pipe = unsafe { sigaction(Signal::SIGPIPE, &ignore) }.context("SIGPIPE")?;
        let mut mask = SigSet::empty();
        pthread_sigmask(SigmaskHow::SIG_BLOCK, None, Some(&mut mask)).context("signal mask")?;
        Ok(CallerSignals { pipe, mask })
    }

    pub fn put_back(self) -> Result<()> {
        // SAFETY: the disposition is the one that was here before.
        unsafe { sigaction(Signal::SIGPIPE, &self.pipe) }.context("SIGPIPE")?;
        pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&self.mask), None).context("signal mask")
    }
}

/// For the rest of this thread, which starts no program any more.
pub fn block_pipe() {
    let mut pipe = SigSet::empty();
    pipe.add(Signal::SIGPIPE);
    let _ = pipe.thread_block();
}
