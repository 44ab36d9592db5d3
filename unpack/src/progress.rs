//! A progress bar on stderr, where somebody looks at it and the work takes long enough to wonder.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::image::Image;
use crate::stream::Compression;

const FIRST: Duration = Duration::from_millis(300);
const EVERY: Duration = Duration::from_millis(100);

/// Shows how many bytes of files there are, until it is dropped.
pub struct Progress {
    over: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    pub fn show(bytes: Arc<AtomicU64>, total: Option<u64>) -> Progress {
        let over = Arc::<(Mutex<bool>, Condvar)>::default();
        let until = over.clone();
        // Without a thread for it there is no bar, and that is all.
        let thread =
            std::thread::Builder::new().name("progress".into()).spawn(move || draw(&bytes, total, &until)).ok();
        Progress { over, thread }
    }

    pub fn is_wanted(quiet: bool) -> bool {
        !quiet && std::io::stderr().is_terminal()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        *self.over.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.over.1.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Roughly how many bytes there will be, where the image is not compressed.
pub fn total(image: &Image) -> Option<u64> {
    let plain = |layer: &crate::image::Layer| layer.size().filter(|_| layer.compression == Compression::Plain);
    image.layers.iter().map(plain).sum()
}

fn draw(bytes: &AtomicU64, total: Option<u64>, over: &(Mutex<bool>, Condvar)) {
    let mut bar = None;
    let mut wait = FIRST;
    loop {
        let state = over.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = over.1.wait_timeout_while(state, wait, |over| !*over);
        let done = waited.map_or(true, |(over, _)| *over);
        if done {
            break;
        }
        wait = EVERY;
        let bar = bar.get_or_insert_with(|| new_bar(total));
        let bytes = bytes.load(Ordering::Relaxed);
        // Headers are not counted, so the last bytes of a plain archive never come.
        bar.set_position(total.map_or(bytes, |total| bytes.min(total)));
        bar.tick();
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
}

fn new_bar(total: Option<u64>) -> ProgressBar {
    let (bar, template) = match total {
        Some(total) => {
            (ProgressBar::new(total), "unpack: [{bar:30}] {binary_bytes} of {binary_total_bytes}, {elapsed}")
        }
        None => (ProgressBar::new_spinner(), "unpack: {spinner} {binary_bytes}, {elapsed}"),
    };
    bar.set_draw_target(ProgressDrawTarget::stderr());
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style.progress_chars("=> ")),
        Err(_) => bar,
    }
}
