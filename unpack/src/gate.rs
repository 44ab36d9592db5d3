//! Before a signal removes what is half done, it waits here until no thread changes names in the tree or puts it in place,
//! and lets no other start.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use anyhow::{Result, bail};

#[derive(Default)]
pub struct Gate(RwLock<()>);

impl Gate {
    /// For a step that changes the tree. Never returns once the gate is shut: the process is about to end.
    pub fn pass(&self) -> RwLockReadGuard<'_, ()> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same for a thread that another one inside waits for: fails once the gate is being shut, so that both get out.
    pub fn pass_inside(&self) -> Result<RwLockReadGuard<'_, ()>> {
        match self.0.try_read() {
            Ok(pass) => Ok(pass),
            Err(std::sync::TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
            Err(std::sync::TryLockError::WouldBlock) => bail!("interrupted"),
        }
    }

    /// Shuts the gate, once nobody is inside.
    pub fn shut(&self) -> RwLockWriteGuard<'_, ()> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_thread_that_others_wait_for_inside_fails_once_the_gate_is_being_shut() {
        let gate = Gate::default();
        std::thread::scope(|scope| {
            let inside = gate.pass();
            assert!(gate.pass_inside().is_ok());
            let (sender, shut) = channel();
            let gate = &gate;
            scope.spawn(move || {
                let _shut = gate.shut();
                let _ = sender.send(());
            });
            while gate.pass_inside().is_ok() {
                std::thread::yield_now();
            }
            assert!(shut.try_recv().is_err(), "it was shut while somebody was inside");
            drop(inside);
            assert!(shut.recv().is_ok());
        });
    }
}
