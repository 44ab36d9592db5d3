//! What an image may ask of us before it is taken for an attack. Every budget has an option, a
//! default that images in use do not come near, and a message that names both.

use std::fmt;

use anyhow::{Result, anyhow};
use chain::WithHint;

#[derive(Clone, Debug)]
pub struct Limits {
    /// Refuse what GNU tar, bsdtar and Python's tarfile do not read alike, in place of taking the reading of most of them.
    pub strict: bool,
    /// Bytes of all files, and of each uncompressed stream.
    pub bytes: u64,
    /// Entries of all layers together.
    pub entries: u64,
    /// Nested directories.
    pub depth: u64,
    /// Bytes of a path or of a link's target.
    pub name: u64,
    /// Bytes of the extended headers before one entry.
    pub pax: u64,
    /// Data segments of one sparse file.
    pub segments: u64,
    /// Bytes that one compressed byte may become, once more than `RATIO_FREE` came out.
    pub ratio: u64,
    /// Bytes of what came out before that a decompressor has to keep.
    pub window: u64,
}

/// Output that the compression ratio is not looked at for: a layer of one file of zeros is no bomb. What is
/// in images otherwise is far below the default ratio, and what gzip can do at most (1032) far above.
pub const RATIO_FREE: u64 = 256 << 20;

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            strict: false,
            bytes: 1 << 40,
            entries: 16 << 20,
            depth: 4096,
            name: 1 << 20,
            pax: 1 << 20,
            segments: 1 << 20,
            ratio: 100,
            window: 128 << 20,
        }
    }
}

/// Fails where `value` is over `limit`; `option` is how to raise it.
pub fn within(value: u64, limit: u64, what: impl fmt::Display, option: &str) -> Result<()> {
    if value <= limit {
        return Ok(());
    }
    Err(anyhow!("{what}: more than {limit}")).hint(format!("raise it with {option} if this image is trusted"))
}
