//! Numbers of our own for places in the tree. A filesystem's inode numbers will not do: an overlay over two filesystems,
//! FUSE and vfat give a directory another one each time it comes back into the cache.

use std::hash::{BuildHasher, RandomState};

/// A directory or a name in one, by its path without links.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place(u64);

/// Hashes under a random key: no image can aim at a collision, and by chance none is likely before billions of entries.
#[derive(Clone, Default)]
pub struct Places(RandomState);

impl Places {
    pub const ROOT: Place = Place(0);

    pub fn of_name(&self, dir: Place, name: &[u8]) -> Place {
        Place(self.0.hash_one((dir.0, name)))
    }

    /// The directories on a path, from the root to the one that it names.
    pub fn along<'a>(&'a self, path: &'a [u8]) -> impl Iterator<Item = Place> + 'a {
        let names = path.split(|&b| b == b'/').filter(|name| !name.is_empty());
        let mut at = Places::ROOT;
        std::iter::once(at).chain(names.map(move |name| {
            at = self.of_name(at, name);
            at
        }))
    }

    pub fn of(&self, path: &[u8]) -> Place {
        self.along(path).last().unwrap_or(Places::ROOT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_a_directory_and_its_path_are_one_place() {
        let places = Places::default();
        assert_eq!(places.of(b""), Places::ROOT);
        assert_eq!(places.of(b"a/b"), places.of_name(places.of(b"a"), b"b"));
        assert_ne!(places.of(b"a/b"), places.of(b"ab"));
        assert_eq!(places.along(b"a/b").count(), 3);
    }
}
