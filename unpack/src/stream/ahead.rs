//! A reader on its own thread, a bounded number of chunks ahead of the consumer. A second thread may digest the same
//! chunks at the same time.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::bytes::{Bytes, buffer};
use crate::digest::{Algorithm, Digest, Hasher};

/// Chunks in flight: 8 MiB. Small files keep the writers busy, large ones the decompressor; this much lets one go on while
/// it is the other's turn.
const AHEAD: usize = 32;

pub struct Ahead<S> {
    chunks: Receiver<io::Result<Bytes>>,
    current: Bytes,
    ended: bool,
    reader: Option<JoinHandle<S>>,
    hasher: Option<JoinHandle<Digest>>,
}

/// Starts reading `source`, and hashing what it reads if there is an algorithm.
pub fn run_ahead<S: Read + Send + 'static>(source: S, digest: Option<Algorithm>) -> io::Result<Ahead<S>> {
    let (sender, chunks) = sync_channel(AHEAD);
    let (to_hasher, hasher) = match digest {
        Some(algorithm) => {
            let (sender, receiver) = sync_channel(AHEAD);
            (Some(sender), Some(spawn("digest", move || digest_chunks(algorithm, &receiver))?))
        }
        None => (None, None),
    };
    let reader = spawn("read", move || read_chunks(source, &sender, to_hasher))?;
    Ok(Ahead { chunks, current: Bytes::default(), ended: false, reader: Some(reader), hasher })
}

fn spawn<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> io::Result<JoinHandle<T>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work)
}

/// Returns the source at its end, after an error, or when nobody wants more of it.
fn read_chunks<S: Read>(mut source: S, sender: &SyncSender<io::Result<Bytes>>, hasher: Option<SyncSender<Bytes>>) -> S {
    loop {
        let mut bytes = buffer();
        let mut filled = 0;
        let mut end = None;
        while filled < bytes.len() && end.is_none() {
            match source.read(&mut bytes[filled..]) {
                Ok(0) => end = Some(None),
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => end = Some(Some(error)),
            }
        }
        bytes.truncate(filled);
        let chunk = Bytes::from(bytes);
        if filled > 0 {
            if hasher.as_ref().is_some_and(|hasher| hasher.send(chunk.clone()).is_err()) {
                return source;
            }
            if sender.send(Ok(chunk)).is_err() {
                return source;
            }
        }
        match end {
            None => {}
            Some(None) => return source,
            Some(Some(error)) => {
                // If this fails, nobody is listening any more.
                let _ = sender.send(Err(error));
                return source;
            }
        }
    }
}

fn digest_chunks(algorithm: Algorithm, chunks: &Receiver<Bytes>) -> Digest {
    let mut hasher = Hasher::new(algorithm);
    for chunk in chunks {
        hasher.update(chunk.as_slice());
    }
    hasher.finish()
}

impl<S> Ahead<S> {
    /// After the end: the source, and the digest of all that it read.
    pub fn finish(mut self) -> io::Result<(S, Option<Digest>)> {
        let digest = self.hasher.take().map(JoinHandle::join).transpose();
        let source = self.reader.take().map(JoinHandle::join).transpose();
        match (source, digest) {
            (Ok(Some(source)), Ok(digest)) => Ok((source, digest)),
            _ => Err(io::Error::other("a reading thread ended too early")),
        }
    }

    /// The next bytes: at least one and at most `most`, or none at the end.
    pub fn share(&mut self, most: usize) -> io::Result<Bytes> {
        self.fill_buf()?;
        Ok(self.current.take(most))
    }
}

impl<S> BufRead for Ahead<S> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while !self.ended && self.current.is_empty() {
            self.current = Bytes::default();
            match self.chunks.recv() {
                Ok(chunk) => self.current = chunk?,
                Err(_) => self.ended = true,
            }
        }
        Ok(self.current.as_slice())
    }

    fn consume(&mut self, amount: usize) {
        self.current.advance(amount);
    }
}

impl<S> Read for Ahead<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?;
        let n = bytes.len().min(buffer.len());
        buffer[..n].copy_from_slice(&bytes[..n]);
        self.consume(n);
        Ok(n)
    }
}
