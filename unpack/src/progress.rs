//! How far the work is: a bar where somebody looks at stderr, a line now and then where it is a log, JSON for a program.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chain::{Tool, warn};
use indicatif::{BinaryBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::args::Args;
use crate::image::Image;
use crate::source::Source;
use crate::status::Status;
use crate::stream::Compression;
use crate::ticker::Ticker;

const BAR_FIRST: Duration = Duration::from_millis(300);
const BAR_EVERY: Duration = Duration::from_millis(100);
/// A log gets a line this many times less often than a program.
const LOG: u32 = 30;

/// What is known of the work so far.
pub struct Work {
    begun: Instant,
    /// Bytes of an image that comes through a pipe.
    read: Option<Arc<AtomicU64>>,
    found: AtomicBool,
    /// Bytes of files.
    pub extracted: AtomicU64,
    /// 0 where it is not known.
    total: AtomicU64,
}

impl Work {
    pub fn begin(source: &Source, read: &Arc<AtomicU64>) -> Arc<Work> {
        let read = matches!(source, Source::Stream(_)).then(|| read.clone());
        let (found, extracted, total) = Default::default();
        Arc::new(Work { begun: Instant::now(), read, found, extracted, total })
    }

    /// It is known what the image consists of, and extracted from here on.
    pub fn found(&self, image: &Image) {
        self.total.store(total(image).unwrap_or(0), Ordering::Relaxed);
        self.found.store(true, Ordering::Relaxed);
    }

    fn read(&self) -> Option<u64> {
        self.read.as_ref().map(|read| read.load(Ordering::Relaxed))
    }

    /// Headers are not counted, so the last bytes of a plain archive never come.
    fn extracted(&self) -> u64 {
        let extracted = self.extracted.load(Ordering::Relaxed);
        self.total().map_or(extracted, |total| extracted.min(total))
    }

    fn total(&self) -> Option<u64> {
        Some(self.total.load(Ordering::Relaxed)).filter(|&total| total > 0)
    }

    fn line(&self) -> String {
        let seconds = self.begun.elapsed().as_secs();
        let extracted = BinaryBytes(self.extracted());
        match (self.found.load(Ordering::Relaxed), self.total(), self.read()) {
            (true, Some(total), _) => format!("{extracted} of {} extracted after {seconds} s", BinaryBytes(total)),
            (true, None, _) => format!("{extracted} extracted after {seconds} s"),
            (false, _, Some(read)) => format!("{} read after {seconds} s", BinaryBytes(read)),
            (false, ..) => format!("still reading after {seconds} s"),
        }
    }
}

/// Lines for a log and for a program, until it is dropped.
pub struct Lines {
    _log: Option<Ticker>,
    _status: Option<Ticker>,
}

impl Lines {
    pub fn show(args: &Args, status: Status, work: &Arc<Work>) -> Lines {
        let second = Duration::from_millis(args.tick.into());
        let (image, of_log, of_status) = (args.image.clone(), work.clone(), work.clone());
        let log = move || warn(Tool::Unpack, format_args!("{}: {}", image.display(), of_log.line()));
        let tell = move || status.progress(of_status.read(), of_status.extracted(), of_status.total());
        Lines {
            _log: (!args.quiet && !std::io::stderr().is_terminal())
                .then(|| Ticker::start(second * LOG, second * LOG, log)),
            _status: status.is_wanted().then(|| Ticker::start(second, second, tell)),
        }
    }
}

/// A bar for a person, where the work takes long enough to wonder.
pub fn bar(args: &Args, work: &Arc<Work>) -> Option<Ticker> {
    let work = work.clone();
    let mut bar = None;
    let draw = move || {
        let Bar(bar) = bar.get_or_insert_with(|| new_bar(work.total()));
        bar.set_position(work.extracted());
        bar.tick();
    };
    (!args.quiet && std::io::stderr().is_terminal()).then(|| Ticker::start(BAR_FIRST, BAR_EVERY, draw))
}

struct Bar(ProgressBar);

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Roughly how many bytes there will be, where the image is not compressed.
fn total(image: &Image) -> Option<u64> {
    let plain = |layer: &crate::image::Layer| layer.size().filter(|_| layer.compression == Compression::Plain);
    image.layers.iter().map(plain).sum()
}

fn new_bar(total: Option<u64>) -> Bar {
    let (bar, template) = match total {
        Some(total) => {
            (ProgressBar::new(total), "unpack: [{bar:30}] {binary_bytes} of {binary_total_bytes}, {elapsed}")
        }
        None => (ProgressBar::new_spinner(), "unpack: {spinner} {binary_bytes}, {elapsed}"),
    };
    bar.set_draw_target(ProgressDrawTarget::stderr());
    Bar(match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style.progress_chars("=> ")),
        Err(_) => bar,
    })
}
