//! What a layer is read from: its bytes, and the file that they lie in.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use crate::image::LayerStream;
use crate::stream::Bytes;

pub trait Content: Read {
    /// The file that it lies in, and where in that it begins.
    fn file(&self) -> Option<(Arc<File>, u64)>;

    /// Passes over bytes.
    fn pass(&mut self, bytes: u64) -> io::Result<()>;

    /// The next bytes, at least one and at most so many; none at the end.
    fn share(&mut self, most: usize) -> io::Result<Bytes>;
}

impl Content for LayerStream {
    fn file(&self) -> Option<(Arc<File>, u64)> {
        LayerStream::file(self).map(|(file, begin)| (file.clone(), begin))
    }

    fn pass(&mut self, bytes: u64) -> io::Result<()> {
        self.skip(bytes)
    }

    fn share(&mut self, most: usize) -> io::Result<Bytes> {
        LayerStream::share(self, most)
    }
}

impl Content for &[u8] {
    fn file(&self) -> Option<(Arc<File>, u64)> {
        None
    }

    fn pass(&mut self, bytes: u64) -> io::Result<()> {
        io::copy(&mut self.take(bytes), &mut io::sink()).map(drop)
    }

    fn share(&mut self, most: usize) -> io::Result<Bytes> {
        let (first, rest) = self.split_at(most.min(self.len()));
        *self = rest;
        Ok(Bytes::from(first.to_vec()))
    }
}
