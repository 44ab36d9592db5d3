//! The new root while it is made. This is the only module that touches it: every parent is resolved by
//! the kernel inside it, every last name is made exclusively and never followed.

mod acl;
mod dir;
mod dirs;
mod link;
mod meta;
mod new_file;
mod owner;
mod path;
mod pending;
pub mod remove;
mod whiteout;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, bail};
use chain::WithHint;
use rustix::fs::{FileType, Mode};
use rustix::io::Errno;

use crate::above::OutOfOrder;
use crate::ledger::Change;
use dir::Dir;
use dirs::Dirs;
use meta::Final;
pub use meta::{Meta, Policy};
pub use new_file::{Making, NewFile, Planned};
pub use owner::{Owners, capable};
use path::split;
pub use path::{Member, shown};
use pending::Pending;
use whiteout::Made;

pub struct Tree {
    policy: Arc<Policy>,
    dirs: Dirs,
    epoch: i64,
    /// Bytes of the longest name that the filesystem takes.
    longest_name: u64,
    forward: Vec<(Vec<u8>, Vec<u8>)>,
    forward_bytes: usize,
    /// What the layer under way has made, by directory and name; None in the lowest.
    made: Option<Made>,
    /// Layers come from the newest down.
    newest_first: bool,
}

/// Entries that are neither directory nor regular file.
pub enum Special<'a> {
    Symlink(&'a [u8]),
    Fifo,
    Char(u32, u32),
    Block(u32, u32),
}

impl Tree {
    /// Layers come from the newest down, and never is anything reached through a link.
    pub fn newest_first(mut self) -> Tree {
        self.newest_first = true;
        self.dirs.follow_no_links();
        self
    }

    /// Empties a root that an attempt has left.
    pub fn reset(root: BorrowedFd) -> Result<()> {
        rustix::fs::fchmod(root, Mode::RWXU)?;
        for name in remove::names(root)? {
            remove::remove(root, &name)?;
        }
        meta::clear_xattrs(root)?;
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        Ok(rustix::fs::fchown(root, Some(uid), Some(gid))?)
    }

    /// `root` is empty and of mode 0700.
    /// `settle` waits until every planned file was made.
    pub fn new(root: OwnedFd, policy: Arc<Policy>, epoch: i64, settle: Box<dyn FnMut() -> Result<()>>) -> Result<Tree> {
        dirs::containment(root.as_fd())?;
        let last = implied(&policy, epoch)?;
        let pending = Pending::new(root.as_fd(), settle)?;
        let longest_name = rustix::fs::fstatvfs(&root).context("statvfs")?.f_namemax;
        let dirs = Dirs::new(root, last, pending)?;
        Ok(Tree {
            policy,
            dirs,
            epoch,
            longest_name,
            forward: Vec::new(),
            forward_bytes: 0,
            made: None,
            newest_first: false,
        })
    }

    pub fn root(&self) -> BorrowedFd<'_> {
        self.dirs.root()
    }

    /// Whether the filesystem takes every name of a path.
    pub fn holds(&self, path: &[u8]) -> bool {
        path.split(|&b| b == b'/').all(|name| name.len() as u64 <= self.longest_name)
    }

    /// An entry whose name, or what a link says, is longer than the filesystem takes.
    pub fn leave_out(&self, path: &[u8]) {
        self.policy.ledger.note(Change::Name, path);
    }

    /// Everything of a layer has come. Another may follow.
    pub fn end_layer(&mut self) -> Result<()> {
        self.dirs.pending.settle()?;
        for (path, target) in std::mem::take(&mut self.forward) {
            if !self.link_now(&path, &target)? {
                bail!("{}: hard link to {}, which the image does not have", shown(&path), shown(&target));
            }
        }
        self.forward_bytes = 0;
        if !self.newest_first {
            self.made = Some(Made::default());
        }
        Ok(())
    }

    /// Every directory gets its last mode, owner and times.
    pub fn close(mut self) -> Result<()> {
        self.dirs.close(&self.policy)
    }

    pub fn directory(&mut self, path: &[u8], meta: Meta) -> Result<()> {
        let last = self.policy.decide(meta, path, true)?;
        let Some((parent, name)) = split(path) else {
            self.make(b"")?.becomes(last);
            return Ok(());
        };
        loop {
            let dir = self.make(parent)?;
            self.mark(&dir, name);
            self.dirs.pending.made(&dir, name)?;
            match rustix::fs::mkdirat(dir.fd(), name, Mode::RWXU) {
                Ok(()) => {
                    self.dirs.made(&dir, name, path, last)?;
                    return Ok(());
                }
                Err(Errno::EXIST) => match self.dirs.open_at(&dir, name, path)? {
                    Some(there) => {
                        there.becomes(last);
                        return Ok(());
                    }
                    None => self.make_way(path)?,
                },
                Err(error) => return Err(error).with_context(|| format!("{}: make the directory", shown(path))),
            }
        }
    }

    /// A regular file that is there, or that is going to be once whoever it is handed to makes it, if it may wait.
    pub fn file(&mut self, path: Vec<u8>, meta: Meta, may_wait: bool) -> Result<Making> {
        let Some((parent, name)) = split(&path) else { return Err(root_is_no_directory()) };
        let last = self.policy.decide(meta, &path, false)?;
        if last.mode & 0o6000 != 0 || last.xattrs.iter().any(|(name, _)| name == b"security.capability") {
            self.policy.setuid.fetch_add(1, Ordering::Relaxed);
        }
        loop {
            let dir = self.make(parent)?;
            self.mark(&dir, name);
            if may_wait && self.dirs.pending.may_wait(&dir, name)? {
                dir.touch();
                let policy = self.policy.clone();
                return Ok(Making::Planned(Planned { dir: dir.share(), last, path, policy }));
            }
            if !may_wait {
                self.dirs.pending.made(&dir, name)?;
            }
            match new_file::open(dir.fd(), name, last.mode) {
                Ok(file) => {
                    dir.touch();
                    return Ok(Making::There(NewFile::new(file, last, path, self.policy.clone())));
                }
                Err(Errno::EXIST) => self.make_way(&path)?,
                Err(error) => return Err(error).with_context(|| format!("{}: make the file", shown(&path))),
            }
        }
    }

    pub fn special(&mut self, path: &[u8], what: Special, meta: Meta) -> Result<()> {
        let Some((parent, name)) = split(path) else { return Err(root_is_no_directory()) };
        if let Special::Char(major, minor) | Special::Block(major, minor) = what {
            let safe = matches!(what, Special::Char(..)) && is_safe(major, minor);
            if !safe && !self.policy.devices {
                return self.without_device(path);
            }
        }
        let last = self.policy.decide(meta, path, false)?;
        let mode = Mode::from_raw_mode(last.mode);
        loop {
            let dir = self.make(parent)?;
            self.mark(&dir, name);
            self.dirs.pending.made(&dir, name)?;
            let made = match what {
                Special::Symlink(target) => rustix::fs::symlinkat(target, dir.fd(), name),
                Special::Fifo => rustix::fs::mknodat(dir.fd(), name, FileType::Fifo, mode, 0),
                Special::Char(major, minor) => {
                    let device = rustix::fs::makedev(major, minor);
                    rustix::fs::mknodat(dir.fd(), name, FileType::CharacterDevice, mode, device)
                }
                Special::Block(major, minor) => {
                    let device = rustix::fs::makedev(major, minor);
                    rustix::fs::mknodat(dir.fd(), name, FileType::BlockDevice, mode, device)
                }
            };
            match made {
                Ok(()) => {
                    dir.touch();
                    let symlink = matches!(what, Special::Symlink(_));
                    return self.policy.set_by_name(dir.fd(), name, &last, symlink, path);
                }
                Err(Errno::EXIST) => self.make_way(path)?,
                // ext4 and btrfs hold 4095 bytes of a symlink's text, xfs 1024.
                Err(Errno::NAMETOOLONG) if matches!(what, Special::Symlink(_)) => {
                    self.leave_out(path);
                    return Ok(());
                }
                Err(Errno::PERM) if matches!(what, Special::Char(..) | Special::Block(..)) => {
                    self.policy.ledger.note(Change::Device, path);
                    return Ok(());
                }
                Err(error) => return Err(error).with_context(|| format!("{}: make it", shown(path))),
            }
        }
    }

    /// A device that is not made still hides what lower layers and earlier entries had there.
    fn without_device(&mut self, path: &[u8]) -> Result<()> {
        self.policy.ledger.note(Change::Device, path);
        self.dirs.pending.settle()?;
        if let Some((parent, name)) = split(path)
            && let Some(dir) = self.dirs.find(parent, &self.policy)?
            && dirs::kind(&dir, name).is_ok()
        {
            self.make_way(path)?;
        }
        Ok(())
    }

    /// Removes what is where an entry has to go.
    fn make_way(&mut self, path: &[u8]) -> Result<()> {
        let Some((parent, name)) = split(path) else { return Err(root_is_no_directory()) };
        let mut dir = self.make(parent)?;
        if self.newest_first && matches!(dirs::kind(&dir, name), Ok(FileType::Directory)) {
            return Err(OutOfOrder.into());
        }
        // Open directories may lie below it or have been reached through it.
        if !matches!(dirs::kind(&dir, name), Ok(FileType::RegularFile)) {
            self.dirs.close(&self.policy)?;
            dir = self.make(parent)?;
        }
        dir.touch();
        match remove::remove(dir.fd(), name) {
            Err(Errno::BUSY) => Err(Errno::BUSY)
                .with_context(|| format!("{}: remove what is there", shown(path)))
                .hint("something is mounted on it"),
            result => result.with_context(|| format!("{}: remove what is there", shown(path))),
        }
    }

    fn make(&mut self, path: &[u8]) -> Result<Rc<Dir>> {
        let (policy, epoch) = (&self.policy, self.epoch);
        let dir = self.dirs.make(path, policy, &|_| implied(policy, epoch)).map_err(|error| self.judged(error))?;
        let Some(made) = &mut self.made else { return Ok(dir) };
        if !made.dirs.insert(dir.inode()) {
            return Ok(dir);
        }
        let mut at = path;
        while let Some((parent, _)) = split(at) {
            at = parent;
            match self.dirs.find(at, &self.policy)? {
                Some(above) if made.dirs.insert(above.inode()) => {}
                _ => break,
            }
        }
        // Looking may have closed it.
        self.make(path)
    }

    /// From the newest layer down nothing is reached through a link: what it will be is not known yet.
    fn judged(&self, error: anyhow::Error) -> anyhow::Error {
        match error.downcast_ref::<Errno>() {
            Some(&(Errno::LOOP | Errno::NOTDIR)) if self.newest_first => OutOfOrder.into(),
            _ => error,
        }
    }

    /// Sees to it that there is a directory, as files in it have it.
    pub fn imply(&mut self, path: &[u8]) -> Result<()> {
        self.make(path).map(drop)
    }
}

fn implied(policy: &Policy, epoch: i64) -> Result<Final> {
    policy.decide_implied(Meta::implied(epoch))
}

fn root_is_no_directory() -> anyhow::Error {
    anyhow::anyhow!("the archive's entry for the root is no directory")
}

/// Devices that every container has and that give no access to anything.
fn is_safe(major: u32, minor: u32) -> bool {
    matches!((major, minor), (1, 3 | 5 | 7 | 8 | 9) | (5, 0..=2))
}
