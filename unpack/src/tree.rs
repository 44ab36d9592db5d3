//! The new root in the making. Only this module touches it: the kernel resolves every parent inside it, and every last
//! name is made exclusively and never followed.

mod acl;
mod alone;
mod dir;
mod dirs;
mod link;
mod made;
mod meta;
mod new_file;
mod owner;
mod parents;
mod path;
mod pending;
mod place;
pub mod remove;
mod whiteout;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result};
use chain::WithHint;
use rustix::fs::{FileType, Mode};
use rustix::io::Errno;

use crate::ledger::Change;
use alone::Alone;
pub use alone::{Needs, Whiteouts};
use dir::Dir;
use dirs::Dirs;
pub use dirs::containment;
use link::Waiting;
use made::Made;
use meta::Final;
pub use meta::{Meta, Policy};
pub use new_file::{Making, NewFile, Planned};
pub use owner::Owners;
pub use path::{Member, shown};
use path::{join, split};
use pending::Pending;
use place::Places;

pub struct Tree {
    policy: Arc<Policy>,
    dirs: Dirs,
    epoch: i64,
    /// Bytes of the longest name that the filesystem takes.
    longest_name: u64,
    waiting: Waiting,
    made: Made,
    implied: u64,
    /// For a layer that is extracted without those below it.
    alone: Option<Alone>,
}

/// Entries that are neither directory nor regular file.
pub enum Special<'a> {
    Symlink(&'a [u8]),
    Fifo,
    Char(u32, u32),
    Block(u32, u32),
}

impl Tree {
    /// `root` is empty. `settle` waits until every planned file exists.
    pub fn new(root: OwnedFd, policy: Arc<Policy>, epoch: i64, settle: Box<dyn FnMut() -> Result<()>>) -> Result<Tree> {
        // Whatever the umask, a setgid parent or a default ACL has made of it.
        rustix::fs::fchmod(&root, Mode::RWXU)?;
        policy.owners.look_at(root.as_fd()).context("find out whose group files get")?;
        let last = implied(&policy, epoch)?;
        let pending = Pending::new(root.as_fd(), settle)?;
        let longest_name = rustix::io::retry_on_intr(|| rustix::fs::fstatvfs(&root)).context("statvfs")?.f_namemax;
        let places = Places::default();
        let dirs = Dirs::new(root, last, pending, places.clone())?;
        Ok(Tree {
            policy,
            dirs,
            epoch,
            longest_name,
            waiting: Waiting::default(),
            made: Made::first_layer(places),
            implied: 0,
            alone: None,
        })
    }

    /// Extracts one layer, noting what it hides and needs of those below it.
    pub fn alone(self) -> Tree {
        Tree { alone: Some(Alone::new()), ..self }
    }

    pub fn root(&self) -> BorrowedFd<'_> {
        self.dirs.root()
    }

    /// Directories made without an entry, and links followed, weighed as entries are.
    pub fn implied(&self) -> u64 {
        self.implied + self.dirs.followed()
    }

    /// Whether the filesystem takes every name of a path.
    pub fn holds(&self, path: &[u8]) -> bool {
        path.split(|&b| b == b'/').all(|name| name.len() as u64 <= self.longest_name)
    }

    /// An entry with a name or a link target longer than the filesystem takes.
    pub fn leave_out(&self, path: &[u8]) {
        self.policy.ledger.note(Change::Name, path);
    }

    /// The layer is complete. Another may follow.
    pub fn end_layer(&mut self) -> Result<()> {
        self.dirs.pending.settle()?;
        let linked = self.link_waiting();
        match &mut self.alone {
            // With the layers below, the link may not have had to wait: its target's name may lead in circles by now.
            Some(alone) if linked.is_err() => alone.needs_flattening(),
            _ => linked?,
        }
        self.made.next_layer();
        Ok(())
    }

    /// Removes what a layer had only for its links to lead to.
    pub fn remove(&mut self, name: &[u8]) -> Result<()> {
        self.dirs.pending.settle()?;
        match self.dirs.find(b"")? {
            Some(root) if dirs::kind(&root, name)?.is_some() => self.make_way(&root, name),
            _ => Ok(()),
        }
    }

    /// Every directory gets its last mode, owner and times.
    pub fn close(mut self) -> Result<()> {
        self.dirs.close(&self.policy)
    }

    pub fn directory(&mut self, path: &[u8], meta: Meta) -> Result<()> {
        let last = self.policy.decide(meta, path, true)?;
        let Some((parent, name)) = split(path) else {
            self.make(b"")?.becomes(last);
            self.alone.iter_mut().for_each(|alone| alone.entry(b""));
            return Ok(());
        };
        let dir = self.make(parent)?;
        self.made.entry(&dir, name);
        self.alone.iter_mut().for_each(|alone| alone.entry(&join(dir.path(), name)));
        if let (there, Some(last)) = self.make_directory(&dir, name, last)? {
            there.becomes(last);
        }
        Ok(())
    }

    /// A regular file: created, or, if it may wait, planned for another thread to create.
    pub fn file(&mut self, path: Vec<u8>, meta: Meta, may_wait: bool) -> Result<Making> {
        let Some((parent, name)) = split(&path) else { return Err(root_is_no_directory()) };
        let last = self.policy.decide(meta, &path, false)?;
        if last.mode & 0o6000 != 0 {
            self.policy.setuid.fetch_add(1, Ordering::Relaxed);
        } else if last.xattrs.iter().any(|(name, _)| name == b"security.capability") {
            self.policy.capable.fetch_add(1, Ordering::Relaxed);
        }
        let dir = self.make(parent)?;
        self.claim(&dir, name);
        if !self.dirs.pending.is_free(&dir, name)? {
            self.make_way(&dir, name)?;
        }
        dir.touch();
        let policy = self.policy.clone();
        if may_wait && self.dirs.pending.may_wait() {
            self.dirs.pending.begin_to_wait();
            return Ok(Making::Planned(Planned { dir: dir.share(), last, path, policy }));
        }
        let mode = policy.made_as(&last);
        let file = self.put(&dir, name, |dir| new_file::open(dir.fd(), name, mode))?;
        let file = file.with_context(|| format!("{}: make the file", shown(&path)))?;
        Ok(Making::There(NewFile::new(file, last, path, policy)))
    }

    pub fn special(&mut self, path: &[u8], what: Special, meta: Meta) -> Result<()> {
        let Some((parent, name)) = split(path) else { return Err(root_is_no_directory()) };
        if let Special::Char(major, minor) | Special::Block(major, minor) = what {
            let safe = matches!(what, Special::Char(..)) && is_safe(major, minor);
            let whiteout = self.policy.overlaid && (major, minor) == (0, 0);
            if whiteout || (!safe && !self.policy.devices) {
                return self.without_device(path);
            }
        }
        let last = self.policy.decide(meta, path, false)?;
        let mode = Mode::from_raw_mode(last.mode);
        let dir = self.make(parent)?;
        self.claim(&dir, name);
        self.dirs.pending.made(&dir, name)?;
        let made = self.put(&dir, name, |dir| match what {
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
        })?;
        match made {
            Ok(()) => {
                dir.touch();
                let symlink = matches!(what, Special::Symlink(_));
                self.policy.set_by_name(dir.fd(), name, &last, symlink, path)
            }
            // ext4 and btrfs hold 4095 bytes of a symlink's text, xfs 1024.
            Err(Errno::NAMETOOLONG) if matches!(what, Special::Symlink(_)) => {
                self.make_way(&dir, name)?;
                self.alone.iter_mut().for_each(|alone| alone.hide(join(dir.path(), name)));
                self.leave_out(path);
                Ok(())
            }
            Err(Errno::PERM) if matches!(what, Special::Char(..) | Special::Block(..)) => {
                // mknod(2) asks for the privilege first: what is there has not made way yet.
                self.make_way(&dir, name)?;
                self.alone.iter_mut().for_each(|alone| alone.hide(join(dir.path(), name)));
                self.policy.ledger.note(Change::Device, path);
                Ok(())
            }
            Err(error) => Err(error).with_context(|| format!("{}: make it", shown(path))),
        }
    }

    /// Even a device that is not made hides what lower layers and earlier entries had there.
    fn without_device(&mut self, path: &[u8]) -> Result<()> {
        self.policy.ledger.note(Change::Device, path);
        self.dirs.make_room(&self.policy)?;
        self.dirs.pending.settle()?;
        if let Some((parent, name)) = split(path)
            && let Some(dir) = self.dirs.find(parent)?
        {
            self.claim(&dir, name);
            self.make_way(&dir, name)?;
        }
        if self.alone.is_some() { self.hide_below_layer(path) } else { Ok(()) }
    }

    /// Notes that the layer has something under this name.
    fn claim(&mut self, dir: &Dir, name: &[u8]) {
        self.made.entry(dir, name);
        self.waiting.forget(dir, name);
    }

    /// Creates a name in place of whatever has it.
    fn put<T>(
        &mut self,
        dir: &Dir,
        name: &[u8],
        make: impl Fn(&Dir) -> rustix::io::Result<T>,
    ) -> Result<rustix::io::Result<T>> {
        let mut made = make(dir);
        if matches!(made, Err(Errno::EXIST)) {
            self.make_way(dir, name)?;
            made = make(dir);
        }
        if made.is_ok() {
            dir.touch();
        }
        Ok(made)
    }

    /// Removes whatever has a name.
    fn make_way(&mut self, dir: &Dir, name: &[u8]) -> Result<()> {
        let Some(kind) = dirs::kind(dir, name)? else { return Ok(()) };
        let path = join(dir.path(), name);
        if kind == FileType::Directory {
            // Files may still be on their way into it.
            self.dirs.pending.settle()?;
            self.waiting.forget_below(&path);
        }
        self.dirs.forget(&path, kind);
        dir.touch();
        let removed = remove::remove(dir.fd(), name);
        let busy = removed == Err(Errno::BUSY);
        let removed = removed.with_context(|| format!("{}: remove what is there", shown(&path)));
        //: remove what is there | rmdir, unlink: EBUSY | something is mounted on it | the only cause |
        //: unpack/refusals::a_mount_in_the_way_of_an_entry_is_named
        if busy { removed.hint("something is mounted on it") } else { removed }
    }
}

fn implied(policy: &Policy, epoch: i64) -> Result<Final> {
    policy.decide_implied(Meta::implied(epoch))
}

fn root_is_no_directory() -> anyhow::Error {
    anyhow::anyhow!("the archive's entry for the root is no directory")
}

/// The devices that every container has, and that give access to nothing.
fn is_safe(major: u32, minor: u32) -> bool {
    matches!((major, minor), (1, 3 | 5 | 7 | 8 | 9) | (5, 0..=2))
}
