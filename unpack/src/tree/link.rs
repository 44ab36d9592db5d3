//! Hard links, which may come before what they link to.

use std::collections::BTreeMap;
use std::ops::Bound;

use anyhow::{Context, Result, bail};
use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;

use super::dir::Dir;
use super::path::{join, shown, split};
use super::{Tree, dirs};

/// At most this many bytes of names are kept for links whose target has not come yet.
const WAITING: usize = 64 << 20;

/// Links that wait for their target until the end of the layer, by their paths without links.
#[derive(Default)]
pub struct Waiting {
    links: BTreeMap<Vec<u8>, Link>,
    bytes: usize,
}

struct Link {
    /// As the archive has them.
    path: Vec<u8>,
    target: Vec<u8>,
}

impl Waiting {
    fn add(&mut self, place: Vec<u8>, path: &[u8], target: &[u8]) -> Result<()> {
        self.bytes += place.len() + path.len() + target.len();
        if self.bytes > WAITING {
            bail!("{}: too many hard links to files that come later", shown(path));
        }
        self.links.insert(place, Link { path: path.to_owned(), target: target.to_owned() });
        Ok(())
    }

    /// A later entry takes this name.
    pub fn forget(&mut self, dir: &Dir, name: &[u8]) {
        if !self.links.is_empty() {
            self.links.remove(&join(dir.path(), name));
        }
    }

    /// This directory is about to be removed.
    pub fn forget_below(&mut self, path: &[u8]) {
        if !self.links.is_empty() {
            let below = (Bound::Included(join(path, b"")), Bound::Excluded([path, b"0"].concat()));
            let gone: Vec<_> = self.links.range(below).map(|(place, _)| place.clone()).collect();
            gone.iter().for_each(|place| drop(self.links.remove(place)));
        }
    }
}

impl Tree {
    /// A hard link; one whose target has not come yet waits for the end of the layer.
    pub fn hard_link(&mut self, path: &[u8], target: &[u8]) -> Result<()> {
        let Some((parent, name)) = split(path) else { bail!("a hard link in place of the root directory") };
        let dir = self.make(parent)?;
        self.claim(&dir, name);
        if self.link(&dir, name, path, target)? {
            return Ok(());
        }
        // It replaces what is there now, and nothing that comes later.
        self.dirs.pending.made(&dir, name)?;
        self.make_way(&dir, name)?;
        if self.alone.is_some() {
            self.need_absent(target)?;
            self.alone.iter_mut().for_each(|alone| alone.hide(join(dir.path(), name)));
        }
        self.waiting.add(join(dir.path(), name), path, target)
    }

    /// The layer is complete.
    pub(super) fn link_waiting(&mut self) -> Result<()> {
        while let Some((place, link)) = self.waiting.links.pop_first() {
            // What it links to may wait as well.
            let mut chain = vec![(place, link)];
            while let Some((_, link)) = chain.last()
                && let Some((parent, name)) = split(&link.target)
                && let target = join(&self.dirs.straight(parent)?, name)
                && let Some(next) = self.waiting.links.remove_entry(&target)
            {
                chain.push(next);
            }
            while let Some((place, Link { path, target })) = chain.pop() {
                self.dirs.make_room(&self.policy)?;
                let Some((parent, name)) = split(&place) else { continue };
                let Some(dir) = self.dirs.find(parent)? else { continue };
                if self.link(&dir, name, &path, &target)? {
                    continue;
                }
                match &mut self.alone {
                    // A layer below may have it.
                    Some(alone) => alone.needs_flattening(),
                    None => bail!("{}: hard link to {}, which the image does not have", shown(&path), shown(&target)),
                }
            }
        }
        self.waiting.bytes = 0;
        Ok(())
    }

    /// Makes the link if its target is there.
    fn link(&mut self, dir: &Dir, name: &[u8], path: &[u8], target: &[u8]) -> Result<bool> {
        let Some((parent, target_name)) = split(target) else {
            bail!("{}: hard link to {}", shown(path), shown(target));
        };
        let Some(source) = self.dirs.find(parent)? else { return Ok(false) };
        self.dirs.pending.settle_name(&source, target_name)?;
        match dirs::kind(&source, target_name)? {
            None => return Ok(false),
            Some(FileType::Directory) => {
                // A layer below may have a file or a link there.
                let Some(alone) = &mut self.alone else {
                    bail!("{}: hard link to the directory {}", shown(path), shown(target));
                };
                alone.needs_flattening();
                return Ok(true);
            }
            Some(_) if (dir.place(), name) == (source.place(), target_name) => return Ok(true),
            Some(_) => {}
        }
        self.dirs.pending.made(dir, name)?;
        let link = |dir: &Dir| rustix::fs::linkat(source.fd(), target_name, dir.fd(), name, AtFlags::empty());
        match self.put(dir, name, link)? {
            // The target was below what made way for the link.
            Err(Errno::NOENT) => return Ok(false),
            result => result.with_context(|| format!("{}: hard link to {}", shown(path), shown(target)))?,
        }
        Ok(true)
    }
}
