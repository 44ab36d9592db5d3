//! Threads that fill files: the one thread that reads the archive makes every file, in order, and hands
//! content on by descriptor, so that nothing that happens here can depend on order or on a path.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context, Result, anyhow};
use rustix::io::Errno;

use crate::confine::Confinement;
use crate::descriptors;
use crate::tree::{NewFile, shown};

/// Content travels in buffers of this many bytes,
const BUFFER: usize = 256 << 10;
/// of at most this many files, which are open meanwhile,
const FILES: usize = 32;
/// and this many of them wait at once, where there are descriptors for all that.
const WAITING: usize = 8;
/// A file of many short segments has this many of them in one buffer.
const PIECES: usize = 4096;
/// So much at a time is copied from file to file.
const PART: usize = 64 << 20;

struct Batch {
    data: Vec<u8>,
    used: usize,
    pieces: Vec<Piece>,
}

struct Piece {
    file: Arc<NewFile>,
    at: u64,
    from: From,
}

enum From {
    Buffer(Range<usize>),
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
    spare: Vec<Vec<u8>>,
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
}

pub struct Writers {
    queue: Arc<Queue>,
    threads: Vec<JoinHandle<()>>,
    batch: Batch,
    next: usize,
    files: usize,
    waiting: usize,
}

impl Writers {
    pub fn start(number: usize, confinement: &Arc<Confinement>) -> Result<Writers> {
        let queue = Arc::new(Queue::default());
        queue.lock().own.resize_with(number, VecDeque::new);
        let mut threads = Vec::new();
        for me in 0..number {
            let (queue, confinement) = (queue.clone(), confinement.clone());
            let write = move || {
                if let Err(error) = confinement.enter() {
                    queue.fail(error);
                }
                work(&queue, me);
            };
            threads
                .push(std::thread::Builder::new().name(format!("write-{me}")).spawn(write).context("start a thread")?);
        }
        let batch = Batch { data: vec![0; BUFFER], used: 0, pieces: Vec::new() };
        // One batch is being filled, one is with each thread.
        let all = WAITING + number + 1;
        let (waiting, files) = match descriptors::files(FILES, all) {
            few @ ..4 => (1, few.max(descriptors::files(4, number + 2))),
            enough => (WAITING, enough),
        };
        Ok(Writers { queue, threads, batch, next: 0, files, waiting })
    }

    /// `length` bytes from `content` go to `file` at `at`.
    pub fn copy(&mut self, file: &Arc<NewFile>, mut at: u64, mut length: u64, content: &mut impl Read) -> Result<()> {
        let mut to = None;
        if length > BUFFER as u64 {
            self.submit(None)?;
            self.next = (self.next + 1) % self.threads.len().max(1);
            to = Some(self.next);
        }
        while length > 0 {
            let room = BUFFER - self.batch.used;
            let part = usize::try_from(length).map_or(room, |length| length.min(room));
            let range = self.batch.used..self.batch.used + part;
            content
                .read_exact(&mut self.batch.data[range.clone()])
                .with_context(|| format!("{}: read its content", shown(file.path())))?;
            self.batch.used += part;
            self.batch.pieces.push(Piece { file: file.clone(), at, from: From::Buffer(range) });
            at += part as u64;
            length -= part as u64;
            if self.batch.used == BUFFER || self.batch.pieces.len() >= PIECES {
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
        let from = From::File(other.clone(), offset, length);
        self.batch.pieces.push(Piece { file: file.clone(), at, from });
        self.submit(None)
    }

    /// All of a file's content has been handed over.
    pub fn end(&mut self, file: Arc<NewFile>) -> Result<()> {
        let empty = self.batch.used..self.batch.used;
        self.batch.pieces.push(Piece { file, at: 0, from: From::Buffer(empty) });
        if self.batch.pieces.len() >= self.files { self.submit(None) } else { Ok(()) }
    }

    /// Waits until every file is whole.
    pub fn flush(&mut self) -> Result<()> {
        self.submit(None)?;
        let mut state = self.queue.lock();
        while (state.waiting > 0 || state.busy > 0) && !state.failed {
            state = self.queue.drained.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        failure(&mut state)
    }

    fn submit(&mut self, to: Option<usize>) -> Result<()> {
        let mut state = self.queue.lock();
        while state.waiting >= self.waiting && !state.failed {
            state = self.queue.drained.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        failure(&mut state)?;
        if self.batch.pieces.is_empty() {
            return Ok(());
        }
        let data = state.spare.pop();
        let fresh =
            Batch { data: data.unwrap_or_else(|| vec![0; BUFFER]), used: 0, pieces: Vec::with_capacity(self.files) };
        let batch = std::mem::replace(&mut self.batch, fresh);
        state.waiting += 1;
        match to.and_then(|to| state.own.get_mut(to)) {
            Some(own) => own.push_back(batch),
            None => state.shared.push_back(batch),
        }
        drop(state);
        if to.is_some() {
            self.queue.filled.notify_all()
        } else {
            self.queue.filled.notify_one()
        }
        Ok(())
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
            state = queue.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        state.waiting -= 1;
        state.busy += 1;
        // The reader is woken when there is room for several, since each waking costs it a switch.
        if state.waiting == WAITING / 2 {
            queue.drained.notify_all();
        }
        let failed = state.failed;
        drop(state);
        let Batch { data, pieces, .. } = batch;
        if !failed && let Err(error) = write(pieces, &data, &mut buffer) {
            queue.fail(error);
        }
        state = queue.lock();
        state.busy -= 1;
        state.spare.push(data);
        if state.failed || (state.waiting == 0 && state.busy == 0) {
            queue.drained.notify_all();
        }
    }
}

fn write(pieces: Vec<Piece>, data: &[u8], buffer: &mut Vec<u8>) -> Result<()> {
    for Piece { file, at, from } in pieces {
        let written = match from {
            From::Buffer(range) if range.is_empty() => Ok(()),
            From::Buffer(range) => file.file().write_all_at(data.get(range).unwrap_or_default(), at),
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
