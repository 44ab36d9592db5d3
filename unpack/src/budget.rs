//! What an image may ask of us before it is taken for an attack. Every budget has an option, a
//! default that images in use do not come near, and a message that names both.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, anyhow};
use chain::WithHint;

#[derive(Clone, Debug)]
pub struct Limits {
    /// Refuse what GNU tar, bsdtar and Python's tarfile do not read alike, in place of taking the reading of most of them.
    pub strict: bool,
    /// Bytes of all files, and of each uncompressed stream.
    pub bytes: u64,
    /// What all layers together may ask to be made. None: in proportion to `image`.
    pub entries: Option<u64>,
    /// Bytes of the image as it is stored; from a stream, of what was read of it.
    pub image: Arc<AtomicU64>,
    /// Nested directories.
    pub depth: u64,
    /// Bytes of a path or of a link's target.
    pub name: u64,
    /// Bytes of the extended headers before one entry.
    pub pax: u64,
    /// Data segments of one sparse file.
    pub segments: u64,
    /// Bytes that one compressed byte may become, `RATIO_FREE` apart.
    pub ratio: u64,
    /// How much of `RATIO_FREE` is used.
    pub over_ratio: Arc<AtomicU64>,
    /// Bytes of earlier output that a decompressor has to keep.
    pub window: u64,
}

/// What may come out over `Limits::ratio`, of all of an image's streams together: less than this hurts no machine that
/// has room for images, and a large file of zeros (/var/log/lastlog of a high user id) is no bomb. What is in images
/// otherwise is far below the default ratio, and what gzip can do at most (1032) far above.
pub const RATIO_FREE: u64 = 1 << 30;

/// This many entries cost no more than a second or two, whatever they are.
const ENTRIES_FREE: u64 = 32 << 10;
/// Of a tree that is nothing but symbolic links, xz -6 keeps 13 bytes for each (/usr/share and /usr/lib of Debian), gzip 22.
const BYTES_OF_AN_ENTRY: u64 = 8;
const ENTRIES_MOST: u64 = 16 << 20;
/// A kernel that opens or makes a file looks at every directory above it, for its path and again for Landlock: about as
/// many levels as this cost what a file does.
const LEVELS: u64 = 32;

/// What a file or directory at this depth counts as.
pub fn weight(depth: u64) -> u64 {
    1 + depth / LEVELS
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            strict: false,
            bytes: 1 << 40,
            entries: None,
            image: Arc::default(),
            depth: 256,
            name: 1 << 20,
            pax: 1 << 20,
            segments: 1 << 20,
            ratio: 100,
            over_ratio: Arc::default(),
            window: 128 << 20,
        }
    }
}

impl Limits {
    /// Fails where `before` and now `more` bytes over the ratio are too many, with those of the image's other streams.
    pub fn take_over_ratio(&self, before: &mut u64, now: u64, what: impl fmt::Display) -> Result<()> {
        let more = now.saturating_sub(*before);
        *before = now.max(*before);
        if more == 0 || self.over_ratio.fetch_add(more, Ordering::Relaxed) + more <= RATIO_FREE {
            return Ok(());
        }
        Err(anyhow!("{what} more than {} times its size", self.ratio))
            .hint("raise it with --limit ratio=N if this image is trusted")
    }

    /// Fails where an image asks for more than is in proportion to its size.
    pub fn within_entries(&self, entries: u64) -> Result<()> {
        let image = self.image.load(Ordering::Relaxed);
        let default = || (ENTRIES_FREE + image / BYTES_OF_AN_ENTRY).min(ENTRIES_MOST);
        within(
            entries,
            self.entries.unwrap_or_else(default),
            "entries of the image and what they imply",
            "--limit entries=N",
        )
    }

    /// Fails where layers are more bytes than is in proportion to an image: it may name one layer again and again.
    pub fn within_layers(&self, bytes: u64) -> Result<()> {
        match self.over_ratio(bytes, self.image.load(Ordering::Relaxed)) {
            ..=RATIO_FREE => Ok(()),
            _ => Err(anyhow!("the layers unpack to more than {} times the image's size", self.ratio))
                .hint("raise it with --limit ratio=N if this image is trusted"),
        }
    }

    /// How many of the bytes that came out are more than the ratio allows for those that went in.
    pub fn over_ratio(&self, given: u64, taken: u64) -> u64 {
        given.saturating_sub(taken.saturating_mul(self.ratio.max(1)))
    }
}

/// Fails where `value` is over `limit`; `option` is how to raise it.
pub fn within(value: u64, limit: u64, what: impl fmt::Display, option: &str) -> Result<()> {
    if value <= limit {
        return Ok(());
    }
    Err(anyhow!("{what}: more than {limit}")).hint(format!("raise it with {option} if this image is trusted"))
}
