//! Compressed streams, told by their first bytes, never by names or media types.

mod ahead;
mod bytes;
mod codec;
mod failure;
mod memory;

use std::io::{self, Read};

use anyhow::anyhow;
use chain::WithHint;

pub use ahead::{Ahead, run_ahead};
pub use bytes::{Bytes, buffer};
pub use failure::{failure, hinted};

use crate::budget::Limits;
use codec::{Codec, Next};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    Plain,
    Gzip,
    Xz,
    Zstd,
    Bzip2,
}

impl Compression {
    /// How many first bytes `of` needs to see.
    pub const LOOK: usize = 10;

    pub fn of(head: &[u8]) -> Compression {
        match head {
            [0x1f, 0x8b, 8, ..] => Compression::Gzip,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
            // A frame, or a skippable frame before it.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
            // The first block, or the end of an empty stream.
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, ..]
            | [b'B', b'Z', b'h', b'1'..=b'9', 0x17, 0x72, 0x45, 0x38, 0x50, 0x90, ..] => Compression::Bzip2,
            _ => Compression::Plain,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Compression::Plain => "plain",
            Compression::Gzip => "gzip",
            Compression::Xz => "xz",
            Compression::Zstd => "zstd",
            Compression::Bzip2 => "bzip2",
        }
    }
}

/// Decompresses a stream, and reads it to its very end.
pub struct Decoder<R> {
    input: R,
    codec: Option<Codec>,
    name: &'static str,
    buffer: Box<[u8]>,
    begin: usize,
    end: usize,
    at_end_of_input: bool,
    /// At the end of a member, or before the first: what the next bytes are is not decided yet.
    between: bool,
    finished: bool,
    /// Bytes in and out, for the budgets.
    taken: u64,
    given: u64,
    over_ratio: u64,
    limits: Limits,
}

const INPUT: usize = 128 << 10;

impl<R: Read> Decoder<R> {
    pub fn new(input: R, compression: Compression, limits: &Limits) -> io::Result<Decoder<R>> {
        Ok(Decoder {
            input,
            codec: Codec::new(compression, limits.window)?,
            name: compression.name(),
            buffer: vec![0; INPUT].into(),
            begin: 0,
            end: 0,
            at_end_of_input: false,
            between: true,
            finished: false,
            taken: 0,
            given: 0,
            over_ratio: 0,
            limits: limits.clone(),
        })
    }

    /// What it reads from: at its end once the last byte is out.
    pub fn into_inner(self) -> R {
        self.input
    }

    /// How many bytes have come out so far.
    pub fn given(&self) -> u64 {
        self.given
    }

    fn refill(&mut self) -> io::Result<()> {
        if self.begin > 0 {
            self.buffer.copy_within(self.begin..self.end, 0);
            self.end -= self.begin;
            self.begin = 0;
        }
        while !self.at_end_of_input && self.end < self.buffer.len() {
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(0) => self.at_end_of_input = true,
                Ok(n) => {
                    self.end += n;
                    self.taken += n as u64;
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn decode(&mut self, output: &mut [u8]) -> io::Result<usize> {
        let mut idle = 0;
        loop {
            if self.finished {
                return Ok(0);
            }
            if self.between {
                self.begin_member()?;
                continue;
            }
            if self.begin == self.end && !self.at_end_of_input {
                self.refill()?;
            }
            let Some(codec) = &mut self.codec else {
                return Ok(0);
            };
            let input = &self.buffer[self.begin..self.end];
            let step = codec.decode(input, output, self.at_end_of_input).map_err(|why| self.damaged(why))?;
            self.begin += step.taken;
            self.between = step.ended;
            if step.given > 0 {
                return Ok(step.given);
            }
            if step.taken == 0 && !step.ended && !output.is_empty() {
                // liblzma may report no progress once while its threads are still at work.
                idle += 1;
                if idle > 2 && (self.at_end_of_input || self.end - self.begin == self.buffer.len()) {
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        format!("truncated: the {} data ends in the middle", self.name),
                    ));
                }
                // The codec wants to see more at once.
                self.refill()?;
            }
        }
    }

    /// Decides what the next bytes are, before the first member and after each.
    fn begin_member(&mut self) -> io::Result<()> {
        while self.end - self.begin < Compression::LOOK && !self.at_end_of_input {
            self.refill()?;
        }
        let next = &self.buffer[self.begin..self.end];
        let Some(codec) = &mut self.codec else {
            return Ok(());
        };
        match codec.next(next, self.at_end_of_input) {
            Next::Member => {
                codec.restart()?;
                self.between = false;
            }
            Next::Padding(n) => self.begin += n,
            Next::End => self.finish()?,
            Next::Garbage => {
                let error = io::Error::new(io::ErrorKind::InvalidData, "something else follows");
                return Err(self.damaged(error));
            }
        }
        Ok(())
    }

    /// Reads what follows the last member, so that the input's digest covers all of it.
    fn finish(&mut self) -> io::Result<()> {
        loop {
            let behind = &self.buffer[self.begin..self.end];
            if self.limits.strict && behind.iter().any(|&b| b != 0) {
                let error: anyhow::Result<()> =
                    Err(anyhow!("there is more behind the {} data: not every program ignores it", self.name));
                return error.hint("without --strict it is read as most of them do").map_err(failure);
            }
            self.begin = self.end;
            if self.at_end_of_input {
                self.finished = true;
                return Ok(());
            }
            self.refill()?;
        }
    }

    fn damaged(&self, why: io::Error) -> io::Error {
        if failure::is_failure(&why) {
            return why;
        }
        let before = self.taken - (self.end - self.begin) as u64;
        let text = format!("the {} data is damaged near byte {before}: {why}", self.name);
        io::Error::new(io::ErrorKind::InvalidData, text)
    }

    fn within_budgets(&mut self) -> io::Result<()> {
        if self.given > self.limits.bytes {
            let error: anyhow::Result<()> =
                Err(anyhow!("the {} data unpacks to more than {} bytes", self.name, self.limits.bytes));
            return error.hint("raise it with --limit bytes=N if this image is trusted").map_err(failure);
        }
        let over = self.limits.over_ratio(self.given, self.taken);
        let what = format_args!("the {} data unpacks to", self.name);
        self.limits.take_over_ratio(&mut self.over_ratio, over, what).map_err(failure)
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, output: &mut [u8]) -> io::Result<usize> {
        if self.codec.is_some() {
            let n = self.decode(output)?;
            self.given += n as u64;
            self.within_budgets()?;
            return Ok(n);
        }
        let n = self.input.read(output)?;
        self.given += n as u64;
        self.taken += n as u64;
        self.within_budgets()?;
        Ok(n)
    }
}
