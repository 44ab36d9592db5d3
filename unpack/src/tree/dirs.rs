//! The directories that are open for writing. An open one has mode 0700 and no default ACL, so nothing made in it inherits
//! anything; its final state is remembered and set when it is closed. So memory is bounded by this many directories for a
//! tree of any size, and times are right although content arrives in any order.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use anyhow::{Context, Result};
use chain::WithHint;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::dir::Dir;
use super::meta::{Final, Policy};
use super::path::{join, shown, split};
use super::pending::Pending;
use super::place::{Place, Places};

/// Beyond this many, all open directories are closed; the few still needed are opened again.
const OPEN: usize = 384;
/// The same for the bytes of their paths, which may be long.
const PATHS: usize = 4 << 20;
/// No call takes a longer path (PATH_MAX is 4096): it is opened in pieces.
const PIECE: usize = 4000;
/// As many symbolic links as the kernel follows (path_resolution(7)).
const LINKS: u32 = 40;

const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::CLOEXEC);
/// The kernel follows no link here: we do, one at a time, to know where each directory really is.
const STRAIGHT: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

pub struct Dirs {
    root: OwnedFd,
    places: Places,
    /// By their paths without links. In order, so that all below one are side by side.
    open: BTreeMap<Vec<u8>, Rc<Dir>>,
    /// Where paths through links lead, for as long as no link or directory is removed.
    through_links: HashMap<Vec<u8>, Vec<u8>>,
    /// Of the paths in both.
    bytes: usize,
    most: usize,
    /// Names that were looked up one by one, because of a link on the way.
    looked_at: Cell<u64>,
    pub(super) pending: Pending,
}

impl Dirs {
    /// `root` is new and empty; it ends as `last` unless an entry says otherwise.
    pub fn new(root: OwnedFd, last: Final, pending: Pending, places: Places) -> Result<Dirs> {
        let most = crate::descriptors::directories(OPEN);
        let (open, through_links) = Default::default();
        let mut dirs = Dirs { root, places, open, through_links, bytes: 0, most, looked_at: Cell::new(0), pending };
        let fd = crate::retry_eintr::openat(&dirs.root, c".", DIRECTORY, Mode::empty())?;
        dirs.keep(b"", fd, Some(last))?;
        Ok(dirs)
    }

    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// What following links has cost, as entries: a name costs two calls and a file about sixteen.
    pub fn followed(&self) -> u64 {
        self.looked_at.get() / 8
    }

    /// Closes every directory: each is then what it should be, unless it is opened again.
    pub fn close(&mut self, policy: &Policy) -> Result<()> {
        self.pending.settle()?;
        self.through_links.clear();
        self.bytes = 0;
        std::mem::take(&mut self.open).into_values().try_for_each(|dir| dir.close(policy))
    }

    /// Only between two entries: a directory that is in use would change unseen.
    pub fn make_room(&mut self, policy: &Policy) -> Result<()> {
        if self.is_full() { self.close(policy) } else { Ok(()) }
    }

    /// What is at this path is about to be removed.
    pub fn forget(&mut self, path: &[u8], kind: FileType) {
        if matches!(kind, FileType::Directory | FileType::Symlink) {
            self.through_links.clear();
        }
        if kind == FileType::Directory {
            let below = (Bound::Included(join(path, b"")), Bound::Excluded([path, b"0"].concat()));
            let gone: Vec<_> = self.open.range(below).map(|(path, _)| path.clone()).collect();
            self.open.remove(path);
            gone.iter().for_each(|path| drop(self.open.remove(path)));
        }
    }

    /// The directory at `path`, if one is there.
    pub fn find(&mut self, path: &[u8]) -> Result<Option<Rc<Dir>>> {
        let path = self.straight(path)?;
        if let Some(dir) = self.open.get(&path) {
            return Ok(Some(dir.clone()));
        }
        match self.open_straight(&path) {
            Ok(fd) => self.keep(&path, fd, None).map(Some),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG) => Ok(None),
            Err(error) => Err(error).with_context(|| shown(&path)),
        }
    }

    /// Where a path leads, as a path without links. What is not there yet has no links either, and `..` in a link's
    /// target leads to the directory that the link's own way has come through; above the root is the root.
    pub fn straight(&mut self, path: &[u8]) -> Result<Vec<u8>> {
        if self.open.contains_key(path) {
            return Ok(path.to_owned());
        }
        if let Some(leads_to) = self.through_links.get(path) {
            return Ok(leads_to.clone());
        }
        match self.open_straight(path) {
            Ok(fd) => {
                self.keep(path, fd, None)?;
                return Ok(path.to_owned());
            }
            Err(Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG) => return Ok(path.to_owned()),
            Err(Errno::LOOP) => {}
            Err(error) => return Err(error).with_context(|| shown(path)),
        }
        let leads_to = self.follow(path).with_context(|| shown(path))?;
        if self.open.contains_key(&leads_to) {
            self.bytes += path.len() + leads_to.len();
            self.through_links.insert(path.to_owned(), leads_to.clone());
        }
        Ok(leads_to)
    }

    fn follow(&self, path: &[u8]) -> rustix::io::Result<Vec<u8>> {
        let names = |path: &[u8]| path.split(|&b| b == b'/').rev().map(<[u8]>::to_owned).collect::<Vec<_>>();
        let (mut at, mut to_come, mut links) = (Vec::new(), names(path), 0);
        while let Some(name) = to_come.pop() {
            match &name[..] {
                b"" | b"." => continue,
                b".." => {
                    at = split(&at).map_or(Vec::new(), |(parent, _)| parent.to_owned());
                    continue;
                }
                _ => {}
            }
            let next = join(&at, &name);
            self.looked_at.set(self.looked_at.get() + 1);
            let Some(target) = self.link(&at, &name, &next)? else {
                at = next;
                continue;
            };
            links += 1;
            if links > LINKS {
                return Err(Errno::LOOP);
            }
            if target.starts_with(b"/") {
                at.clear();
            }
            to_come.extend(names(&target));
        }
        Ok(at)
    }

    /// The target of what is at a path without links, if it is one.
    fn link(&self, parent: &[u8], name: &[u8], path: &[u8]) -> rustix::io::Result<Option<Vec<u8>>> {
        if self.open.contains_key(path) {
            return Ok(None);
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = match self.open.get(parent) {
            Some(dir) => crate::retry_eintr::openat2(dir.fd(), name, flags, STRAIGHT),
            None if path.len() < PIECE => crate::retry_eintr::openat2(&self.root, path, flags, STRAIGHT),
            None => self.open_straight(parent).and_then(|dir| crate::retry_eintr::openat2(dir, name, flags, STRAIGHT)),
        };
        match found {
            // readlinkat(2): of no link at all it says ENOENT.
            Ok(found) => match rustix::fs::readlinkat(found, c"", Vec::new()) {
                Ok(target) => Ok(Some(target.into_bytes())),
                Err(Errno::NOENT | Errno::INVAL) => Ok(None),
                Err(error) => Err(error),
            },
            Err(Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The longest part of a path without links that is there, and how much of `path` it is.
    pub fn nearest(&mut self, path: &[u8]) -> Result<(Rc<Dir>, usize)> {
        let mut known = path;
        loop {
            if let Some(dir) = self.open.get(known) {
                return Ok((dir.clone(), known.len()));
            }
            if known.len() < PIECE
                && let Ok(fd) = self.open_straight(known)
            {
                return Ok((self.keep(known, fd, None)?, known.len()));
            }
            match split(known) {
                Some((parent, _)) => known = parent,
                None => return Err(Errno::NOENT).context("the root directory"),
            }
        }
    }

    /// While a long path is made: only the last directory stays open.
    pub fn make_room_but_for(&mut self, dir: Rc<Dir>, policy: &Policy) -> Result<Rc<Dir>> {
        if !self.is_full() {
            return Ok(dir);
        }
        let path = dir.path().to_owned();
        let fd = crate::retry_eintr::openat(dir.fd(), c".", DIRECTORY, Mode::empty()).with_context(|| shown(&path))?;
        drop(dir);
        self.close(policy)?;
        self.keep(&path, fd, None)
    }

    /// Opens a directory that was just made.
    pub fn made(&mut self, parent: &Dir, name: &[u8], last: Final) -> Result<Rc<Dir>> {
        parent.touch();
        let path = join(parent.path(), name);
        let fd = crate::retry_eintr::openat(parent.fd(), name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())
            .with_context(|| shown(&path))?;
        self.keep_at(self.places.of_name(parent.place(), name), &path, fd, Some(last))
    }

    /// An existing directory, not through a link.
    pub fn open_at(&mut self, parent: &Dir, name: &[u8]) -> Result<Option<Rc<Dir>>> {
        let path = join(parent.path(), name);
        if let Some(dir) = self.open.get(&path) {
            return Ok(Some(dir.clone()));
        }
        match crate::retry_eintr::openat(parent.fd(), name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(fd) => self.keep_at(self.places.of_name(parent.place(), name), &path, fd, None).map(Some),
            Err(Errno::NOTDIR | Errno::LOOP | Errno::NOENT) => Ok(None),
            Err(error) => Err(error).with_context(|| shown(&path)),
        }
    }

    /// openat2(2), Linux 5.6.
    fn open_straight(&self, path: &[u8]) -> rustix::io::Result<OwnedFd> {
        let (mut at, mut rest) = (None, path);
        while rest.len() >= PIECE {
            let end = rest[..PIECE].iter().rposition(|&b| b == b'/').ok_or(Errno::NAMETOOLONG)?;
            at = Some(open(at.as_ref().map_or(self.root(), AsFd::as_fd), &rest[..end])?);
            rest = &rest[end + 1..];
        }
        open(at.as_ref().map_or(self.root(), AsFd::as_fd), rest)
    }

    fn keep(&mut self, path: &[u8], fd: OwnedFd, new: Option<Final>) -> Result<Rc<Dir>> {
        self.keep_at(self.places.of(path), path, fd, new)
    }

    fn keep_at(&mut self, place: Place, path: &[u8], fd: OwnedFd, new: Option<Final>) -> Result<Rc<Dir>> {
        let dir = Rc::new(match new {
            Some(last) => Dir::made(fd, place, path, last, self.pending.begun()),
            None => Dir::found(fd, place, path).with_context(|| shown(path))?,
        });
        self.bytes += path.len();
        self.open.insert(path.to_owned(), dir.clone());
        Ok(dir)
    }

    fn is_full(&self) -> bool {
        self.open.len() > self.most || self.through_links.len() > 4 * self.most || self.bytes > PATHS
    }
}

fn open(dir: BorrowedFd, path: &[u8]) -> rustix::io::Result<OwnedFd> {
    let path = if path.is_empty() { b"." } else { path };
    crate::retry_eintr::openat2(dir, path, DIRECTORY, STRAIGHT)
}

/// What a name is, without following a link. None if there is nothing.
pub fn kind(dir: &Dir, name: &[u8]) -> Result<Option<FileType>> {
    match rustix::fs::statat(dir.fd(), name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(Errno::NOENT | Errno::NAMETOOLONG) => Ok(None),
        Err(error) => Err(error).with_context(|| shown(&join(dir.path(), name))),
    }
}

/// A kernel without openat2 cannot contain an archive.
pub fn containment(root: BorrowedFd) -> Result<()> {
    match open(root, b"") {
        Err(errno @ (Errno::NOSYS | Errno::PERM)) => {
            Err(errno).context("openat2").hint(chain::sys::missing("openat2", "Linux 5.6"))
        }
        result => result.map(drop).context("openat2"),
    }
}
