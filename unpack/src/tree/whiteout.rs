//! Whiteouts: they hide what lower layers made and spare what their own layer makes, wherever in it they stand.

use anyhow::{Context, Result, bail};
use rustix::fs::FileType;

use super::path::{join, shown, split};
use super::{Tree, dirs, implied, remove};

impl Tree {
    /// `.wh.NAME`: lower layers' `path` is not there.
    pub fn whiteout(&mut self, path: &[u8]) -> Result<()> {
        let Some((parent, name)) = split(path) else { bail!("a whiteout of the root directory") };
        self.dirs.make_room(&self.policy)?;
        self.dirs.pending.settle()?;
        if self.alone.is_some() {
            return self.hide_below_layer(path);
        }
        let Some(dir) = self.dirs.find(parent)? else { return Ok(()) };
        let Some(kind) = dirs::kind(&dir, name)? else { return Ok(()) };
        if self.made.is_own(&dir) {
            return Ok(());
        }
        let (entry, live) = (self.made.is_entry(&dir, name), self.made.is_live(&dir, name));
        if kind == FileType::Directory && (entry || live) {
            self.hide_below(&join(dir.path(), name), !entry)
        } else if entry {
            Ok(())
        } else {
            self.make_way(&dir, name)
        }
    }

    /// `.wh..wh..opq`: nothing of lower layers is in `path`.
    pub fn opaque(&mut self, path: &[u8]) -> Result<()> {
        self.dirs.make_room(&self.policy)?;
        self.dirs.pending.settle()?;
        if self.alone.is_some() {
            return self.empty_below_layer(path);
        }
        match self.dirs.find(path)? {
            Some(dir) => self.hide_below(dir.path(), false),
            None => Ok(()),
        }
    }

    /// Leaves of a directory what the layer under way has made. `hidden`: the directory itself is only there again for that.
    fn hide_below(&mut self, top: &[u8], hidden: bool) -> Result<()> {
        let mut below = vec![(top.to_owned(), hidden)];
        while let Some((path, hidden)) = below.pop() {
            self.dirs.make_room(&self.policy)?;
            let Some(dir) = self.dirs.find(&path)? else { continue };
            if hidden {
                dir.becomes(implied(&self.policy, self.epoch)?);
            }
            if self.made.is_own(&dir) {
                continue;
            }
            for name in remove::names(dir.fd()).with_context(|| shown(&path))? {
                let entry = self.made.is_entry(&dir, &name);
                if entry || self.made.is_live(&dir, &name) {
                    if dirs::kind(&dir, &name)? == Some(FileType::Directory) {
                        below.push((join(&path, &name), !entry));
                    }
                } else {
                    self.make_way(&dir, &name)?;
                }
            }
        }
        if let Some(dir) = self.dirs.find(top)? {
            self.made.emptied(&dir);
        }
        Ok(())
    }
}
