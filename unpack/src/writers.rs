//! Threads that fill files: the one thread that reads the archive makes every file, in order, and hands
//! content on by descriptor, so that nothing that happens here can depend on order or on a path.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context, Result, anyhow};
use rustix::io::Errno;

use crate::descriptors;
use crate::stream::Bytes;
use crate::tree::{NewFile, shown};

/// Content is handed on in batches of about this many bytes,
const BATCH: usize = 256 << 10;
/// of at most this many files, which are open meanwhile,
const FILES: usize = 32;
/// out of at most this many chunks of what was read, which are kept meanwhile,
const CHUNKS: usize = 2;
/// and this many of them wait at once, where there are descriptors for all that.
const WAITING: usize = 16;
/// A file of many short segments has this many of them in one batch.
const PIECES: usize = 4096;
/// So much at a time is copied from file to file.
const PART: usize = 64 << 20;
/// And so much by hand.
const BUFFER: usize = 256 << 10;

#[derive(Default)]
struct Batch {
    pieces: Vec<Piece>,
    bytes: usize,
    chunks: usize,
    files: usize,
    last: Bytes,
}

struct Piece {
    file: Arc<NewFile>,
    at: u64,
    from: From,
}

enum From {
    Bytes(Bytes),
    /// A part of a file, from an offset and so long.
    File(Arc<File>, u64, u64),
}

#[derive(Default)]
struct State {
    shared: VecDeque<Batch>,
    /// A large file's parts go to one thread: two would only wait for its inode's lock.
    own: Vec<VecDeque<Batch>>,
    waiting: usize,
    busy: usize,
    /// Threads that wait for something to do.
    idle: usize,
    failure: Option<anyhow::Error>,
    failed: bool,
    done: bool,
}

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    filled: Condvar,
    drained: Condvar,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
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
    fn take<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        batch: Batch,
        buffer: &mut Vec<u8>,
    ) -> MutexGuard<'a, State> {
        state.waiting -= 1;
        state.busy += 1;
        // The reader is woken when there is room for several, since each waking costs it a switch.
        if state.waiting == WAITING / 2 {
            self.drained.notify_all();
        }
        let failed = state.failed;
        drop(state);
        if !failed && let Err(error) = write(batch.pieces, buffer) {
            self.fail(error);
        }
        let mut state = self.lock();
        state.busy -= 1;
        if state.failed || (state.waiting == 0 && state.busy == 0) {
            self.drained.notify_all();
        }
        state
    }
}

pub struct Writers {
    queue: Arc<Queue>,
    threads: Vec<JoinHandle<()>>,
    batch: Batch,
    next: usize,
    files: usize,
    waiting: usize,
    /// For what this thread writes itself.
    buffer: Vec<u8>,
}

impl Writers {
    /// Started by a thread that is confined, they are confined as it is.
    pub fn start(number: usize) -> Result<Writers> {
        let queue = Arc::new(Queue::default());
        queue.lock().own.resize_with(number, VecDeque::new);
        let mut threads = Vec::new();
        for me in 0..number {
            let queue = queue.clone();
            let write = move || work(&queue, me);
            threads
                .push(std::thread::Builder::new().name(format!("write-{me}")).spawn(write).context("start a thread")?);
        }
        // One batch is being filled, one is with each thread and with this one.
        let all = WAITING + number + 2;
        let (waiting, files) = match descriptors::files(FILES, all) {
            few @ ..4 => (1, few.max(descriptors::files(4, number + 3))),
            enough => (WAITING, enough),
        };
        Ok(Writers { queue, threads, batch: Batch::default(), next: 0, files, waiting, buffer: Vec::new() })
    }

    /// `length` bytes go to `file` at `at`; `share` gives the next of them, at most so many.
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
            let part = bytes.len();
            if !bytes.shares_its_chunk_with(&self.batch.last) {
                self.batch.chunks += 1;
                self.batch.last = bytes.clone();
            }
            self.batch.bytes += part;
            self.batch.pieces.push(Piece { file: file.clone(), at, from: From::Bytes(bytes) });
            at += part as u64;
            length -= (part as u64).min(length);
            if to.is_some() || self.batch.is_full() {
                self.submit(to)?;
            }
        }
        Ok(())
    }

    /// `length` bytes of another file, from `offset`, go to `file` at `at`; whoever reads the archive need not see them.
    pub fn copy_from(
        &mut self,
        file: &Arc<NewFile>,
        at: u64,
        length: u64,
        other: &Arc<File>,
        offset: u64,
    ) -> Result<()> {
        self.batch.bytes = self.batch.bytes.saturating_add(usize::try_from(length).unwrap_or(usize::MAX));
        let from = From::File(other.clone(), offset, length);
        self.batch.pieces.push(Piece { file: file.clone(), at, from });
        if self.batch.is_full() { self.submit(None) } else { Ok(()) }
    }

    /// All of a file's content has been handed over.
    pub fn end(&mut self, file: Arc<NewFile>) -> Result<()> {
        self.batch.pieces.push(Piece { file, at: 0, from: From::Bytes(Bytes::default()) });
        self.batch.files += 1;
        if self.batch.files >= self.files || self.batch.is_full() { self.submit(None) } else { Ok(()) }
    }

    /// Waits until every file is whole.
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
        let queue = self.queue.clone();
        let mut state = queue.lock();
        while state.waiting >= self.waiting && !state.failed {
            state = self.help(&queue, state);
        }
        failure(&mut state)?;
        if self.batch.pieces.is_empty() {
            return Ok(());
        }
        let batch = std::mem::take(&mut self.batch);
        state.waiting += 1;
        match to.and_then(|to| state.own.get_mut(to)) {
            Some(own) => own.push_back(batch),
            None => state.shared.push_back(batch),
        }
        let idle = state.idle;
        drop(state);
        match (idle, to) {
            (0, _) => {}
            (_, Some(_)) => queue.filled.notify_all(),
            (_, None) => queue.filled.notify_one(),
        }
        Ok(())
    }

    /// Writes a batch in place of waiting for somebody to do it: each waiting costs two switches.
    fn help<'a>(&mut self, queue: &'a Queue, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        match state.shared.pop_front() {
            Some(batch) => queue.take(state, batch, &mut self.buffer),
            None => queue.drained.wait(state).unwrap_or_else(PoisonError::into_inner),
        }
    }
}

impl Batch {
    fn is_full(&self) -> bool {
        self.bytes >= BATCH || self.chunks > CHUNKS || self.pieces.len() >= PIECES
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

fn failure(state: &mut State) -> Result<()> {
    match state.failed {
        true => Err(state.failure.take().unwrap_or_else(|| anyhow!("writing failed before"))),
        false => Ok(()),
    }
}

fn work(queue: &Queue, me: usize) {
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

fn write(pieces: Vec<Piece>, buffer: &mut Vec<u8>) -> Result<()> {
    for Piece { file, at, from } in pieces {
        let written = match from {
            From::Bytes(bytes) if bytes.is_empty() => Ok(()),
            From::Bytes(bytes) => file.file().write_all_at(bytes.as_slice(), at),
            From::File(other, offset, length) => copy(&other, offset, file.file(), at, length, buffer),
        };
        written.with_context(|| format!("{}: write it", shown(file.path())))?;
        // Whoever has the last part of a file finishes it.
        if let Some(file) = Arc::into_inner(file) {
            file.finish()?;
        }
    }
    Ok(())
}

/// copy_file_range(2), or by hand where the kernel or the filesystems cannot; that they cannot is known from
/// then on by the buffer that it took.
fn copy(from: &File, mut offset: u64, to: &File, mut at: u64, mut length: u64, buffer: &mut Vec<u8>) -> io::Result<()> {
    while length > 0 {
        let part = usize::try_from(length).map_or(PART, |length| length.min(PART));
        let copied = match buffer.is_empty() {
            true => rustix::fs::copy_file_range(from, Some(&mut offset.clone()), to, Some(&mut at.clone()), part),
            false => Err(Errno::OPNOTSUPP),
        };
        let n = match copied {
            Ok(n) if n > 0 => n,
            Err(Errno::INTR) => continue,
            Ok(_) | Err(Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS | Errno::PERM) => {
                buffer.resize(BUFFER, 0);
                let n = from.read_at(&mut buffer[..part.min(BUFFER)], offset)?;
                if n == 0 {
                    let why = "truncated: the file became shorter meanwhile";
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why));
                }
                to.write_all_at(&buffer[..n], at)?;
                n
            }
            Err(error) => return Err(error.into()),
        };
        offset += n as u64;
        at += n as u64;
        length -= n as u64;
    }
    Ok(())
}
