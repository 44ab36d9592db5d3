//! Bytes on their way from an image's reader to the writers of its files: shared, never copied.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// How much is read at a time.
pub const CHUNK: usize = 256 << 10;

/// Buffers to use again: fresh memory costs a page fault for each page.
static SPARE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// A buffer of `CHUNK` bytes to read into.
pub fn buffer() -> Vec<u8> {
    let mut bytes = SPARE.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
    bytes.resize(CHUNK, 0);
    bytes
}

struct Chunk(Vec<u8>);

impl Drop for Chunk {
    fn drop(&mut self) {
        if self.0.capacity() == CHUNK {
            SPARE.lock().unwrap_or_else(PoisonError::into_inner).push(std::mem::take(&mut self.0));
        }
    }
}

/// A part of a chunk, which lives as long as any part of it.
#[derive(Clone, Default)]
pub struct Bytes {
    chunk: Option<Arc<Chunk>>,
    range: Range<usize>,
}

impl Bytes {
    pub fn as_slice(&self) -> &[u8] {
        self.chunk.as_ref().and_then(|chunk| chunk.0.get(self.range.clone())).unwrap_or_default()
    }

    pub fn len(&self) -> usize {
        self.range.len()
    }

    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    pub fn advance(&mut self, bytes: usize) {
        self.range.start = self.range.end.min(self.range.start + bytes);
    }

    /// Takes the first bytes, as many as there are.
    pub fn take(&mut self, most: usize) -> Bytes {
        let mut first = self.clone();
        first.range.end = self.range.end.min(self.range.start.saturating_add(most));
        self.advance(first.len());
        first
    }

    pub fn shares_its_chunk_with(&self, other: &Bytes) -> bool {
        match (&self.chunk, &other.chunk) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Bytes {
        Bytes { range: 0..bytes.len(), chunk: Some(Arc::new(Chunk(bytes))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_from_the_front_is_gone_there() {
        let mut bytes = Bytes::from(b"abcdef".to_vec());
        let first = bytes.take(2);
        assert_eq!((first.as_slice(), bytes.as_slice()), (&b"ab"[..], &b"cdef"[..]));
        assert!(first.shares_its_chunk_with(&bytes));
        bytes.advance(1);
        assert_eq!(bytes.take(9).as_slice(), b"def");
        assert!(bytes.is_empty() && bytes.take(1).is_empty());
    }
}
