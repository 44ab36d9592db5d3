//! Files that other threads create and that may not exist yet. Creating or looking up such a name waits until they do, so
//! that the tree is as if each file had been created at once.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::os::fd::BorrowedFd;

use anyhow::{Context, Result};
use rustix::fs::{AtFlags, Mode};
use rustix::io::Errno;

use super::dir::Dir;

/// How many names to remember before starting over.
const NAMES: usize = 1 << 14;

pub struct Pending {
    hasher: RandomState,
    /// What was made since this began to remember, by directory and name.
    names: HashSet<u64>,
    /// How often it began: all names in a directory that was made since are known.
    begun: u64,
    waiting: bool,
    settle: Box<dyn FnMut() -> Result<()>>,
    /// Every file is made at once.
    never: bool,
}

impl Pending {
    /// `settle` waits until every file that was handed on is there.
    pub fn new(root: BorrowedFd, settle: Box<dyn FnMut() -> Result<()>>) -> Result<Pending> {
        let (hasher, never) = (RandomState::new(), has_aliases(root)?);
        Ok(Pending { hasher, names: HashSet::new(), begun: 0, waiting: false, settle, never })
    }

    /// What a directory that is made now has to remember.
    pub fn begun(&self) -> u64 {
        self.begun
    }

    pub fn may_wait(&self) -> bool {
        !self.never
    }

    pub fn settle(&mut self) -> Result<()> {
        if self.waiting {
            (self.settle)()?;
            self.waiting = false;
        }
        Ok(())
    }

    /// Before a name is looked up.
    pub fn settle_name(&mut self, dir: &Dir, name: &[u8]) -> Result<()> {
        if self.waiting && self.names.contains(&self.key(dir, name)) { self.settle() } else { Ok(()) }
    }

    /// A name is made, now.
    pub fn made(&mut self, dir: &Dir, name: &[u8]) -> Result<()> {
        let key = self.key(dir, name);
        if self.remember(key)? { Ok(()) } else { self.settle() }
    }

    /// Whether a name is surely free, without looking: it will be made, later or now.
    pub fn is_free(&mut self, dir: &Dir, name: &[u8]) -> Result<bool> {
        let key = self.key(dir, name);
        let is_new = self.remember(key)?;
        if !is_new {
            self.settle()?;
        }
        Ok(is_new && dir.all_known_since() == Some(self.begun))
    }

    /// A file was handed on.
    pub fn begin_to_wait(&mut self) {
        self.waiting = true;
    }

    fn key(&self, dir: &Dir, name: &[u8]) -> u64 {
        self.hasher.hash_one((dir.place(), name))
    }

    /// Whether the name was not known yet.
    fn remember(&mut self, key: u64) -> Result<bool> {
        if self.names.len() >= NAMES {
            self.settle()?;
            self.names.clear();
            self.begun += 1;
        }
        Ok(self.names.insert(key))
    }
}

/// Whether a filesystem treats different names as one, by case or by Unicode composition. True if that cannot be found out.
fn has_aliases(root: BorrowedFd) -> Result<bool> {
    let probe = "A\u{e9}";
    if rustix::fs::mkdirat(root, probe, Mode::RWXU).is_err() {
        return Ok(true);
    }
    let there = |name: &str| !matches!(rustix::fs::statat(root, name, AtFlags::SYMLINK_NOFOLLOW), Err(Errno::NOENT));
    let found = there("a\u{e9}") || there("Ae\u{301}");
    rustix::fs::unlinkat(root, probe, AtFlags::REMOVEDIR).with_context(|| format!("{probe}: remove it"))?;
    Ok(found)
}
