//! The directories that are open for writing. While one is, it has mode 0700 and no default ACL, so
//! that nothing made in it inherits anything; what it should be in the end is remembered and set when
//! it is closed. So a tree of any size needs the memory of this many directories, and times are right
//! although content arrives in any order.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use anyhow::{Context, Result};
use chain::WithHint;
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::dir::Dir;
use super::meta::{Final, Policy};
use super::path::{join, shown, split};
use super::pending::Pending;

/// More open directories than this are closed at once, the few still needed opened again.
const OPEN: usize = 384;
/// The same for the bytes of their paths, which may be long.
const PATHS: usize = 4 << 20;
/// Longer paths (PATH_MAX is 4096) are walked name by name.
const WALKED: usize = 4000;
/// As many symbolic links as the kernel follows (path_resolution(7)).
const LINKS: u32 = 40;

const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::CLOEXEC);
const INSIDE: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);
const ONE_NAME: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

pub struct Dirs {
    root: OwnedFd,
    by_path: HashMap<Vec<u8>, Rc<Dir>>,
    by_inode: HashMap<u64, Rc<Dir>>,
    paths: usize,
    open: usize,
    inside: ResolveFlags,
    pub(super) pending: Pending,
}

impl Dirs {
    /// `root` is new, empty and of mode 0700; it ends as `last` unless an entry says otherwise.
    pub fn new(root: OwnedFd, last: Final, pending: Pending) -> Result<Dirs> {
        let mut dirs = Dirs {
            root,
            by_path: HashMap::new(),
            by_inode: HashMap::new(),
            paths: 0,
            open: crate::descriptors::directories(OPEN),
            inside: INSIDE,
            pending,
        };
        let fd = crate::patient::openat(&dirs.root, c".", DIRECTORY, Mode::empty())?;
        dirs.keep(b"", fd, Some(last))?;
        Ok(dirs)
    }

    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Closes every directory: each is then what it should be, unless it is opened again. Also how
    /// the cache forgets directories that are replaced or reached through links that are.
    pub fn close(&mut self, policy: &Policy) -> Result<()> {
        self.pending.settle()?;
        self.by_path.clear();
        self.paths = 0;
        self.by_inode.drain().try_for_each(|(_, dir)| dir.close(policy))
    }

    /// The directory at `path`, as the kernel resolves it inside the root, if it is there.
    pub fn find(&mut self, path: &[u8], policy: &Policy) -> Result<Option<Rc<Dir>>> {
        self.make_room(policy)?;
        if let Some(dir) = self.by_path.get(path) {
            return Ok(Some(dir.clone()));
        }
        self.pending.settle()?;
        if path.len() < WALKED {
            return match self.resolve(path) {
                Ok(fd) => self.keep(path, fd, None).map(Some),
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
                Err(error) => Err(error).with_context(|| shown(path)),
            };
        }
        let (mut dir, mut done) = self.nearest(path)?;
        while done < path.len() {
            let here = end(path, done);
            match step(dir.fd(), next_name(path, done)) {
                Ok(fd) if self.full() => {
                    drop(dir);
                    self.close(policy)?;
                    dir = self.keep(&path[..here], fd, None)?;
                }
                Ok(fd) => dir = self.keep(&path[..here], fd, None)?,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
                Err(error) => return Err(error).with_context(|| shown(path)),
            }
            done = here;
        }
        Ok(Some(dir))
    }

    /// The directory at `path`, made with its parents as `implied` where it is not there.
    pub fn make(&mut self, path: &[u8], policy: &Policy, implied: &dyn Fn(&[u8]) -> Result<Final>) -> Result<Rc<Dir>> {
        self.make_through(path, policy, implied, LINKS)
    }

    fn make_through(
        &mut self,
        path: &[u8],
        policy: &Policy,
        implied: &dyn Fn(&[u8]) -> Result<Final>,
        links: u32,
    ) -> Result<Rc<Dir>> {
        self.make_room(policy)?;
        if let Some(dir) = self.by_path.get(path) {
            return Ok(dir.clone());
        }
        let (mut dir, mut done) = self.nearest(path)?;
        while done < path.len() {
            if self.full() {
                // One name deeper than there are descriptors: only the last directory stays open.
                let fd =
                    crate::patient::openat(dir.fd(), c".", DIRECTORY, Mode::empty()).with_context(|| shown(path))?;
                drop(dir);
                self.close(policy)?;
                dir = self.keep(&path[..done], fd, None)?;
            }
            let (name, here) = (next_name(path, done), &path[..end(path, done)]);
            self.pending.settle_name(&dir, name)?;
            let step = step(dir.fd(), name);
            if matches!(step, Err(Errno::LOOP | Errno::NOTDIR)) {
                // A link may lead to anything.
                self.pending.settle()?;
            }
            let child = match step {
                Err(Errno::NOENT) => self.create(&dir, name, here, implied(here)?)?,
                Ok(fd) => self.keep(here, fd, None)?,
                Err(Errno::LOOP | Errno::NOTDIR) if here.len() < WALKED => match self.resolve(here) {
                    Ok(fd) => self.keep(here, fd, None)?,
                    Err(Errno::NOENT) if links > 0 => {
                        let target = rustix::fs::readlinkat(dir.fd(), name, Vec::new())
                            .with_context(|| shown(here))?
                            .into_bytes();
                        let target = beside(split(here).map_or(&b""[..], |(parent, _)| parent), &target);
                        self.make_through(&target, policy, implied, links - 1)?;
                        let fd = self.resolve(here).with_context(|| shown(here))?;
                        self.keep(here, fd, None)?
                    }
                    Err(error) => return Err(error).with_context(|| shown(here)),
                },
                Err(Errno::LOOP) => {
                    return Err(Errno::LOOP).with_context(|| format!("{}: a link beyond PATH_MAX", shown(here)));
                }
                Err(error) => return Err(error).with_context(|| shown(here)),
            };
            (dir, done) = (child, here.len());
        }
        Ok(dir)
    }

    /// Makes one directory that is known not to be there.
    fn create(&mut self, parent: &Dir, name: &[u8], path: &[u8], last: Final) -> Result<Rc<Dir>> {
        self.pending.made(parent, name)?;
        rustix::fs::mkdirat(parent.fd(), name, Mode::RWXU)
            .with_context(|| format!("{}: make the directory", shown(path)))?;
        self.made(parent, name, path, last)
    }

    /// Opens a directory that was just made.
    pub fn made(&mut self, parent: &Dir, name: &[u8], path: &[u8], last: Final) -> Result<Rc<Dir>> {
        parent.touch();
        let fd = crate::patient::openat(parent.fd(), name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())
            .with_context(|| shown(path))?;
        self.keep(path, fd, Some(last))
    }

    /// A directory that is there already, not through a link.
    pub fn open_at(&mut self, parent: &Dir, name: &[u8], path: &[u8]) -> Result<Option<Rc<Dir>>> {
        match crate::patient::openat(parent.fd(), name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(fd) => self.keep(path, fd, None).map(Some),
            Err(Errno::NOTDIR | Errno::LOOP | Errno::NOENT) => Ok(None),
            Err(error) => Err(error).with_context(|| shown(path)),
        }
    }

    /// The longest open ancestor, or one that a single call opens, and how much of `path` it is. That call could find a
    /// file that is not there yet: while there are such, names are taken one by one.
    fn nearest(&mut self, path: &[u8]) -> Result<(Rc<Dir>, usize)> {
        let mut known = path;
        loop {
            if let Some(dir) = self.by_path.get(known) {
                return Ok((dir.clone(), known.len()));
            }
            if known.is_empty() {
                let fd = crate::patient::openat(&self.root, c".", DIRECTORY, Mode::empty())?;
                return Ok((self.keep(b"", fd, None)?, 0));
            }
            if known.len() < WALKED
                && self.pending.is_empty()
                && let Ok(fd) = self.resolve(known)
            {
                return Ok((self.keep(known, fd, None)?, known.len()));
            }
            known = split(known).map_or(&b""[..], |(parent, _)| parent);
        }
    }

    /// openat2(2), Linux 5.6: the kernel keeps `..`, absolute links and `/proc` links inside the root.
    fn resolve(&self, path: &[u8]) -> rustix::io::Result<OwnedFd> {
        let path = if path.is_empty() { b"." } else { path };
        open(self.root.as_fd(), path, self.inside)
    }

    /// From here on every link on the way to a directory is an error.
    pub fn follow_no_links(&mut self) {
        self.inside = ONE_NAME;
    }

    /// Takes a directory into the cache; one that is known by another path stays one.
    fn keep(&mut self, path: &[u8], fd: OwnedFd, new: Option<Final>) -> Result<Rc<Dir>> {
        let stat = rustix::fs::fstat(&fd).with_context(|| shown(path))?;
        let dir = match (self.by_inode.get(&stat.st_ino), new) {
            (Some(dir), _) => dir.clone(),
            (None, Some(last)) => Rc::new(Dir::made(fd, &stat, path, last, self.pending.begun())),
            (None, None) => Rc::new(Dir::found(fd, &stat, path).with_context(|| shown(path))?),
        };
        self.by_inode.insert(stat.st_ino, dir.clone());
        self.paths += path.len();
        self.by_path.insert(path.to_owned(), dir.clone());
        Ok(dir)
    }

    fn full(&self) -> bool {
        self.by_inode.len() > self.open || self.by_path.len() > 4 * self.open || self.paths > PATHS
    }

    fn make_room(&mut self, policy: &Policy) -> Result<()> {
        if self.full() { self.close(policy) } else { Ok(()) }
    }
}

/// One name, not through a link.
fn step(dir: BorrowedFd, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    open(dir, name, ONE_NAME)
}

fn open(dir: BorrowedFd, path: &[u8], resolve: ResolveFlags) -> rustix::io::Result<OwnedFd> {
    crate::patient::openat2(dir, path, DIRECTORY, resolve)
}

/// Where the name that starts after `done` ends.
fn end(path: &[u8], done: usize) -> usize {
    let start = if done == 0 { 0 } else { done + 1 };
    path[start..].iter().position(|&b| b == b'/').map_or(path.len(), |length| start + length)
}

fn next_name(path: &[u8], done: usize) -> &[u8] {
    &path[if done == 0 { 0 } else { done + 1 }..end(path, done)]
}

/// A link's target as a path from the root, by its text: only to know what to make; where it then
/// leads the kernel says.
fn beside(dir: &[u8], target: &[u8]) -> Vec<u8> {
    let mut path = if target.starts_with(b"/") { Vec::new() } else { dir.to_owned() };
    for part in target.split(|&b| b == b'/') {
        path = match part {
            b"" | b"." => path,
            b".." => split(&path).map_or(Vec::new(), |(parent, _)| parent.to_owned()),
            part => join(&path, part),
        };
    }
    path
}

/// What a name is, not through a link.
pub fn kind(dir: &Dir, name: &[u8]) -> rustix::io::Result<rustix::fs::FileType> {
    rustix::fs::statat(dir.fd(), name, AtFlags::SYMLINK_NOFOLLOW)
        .map(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode))
}

/// A kernel without openat2 cannot contain an archive.
pub fn containment(root: BorrowedFd) -> Result<()> {
    match open(root, b".", INSIDE) {
        Err(Errno::NOSYS) => Err(Errno::NOSYS).context("openat2").hint("Linux 5.6 or newer is needed"),
        result => result.map(drop).context("openat2"),
    }
}
