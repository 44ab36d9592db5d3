//! SIGINT, SIGTERM and SIGHUP remove what is half done, then end this process as they would have.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use chain::{Tool, message, warn};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, pthread_sigmask, raise, sigaction};

use crate::gate::Gate;
use crate::stage::Stage;
use crate::status::Status;

const SIGNALS: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

pub struct Interrupts {
    /// Held while the tree changes and while it is put in place: who takes it stops both.
    pub gate: Arc<Gate>,
    half_done: Arc<Mutex<Vec<Stage>>>,
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
                for stage in half_done.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
                    let _ = stage.remove();
                }
                status.interrupted(signal.as_str());
                die_of(signal);
            };
            std::thread::Builder::new().name("signals".into()).spawn(wait).context("start a thread")?;
        }
        Ok(interrupts)
    }

    /// Makes something in a staging directory for `root`, which goes at the end, or when a signal comes.
    pub fn with_stage<T>(&self, root: &Path, make: impl FnOnce(&Stage) -> Result<T>) -> Result<T> {
        let stage = Stage::new(root)?;
        let remover = stage.remover().inspect_err(|_| {
            let _ = stage.remove();
        })?;
        self.half_done(remover);
        let made = make(&stage);
        let _inside = self.gate.pass();
        self.done(&stage);
        // After a replacement the old tree is in the staging directory.
        let removed = stage.remove();
        let made = made?;
        if let Err(error) = removed {
            // What was asked for is there; 125 would say that it is not.
            let error = anyhow::Error::from(error).context(format!("{}: remove it", stage.path().display()));
            warn(Tool::Unpack, format_args!("{}; a later run tries again", message(&error)));
        }
        Ok(made)
    }

    /// From here on this is to be removed,
    fn half_done(&self, stage: Stage) {
        self.half_done.lock().unwrap_or_else(PoisonError::into_inner).push(stage);
    }

    /// and from here on no more.
    fn done(&self, stage: &Stage) {
        let path = stage.path();
        self.half_done.lock().unwrap_or_else(PoisonError::into_inner).retain(|other| other.path() != path);
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
