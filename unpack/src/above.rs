//! What the layers above have made or hidden, where layers are applied from the newest down: so nothing
//! is written that an upper layer replaces or takes away.

use std::collections::HashSet;
use std::fmt;
use std::hash::{BuildHasher, RandomState};

/// Paths, as hashes under a key of this run's own: an image cannot aim at a collision, and by chance one
/// is not to be expected before billions of entries.
#[derive(Default)]
pub struct Above {
    hasher: RandomState,
    /// Files and whiteouts: lower layers' path is hidden, and all below it.
    hidden: HashSet<u64>,
    /// Directories with an entry: it stands for lower ones.
    directories: HashSet<u64>,
    /// Directories that show nothing of lower layers.
    opaque: HashSet<u64>,
    /// Directories that whiteouts are in, or below.
    through: HashSet<u64>,
    /// No layer is below this one: nothing needs to be remembered for it.
    pub lowest: bool,
    /// What the layer under way says, which counts for those below it.
    pending: Vec<(Claim, u64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    Hidden,
    Directory,
    Opaque,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cover {
    Nothing,
    Hidden,
    Directory,
}

/// An image that cannot be applied from the newest layer down: a name leads through a link, or a hard
/// link to what another layer has. It is applied from the base up instead.
#[derive(Debug)]
pub struct OutOfOrder;

impl fmt::Display for OutOfOrder {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("layers that depend on each other")
    }
}

impl std::error::Error for OutOfOrder {}

impl Above {
    fn key(&self, path: &[u8]) -> u64 {
        self.hasher.hash_one(path)
    }

    /// What becomes of a lower layer's entry.
    pub fn cover(&self, path: &[u8]) -> Cover {
        if self.hidden.is_empty() && self.directories.is_empty() && self.opaque.is_empty() {
            return Cover::Nothing;
        }
        let ends = path.iter().enumerate().filter(|&(_, &b)| b == b'/').map(|(at, _)| at);
        let root = (!path.is_empty()).then_some(0);
        for ancestor in root.into_iter().chain(ends).map(|end| self.key(&path[..end])) {
            if self.hidden.contains(&ancestor) || self.opaque.contains(&ancestor) {
                return Cover::Hidden;
            }
        }
        let key = self.key(path);
        match (self.hidden.contains(&key), self.directories.contains(&key)) {
            (true, _) => Cover::Hidden,
            (false, true) => Cover::Directory,
            (false, false) => Cover::Nothing,
        }
    }

    pub fn claim(&mut self, claim: Claim, path: &[u8]) {
        if !self.lowest {
            self.pending.push((claim, self.key(path)));
        }
    }

    /// A whiteout was in this directory. Were the directory a link below, the whiteout would be elsewhere.
    pub fn pass_through(&mut self, dir: &[u8]) {
        let ends = dir.iter().enumerate().filter(|&(_, &b)| b == b'/').map(|(at, _)| at);
        let keys: Vec<_> = ends.chain([dir.len()]).map(|end| self.key(&dir[..end])).collect();
        self.through.extend(keys);
    }

    /// Whether whiteouts took this name, which is none, for a directory.
    pub fn was_passed_through(&self, path: &[u8]) -> bool {
        !self.through.is_empty() && self.through.contains(&self.key(path))
    }

    /// The layer is done: what it said counts for the next one.
    pub fn end_layer(&mut self) {
        for (claim, key) in self.pending.drain(..) {
            match claim {
                Claim::Hidden => self.hidden.insert(key),
                Claim::Directory => self.directories.insert(key),
                Claim::Opaque => self.opaque.insert(key),
            };
        }
        self.pending.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_counts_for_lower_layers_and_for_what_is_below_it() {
        let mut above = Above::default();
        above.claim(Claim::Hidden, b"file");
        above.claim(Claim::Directory, b"dir");
        above.claim(Claim::Opaque, b"dir/closed");
        assert_eq!(above.cover(b"file"), Cover::Nothing);
        above.end_layer();
        for (path, cover) in [
            ("file", Cover::Hidden),
            ("file/below", Cover::Hidden),
            ("file2", Cover::Nothing),
            ("dir", Cover::Directory),
            ("dir/x", Cover::Nothing),
            ("dir/closed", Cover::Nothing),
            ("dir/closed/x/y", Cover::Hidden),
            ("", Cover::Nothing),
        ] {
            assert_eq!(above.cover(path.as_bytes()), cover, "{path}");
        }
        above.claim(Claim::Opaque, b"");
        above.end_layer();
        assert_eq!((above.cover(b""), above.cover(b"x")), (Cover::Nothing, Cover::Hidden));
    }
}
