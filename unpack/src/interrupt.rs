//! SIGINT, SIGTERM and SIGHUP remove what is half done, then end this process as they would have.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, pthread_sigmask, raise, sigaction};

use crate::gate::Gate;
use crate::stage::Stage;
use crate::status::Status;

const SIGNALS: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

pub struct Interrupts {
    /// Held while the tree changes and while it is put in place: who takes it stops both.
    pub gate: Arc<Gate>,
    half_done: Arc<Mutex<Option<Stage>>>,
}

impl Interrupts {
    /// To be called before there is another thread, since each has its own mask.
    pub fn watch(status: Status) -> Result<Interrupts> {
        let mut set = SigSet::empty();
        for signal in SIGNALS.into_iter().filter(|&signal| !is_ignored(signal)) {
            set.add(signal);
        }
        pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&set), None)?;
        let interrupts = Interrupts { gate: Arc::default(), half_done: Arc::default() };
        let (gate, half_done) = (interrupts.gate.clone(), interrupts.half_done.clone());
        if set != SigSet::empty() {
            let wait = move || {
                let Ok(signal) = set.wait() else { return };
                let _shut = gate.shut();
                if let Some(stage) = half_done.lock().unwrap_or_else(PoisonError::into_inner).take() {
                    let _ = stage.remove();
                }
                status.interrupted(signal.as_str());
                die_of(signal);
            };
            std::thread::Builder::new().name("signals".into()).spawn(wait).context("start a thread")?;
        }
        Ok(interrupts)
    }

    /// From here on there is something to remove; after None there is not.
    pub fn half_done(&self, stage: Option<Stage>) {
        *self.half_done.lock().unwrap_or_else(PoisonError::into_inner) = stage;
    }
}

/// A shell starts its background jobs, and nohup its command, with signals ignored: they stay so.
fn is_ignored(signal: Signal) -> bool {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: no handler is installed, and the old disposition is put back at once.
    unsafe {
        let old = sigaction(signal, &default);
        old.is_ok_and(|old| sigaction(signal, &old).is_ok() && matches!(old.handler(), SigHandler::SigIgn))
    }
}

fn die_of(signal: Signal) -> ! {
    let mut set = SigSet::empty();
    set.add(signal);
    let _ = pthread_sigmask(SigmaskHow::SIG_UNBLOCK, Some(&set), None);
    let _ = raise(signal);
    // As PID 1 a signal at its default does nothing.
    std::process::exit(128 + signal as i32)
}
