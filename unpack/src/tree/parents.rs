//! The directories that entries are put into.

use std::rc::Rc;

use anyhow::{Context, Result};
use rustix::fs::Mode;
use rustix::io::Errno;

use super::dir::Dir;
use super::meta::Final;
use super::path::{join, levels, shown};
use super::{Tree, implied};
use crate::budget::weight;

impl Tree {
    /// The directory at a path, for an entry to go into. Made if missing, with its parents, in place of what is not a
    /// directory. Links on the way are followed, and a dangling link's target is made where it leads.
    pub(super) fn make(&mut self, path: &[u8]) -> Result<Rc<Dir>> {
        self.dirs.make_room(&self.policy)?;
        let path = self.dirs.straight(path)?;
        let (mut dir, mut done) = self.dirs.nearest(&path)?;
        while done < path.len() {
            dir = self.dirs.make_room_but_for(dir, &self.policy)?;
            let rest = &path[if done == 0 { 0 } else { done + 1 }..];
            let name = rest.split(|&b| b == b'/').next().unwrap_or(rest);
            done = path.len() - rest.len() + name.len();
            let last = implied(&self.policy, self.epoch)?;
            (dir, _) = self.make_directory(&dir, name, last)?;
            self.alone.iter_mut().for_each(|alone| alone.implied(dir.path()));
            self.implied += weight(levels(dir.path()));
        }
        self.made.put_into(&dir);
        Ok(dir)
    }

    /// A new directory that ends as `last`; or the existing one, and `last` back.
    pub(super) fn make_directory(
        &mut self,
        dir: &Rc<Dir>,
        name: &[u8],
        last: Final,
    ) -> Result<(Rc<Dir>, Option<Final>)> {
        self.dirs.pending.made(dir, name)?;
        let make = |dir: &Dir| rustix::fs::mkdirat(dir.fd(), name, Mode::RWXU);
        let mut made = make(dir);
        if made == Err(Errno::EXIST) {
            if let Some(there) = self.dirs.open_at(dir, name)? {
                return Ok((there, Some(last)));
            }
            made = self.put(dir, name, make)?;
            self.alone.iter_mut().for_each(|alone| alone.hide(join(dir.path(), name)));
        }
        made.with_context(|| format!("{}: make the directory", shown(&join(dir.path(), name))))?;
        self.waiting.forget(dir, name);
        self.made.directory(dir, name);
        Ok((self.dirs.made(dir, name, last)?, None))
    }
}
