//! Hard links, which may come before what they link to.

use anyhow::{Context, Result, bail};
use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;

use super::path::{shown, split};
use super::{Tree, dirs};

/// More bytes of names than this are not kept for links whose target has not come yet.
const FORWARD: usize = 64 << 20;

impl Tree {
    /// A hard link; one whose target has not come yet waits for the end of the layer.
    pub fn hard_link(&mut self, path: &[u8], target: &[u8]) -> Result<()> {
        if !self.link_now(path, target)? {
            self.forward_bytes += path.len() + target.len();
            if self.forward_bytes > FORWARD {
                bail!("{}: too many hard links to files that come later", shown(path));
            }
            self.forward.push((path.to_owned(), target.to_owned()));
        }
        Ok(())
    }

    /// A hard link, if its target is there.
    pub fn link_now(&mut self, path: &[u8], target: &[u8]) -> Result<bool> {
        let (Some((parent, name)), Some((target_parent, target_name))) = (split(path), split(target)) else {
            bail!("{}: hard link to {}", shown(path), shown(target));
        };
        loop {
            let Some(source) = self.dirs.find(target_parent, &self.policy)? else { return Ok(false) };
            self.dirs.pending.settle_name(&source, target_name)?;
            let kind = match dirs::kind(&source, target_name) {
                Ok(kind) => kind,
                Err(Errno::NOENT) => return Ok(false),
                Err(error) => return Err(error).with_context(|| shown(target)),
            };
            if kind == FileType::Directory {
                bail!("{}: hard link to the directory {}", shown(path), shown(target));
            }
            let dir = self.make(parent)?;
            self.mark(&dir, name);
            self.dirs.pending.made(&dir, name)?;
            if (dir.inode(), name) == (source.inode(), target_name) {
                return Ok(true);
            }
            match rustix::fs::linkat(source.fd(), target_name, dir.fd(), name, AtFlags::empty()) {
                Ok(()) => {
                    dir.touch();
                    return Ok(true);
                }
                Err(Errno::EXIST) => self.make_way(path)?,
                Err(error) => {
                    return Err(error).with_context(|| format!("{}: hard link to {}", shown(path), shown(target)));
                }
            }
        }
    }
}
