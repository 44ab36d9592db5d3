//! Threads that create and fill files. The one thread that reads the archive passes small files on whole, as a directory's
//! descriptor and a free name in it; larger ones it creates itself, and passes on their content with the file's descriptor.
//! So nothing here depends on order or on a path.

mod batch;
mod queue;

use std::fs::File;
use std::io;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context, Result};

use crate::descriptors;
use crate::gate::Gate;
use crate::stream::Bytes;
use crate::tree::{NewFile, Planned, shown};
use batch::{BATCH, Batch, Piece};
use queue::{Queue, State, failure, work};

/// At most this many open files in a batch,
const OPEN: usize = 32;
/// and this many that the writer creates.
const PLANNED: usize = 128;
/// With this many or more, a batch ends where the next directory begins.
const SOME: usize = 32;
/// This many batches may wait at once, if there are descriptors enough.
const WAITING: usize = 8;
/// Files up to this size are passed on whole.
pub const WHOLE: u64 = BATCH as u64;

pub struct Writers {
    queue: Arc<Queue>,
    threads: Vec<JoinHandle<()>>,
    batch: Batch,
    next: usize,
    open: usize,
    waiting: usize,
    /// For what this thread writes itself.
    buffer: Vec<u8>,
}

impl Writers {
    /// The threads inherit the caller's confinement.
    pub fn start(number: usize, gate: &Arc<Gate>) -> Result<Writers> {
        let queue = Queue::new(number, gate);
        let mut threads = Vec::new();
        for me in 0..number {
            let queue = queue.clone();
            let write = move || work(&queue, me);
            threads
                .push(std::thread::Builder::new().name(format!("write-{me}")).spawn(write).context("start a thread")?);
        }
        // One batch is being filled, and each thread and this one have one.
        let all = WAITING + number + 2;
        let (waiting, open) = match descriptors::files(OPEN, all) {
            few @ ..4 => (1, few.max(descriptors::files(4, number + 3))),
            enough => (WAITING, enough),
        };
        Ok(Writers { queue, threads, batch: Batch::default(), next: 0, open, waiting, buffer: Vec::new() })
    }

    /// Writes `length` bytes to `file` at `at`; `share` gives the next of them, at most as many as it is asked for.
    pub fn copy(
        &mut self,
        file: &Arc<NewFile>,
        mut at: u64,
        mut length: u64,
        mut share: impl FnMut(usize) -> io::Result<Bytes>,
    ) -> Result<()> {
        let mut to = None;
        if length > BATCH as u64 {
            self.submit(None)?;
            self.next = (self.next + 1) % self.threads.len().max(1);
            to = Some(self.next);
        }
        while length > 0 {
            let most = usize::try_from(length).map_or(BATCH, |length| length.min(BATCH));
            let bytes = share(most).with_context(|| format!("{}: read its content", shown(file.path())))?;
            let part = bytes.len() as u64;
            self.batch.part(file, at, Piece::Bytes(bytes));
            at += part;
            length -= part.min(length);
            if to.is_some() || self.batch.is_full() {
                self.submit(to)?;
            }
        }
        Ok(())
    }

    /// Writes `length` bytes of another file, from `offset`, to `file` at `at`, without the reader of the archive seeing them.
    pub fn copy_from(
        &mut self,
        file: &Arc<NewFile>,
        at: u64,
        length: u64,
        other: &Arc<File>,
        offset: u64,
    ) -> Result<()> {
        self.batch.part(file, at, Piece::File(other.clone(), offset, length));
        if self.batch.is_full() { self.submit(None) } else { Ok(()) }
    }

    /// The file has all of its content.
    pub fn end(&mut self, file: Arc<NewFile>) -> Result<()> {
        self.batch.end(file);
        if self.batch.open >= self.open || self.batch.is_full() { self.submit(None) } else { Ok(()) }
    }

    /// Creates a file whose whole content is the next `length` bytes.
    pub fn whole(
        &mut self,
        file: Planned,
        mut length: u64,
        mut share: impl FnMut(usize) -> io::Result<Bytes>,
    ) -> Result<()> {
        let mut next = || {
            let most = usize::try_from(length).unwrap_or(usize::MAX);
            let bytes = match most {
                0 => Bytes::default(),
                most => share(most).with_context(|| format!("{}: read its content", shown(file.path())))?,
            };
            length -= (bytes.len() as u64).min(length);
            anyhow::Ok((bytes, length))
        };
        let content = match next()? {
            (bytes, 0) => Piece::Bytes(bytes),
            (first, _) => {
                let mut parts = vec![first];
                loop {
                    let (bytes, left) = next()?;
                    parts.push(bytes);
                    if left == 0 {
                        break Piece::Parts(parts);
                    }
                }
            }
        };
        self.hand_on(file, content)
    }

    /// The same with the content of another file, from `offset`.
    pub fn whole_from(&mut self, file: Planned, length: u64, other: &Arc<File>, offset: u64) -> Result<()> {
        self.hand_on(file, Piece::File(other.clone(), offset, length))
    }

    fn hand_on(&mut self, file: Planned, content: Piece) -> Result<()> {
        // Two writers in one directory would wait for each other.
        if self.batch.planned >= SOME && !self.batch.ends_beside(&file) {
            self.submit(None)?;
        }
        self.batch.whole(file, content);
        if self.batch.planned >= PLANNED || self.batch.is_full() { self.submit(None) } else { Ok(()) }
    }

    /// Waits until every file exists, even if it is not complete yet.
    pub fn settle(&mut self) -> Result<()> {
        if self.batch.planned > 0 {
            // Not submitted: waking another thread takes longer than writing most such batches here.
            self.enqueue(None)?;
        }
        let queue = self.queue.clone();
        let mut state = queue.lock();
        while state.planned > 0 && !state.failed {
            state = self.help(&queue, state);
        }
        failure(&mut state)
    }

    /// Waits until every file is complete.
    pub fn flush(&mut self) -> Result<()> {
        self.submit(None)?;
        let queue = self.queue.clone();
        let mut state = queue.lock();
        while (state.waiting > 0 || state.busy > 0) && !state.failed {
            state = self.help(&queue, state);
        }
        failure(&mut state)
    }

    fn submit(&mut self, to: Option<usize>) -> Result<()> {
        let idle = self.enqueue(to)?;
        match (idle, to) {
            (0, _) => {}
            (_, Some(_)) => self.queue.filled.notify_all(),
            (_, None) => self.queue.filled.notify_one(),
        }
        Ok(())
    }

    /// Returns the number of idle writers; none of them has been woken for this batch yet.
    fn enqueue(&mut self, to: Option<usize>) -> Result<usize> {
        let queue = self.queue.clone();
        let mut state = queue.lock();
        while state.waiting >= self.waiting && !state.failed {
            state = self.help(&queue, state);
        }
        failure(&mut state)?;
        if self.batch.is_empty() {
            return Ok(0);
        }
        let batch = std::mem::take(&mut self.batch);
        state.waiting += 1;
        state.planned += batch.planned;
        match to.and_then(|to| state.own.get_mut(to)) {
            Some(own) => own.push_back(batch),
            None => state.shared.push_back(batch),
        }
        Ok(state.idle)
    }

    /// Writes a batch here instead of waiting for somebody else to: a wait costs two context switches.
    fn help<'a>(&mut self, queue: &'a Queue, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        match state.shared.pop_front() {
            Some(batch) => queue.take(state, batch, &mut self.buffer),
            None => queue.drained.wait(state).unwrap_or_else(PoisonError::into_inner),
        }
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.queue.lock().done = true;
        self.queue.filled.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
