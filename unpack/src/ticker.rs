//! Something done every so often while the work goes on.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Runs a function on a thread of its own until it is dropped.
pub struct Ticker {
    over: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    pub fn start(first: Duration, every: Duration, mut tick: impl FnMut() + Send + 'static) -> Ticker {
        let over = Arc::<(Mutex<bool>, Condvar)>::default();
        let until = over.clone();
        let run = move || {
            let mut wait = first;
            while !is_over(&until, wait) {
                tick();
                wait = every;
            }
        };
        // Without a thread for it nothing is shown, and that is all.
        let thread = std::thread::Builder::new().name("progress".into()).spawn(run).ok();
        Ticker { over, thread }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        *self.over.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.over.1.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn is_over(over: &(Mutex<bool>, Condvar), wait: Duration) -> bool {
    let state = over.0.lock().unwrap_or_else(PoisonError::into_inner);
    over.1.wait_timeout_while(state, wait, |over| !*over).map_or(true, |(over, _)| *over)
}
