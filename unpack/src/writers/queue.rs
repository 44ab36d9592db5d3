//! Batches on their way to the writers, and their results.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use anyhow::{Result, anyhow};

use super::batch::Batch;
use crate::gate::Gate;

#[derive(Default)]
pub struct State {
    pub shared: VecDeque<Batch>,
    /// A large file's parts go to one thread: two would only wait for its inode's lock.
    pub own: Vec<VecDeque<Batch>>,
    pub waiting: usize,
    pub busy: usize,
    /// Idle threads.
    pub idle: usize,
    /// Files that have been passed on and may not exist yet.
    pub planned: usize,
    failure: Option<anyhow::Error>,
    pub failed: bool,
    pub done: bool,
}

#[derive(Default)]
pub struct Queue {
    gate: Arc<Gate>,
    state: Mutex<State>,
    pub filled: Condvar,
    pub drained: Condvar,
}

impl Queue {
    pub fn new(threads: usize, gate: &Arc<Gate>) -> Arc<Queue> {
        let queue = Queue { gate: gate.clone(), ..Queue::default() };
        queue.lock().own.resize_with(threads, VecDeque::new);
        Arc::new(queue)
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, error: anyhow::Error) {
        let mut state = self.lock();
        if !state.failed {
            state.failed = true;
            state.failure = Some(error);
        }
    }

    /// Writes a batch that was just taken off the queue.
    pub fn take<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        batch: Batch,
        buffer: &mut Vec<u8>,
    ) -> MutexGuard<'a, State> {
        state.waiting -= 1;
        state.busy += 1;
        // Wake the reader only when there is room for several: each wake-up costs it a context switch.
        if state.waiting == super::WAITING / 2 {
            self.drained.notify_all();
        }
        let (failed, planned) = (state.failed, batch.planned);
        drop(state);
        if !failed && let Err(error) = batch.write(&self.gate, buffer) {
            self.fail(error);
        }
        let mut state = self.lock();
        state.busy -= 1;
        state.planned -= planned;
        if state.failed || (state.waiting == 0 && state.busy == 0) || (planned > 0 && state.planned == 0) {
            self.drained.notify_all();
        }
        state
    }
}

pub fn failure(state: &mut State) -> Result<()> {
    match state.failed {
        true => Err(state.failure.take().unwrap_or_else(|| anyhow!("writing failed before"))),
        false => Ok(()),
    }
}

pub fn work(queue: &Queue, me: usize) {
    let mut buffer = Vec::new();
    let mut state = queue.lock();
    loop {
        let batch = state.own.get_mut(me).and_then(VecDeque::pop_front).or_else(|| state.shared.pop_front());
        let Some(batch) = batch else {
            if state.done {
                return;
            }
            state.idle += 1;
            state = queue.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
            continue;
        };
        state = queue.take(state, batch, &mut buffer);
    }
}
