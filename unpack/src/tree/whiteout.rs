//! Whiteouts, where layers are applied from the base up: they hide what lower layers made and spare
//! what their own did, wherever in it they stand.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use anyhow::{Context, Result, bail};
use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;

use super::dir::Dir;
use super::dirs;
use super::path::{join, shown, split};
use super::{Tree, implied, remove};

/// What the layer under way has made.
#[derive(Default)]
pub(super) struct Made {
    hasher: RandomState,
    names: HashSet<u64>,
    /// Directories that something was made in, and those above them.
    pub(super) dirs: HashSet<u64>,
}

impl Made {
    fn key(&self, dir: &Dir, name: &[u8]) -> u64 {
        self.hasher.hash_one((dir.inode(), name))
    }
}

impl Tree {
    /// `.wh.NAME`: lower layers' `path` is not there.
    pub fn whiteout(&mut self, path: &[u8]) -> Result<()> {
        self.dirs.pending.settle()?;
        let Some((parent, name)) = split(path) else { bail!("a whiteout of the root directory") };
        let Some(dir) = self.dirs.find(parent, &self.policy)? else { return Ok(()) };
        let made = self.made.as_ref().is_none_or(|made| made.names.contains(&made.key(&dir, name)));
        match dirs::kind(&dir, name) {
            Ok(FileType::Directory) => {
                let Some(below) = self.dirs.open_at(&dir, name, path)? else { return Ok(()) };
                let live = self.made.as_ref().is_none_or(|made| made.dirs.contains(&below.inode()));
                if made || live {
                    if !made {
                        below.becomes(implied(&self.policy, self.epoch)?);
                    }
                    drop((dir, below));
                    self.opaque(path)
                } else {
                    self.make_way(path)
                }
            }
            Ok(_) if !made => self.make_way(path),
            _ => Ok(()),
        }
    }

    /// `.wh..wh..opq`: nothing of lower layers is in `path`.
    pub fn opaque(&mut self, path: &[u8]) -> Result<()> {
        self.dirs.pending.settle()?;
        let mut below = vec![path.to_owned()];
        while let Some(path) = below.pop() {
            let Some(dir) = self.dirs.find(&path, &self.policy)? else { continue };
            for name in remove::names(dir.fd()).with_context(|| shown(&path))? {
                let Some(made) = &self.made else { return Ok(()) };
                let child = join(&path, &name);
                let kind = dirs::kind(&dir, &name).with_context(|| shown(&child))?;
                let known = made.names.contains(&made.key(&dir, &name));
                let live = kind == FileType::Directory
                    && rustix::fs::statat(dir.fd(), &name[..], AtFlags::SYMLINK_NOFOLLOW)
                        .is_ok_and(|stat| made.dirs.contains(&stat.st_ino));
                if kind == FileType::Directory && (known || live) {
                    // Hidden, and there again for what this layer has in it.
                    if !known && let Some(again) = self.dirs.open_at(&dir, &name, &child)? {
                        again.becomes(implied(&self.policy, self.epoch)?);
                    }
                    below.push(child);
                } else if !known {
                    dir.touch();
                    remove::remove(dir.fd(), &name).with_context(|| format!("{}: remove it", shown(&child)))?;
                }
            }
        }
        // Cached directories may be among those removed.
        self.dirs.close(&self.policy)
    }

    /// Whether there is a directory, not through a link.
    pub fn is_directory(&mut self, path: &[u8]) -> Result<bool> {
        let Some((parent, name)) = split(path) else { return Ok(true) };
        self.dirs.pending.settle()?;
        let Some(dir) = self.dirs.find(parent, &self.policy)? else { return Ok(false) };
        Ok(matches!(dirs::kind(&dir, name), Ok(FileType::Directory)))
    }

    /// Whether what is there of a directory's path ends in something else than a directory.
    pub fn leads_elsewhere(&mut self, path: &[u8]) -> Result<bool> {
        self.dirs.pending.settle()?;
        let mut at = path;
        while let Some((parent, name)) = split(at) {
            if let Some(dir) = self.dirs.find(parent, &self.policy)? {
                return Ok(!matches!(dirs::kind(&dir, name), Ok(FileType::Directory) | Err(Errno::NOENT)));
            }
            at = parent;
        }
        Ok(false)
    }

    pub(super) fn mark(&mut self, dir: &Dir, name: &[u8]) {
        if let Some(made) = &mut self.made {
            let key = made.key(dir, name);
            made.names.insert(key);
        }
    }
}
