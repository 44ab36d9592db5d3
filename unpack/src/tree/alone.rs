//! A layer that is extracted alone, for overlayfs to put over others. What it hides below it becomes overlayfs's marks,
//! and what only the layers below can answer is noted as a need.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use rustix::fs::{AtFlags, FileType, Mode, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;

use super::path::{join, shown, split};
use super::{Tree, dirs};

/// At most this many bytes of names are noted. A layer that has more is flattened with those below it.
const NOTED: usize = 16 << 20;
/// A longer path is not looked up below in one call (PATH_MAX is 4096).
const LONGEST: usize = 3000;

/// What a layer needs from those below it, and what it does to them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// It can never stand alone.
    pub flat: bool,
    /// It has nothing but its root directory, and leaves what is below as it is.
    pub empty: bool,
    /// Nothing of the layers below is seen but the root directory's metadata.
    pub opaque_root: bool,
    /// Whether whiteouts are devices or attributes, where there are any.
    pub whiteouts: Option<Whiteouts>,
    /// May be no link and no file below.
    pub parents: BTreeSet<Vec<u8>>,
    /// Must be directories below.
    pub there: BTreeSet<Vec<u8>>,
    /// May not be there below.
    pub absent: BTreeSet<Vec<u8>>,
    /// Directories whose metadata come from below, if they are there.
    pub implied: BTreeSet<Vec<u8>>,
}

/// The form of whiteouts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whiteouts {
    /// Character devices 0:0, which anybody may make since Linux 5.8.
    Devices,
    /// Files with an attribute, where devices are refused: below any other overlay. Linux 6.8.
    Attributes,
}

/// What is noted while entries come.
#[derive(Default)]
pub struct Alone {
    /// Nothing of what is below is seen at or below these.
    hidden: BTreeSet<Vec<u8>>,
    /// Nothing of what is below is seen in these.
    emptied: BTreeSet<Vec<u8>>,
    /// Directories that were made without an entry, and whether none has come since.
    parents: BTreeMap<Vec<u8>, bool>,
    absent: BTreeSet<Vec<u8>>,
    flat: bool,
    bytes: usize,
}

/// What the layer itself has at a path.
#[derive(PartialEq, Eq)]
enum Own {
    Directory,
    /// Something else is there, or on the way.
    Other,
    Nothing,
}

impl Alone {
    pub fn new() -> Alone {
        Alone { parents: BTreeMap::from([(Vec::new(), true)]), ..Alone::default() }
    }

    fn has_room(&mut self, path: &[u8]) -> bool {
        self.bytes += path.len() + 1;
        if self.bytes > NOTED || path.len() > LONGEST {
            self.flat = true;
        }
        !self.flat
    }

    fn is_hidden_above(&self, path: &[u8]) -> bool {
        let above = |path: &[u8]| self.hidden.contains(path) || self.emptied.contains(path);
        let mut at = path;
        while let Some((parent, _)) = split(at) {
            if above(parent) {
                return true;
            }
            at = parent;
        }
        false
    }

    fn is_hidden(&self, path: &[u8]) -> bool {
        self.hidden.contains(path) || self.is_hidden_above(path)
    }

    /// A directory is made without an entry, or stands in for one below.
    pub fn implied(&mut self, path: &[u8]) {
        if !self.is_hidden(path) && !self.parents.contains_key(path) && self.has_room(path) {
            self.parents.insert(path.to_owned(), true);
        }
    }

    /// An entry speaks of this directory.
    pub fn entry(&mut self, path: &[u8]) {
        if let Some(implied) = self.parents.get_mut(path) {
            *implied = false;
        }
    }

    /// What is below at this path is gone, whatever comes here later.
    pub fn hide(&mut self, path: Vec<u8>) {
        if self.has_room(&path) {
            self.hidden.insert(path);
        }
    }

    pub fn needs_flattening(&mut self) {
        self.flat = true;
    }
}

impl Tree {
    /// What comes out of this layer alone is not what it is above others. False if it is not extracted alone.
    pub fn needs_flattening(&mut self) -> bool {
        self.alone.as_mut().map(Alone::needs_flattening).is_some()
    }

    /// For a whiteout, or a device that is not made.
    pub(super) fn hide_below_layer(&mut self, path: &[u8]) -> Result<()> {
        let Some((parent, name)) = split(path) else { return Ok(()) };
        let parent = self.dirs.straight(parent)?;
        let path = join(&parent, name);
        if self.own(&parent)? != Own::Other {
            self.need_parents(&parent)?;
            self.alone.iter_mut().for_each(|alone| alone.hide(path.clone()));
        }
        Ok(())
    }

    /// For an opaque whiteout.
    pub(super) fn empty_below_layer(&mut self, path: &[u8]) -> Result<()> {
        let path = self.dirs.straight(path)?;
        if self.own(&path)? != Own::Other {
            self.need_parents(&path)?;
            if let Some(alone) = &mut self.alone
                && alone.has_room(&path)
            {
                alone.emptied.insert(path);
            }
        }
        Ok(())
    }

    /// For a hard link to what the layer does not have, or not yet.
    pub(super) fn need_absent(&mut self, target: &[u8]) -> Result<()> {
        let Some((parent, name)) = split(target) else { return Ok(()) };
        let parent = self.dirs.straight(parent)?;
        let target = join(&parent, name);
        if let Some(alone) = &mut self.alone
            && !alone.is_hidden(&target)
            && alone.has_room(&target)
        {
            alone.absent.insert(target);
        }
        Ok(())
    }

    fn own(&mut self, path: &[u8]) -> Result<Own> {
        let Some((parent, name)) = split(path) else { return Ok(Own::Directory) };
        let (dir, known) = self.dirs.nearest(parent)?;
        let missing = parent.get(known..).unwrap_or_default().split(|&b| b == b'/').find(|name| !name.is_empty());
        Ok(match (dirs::kind(&dir, missing.unwrap_or(name))?, missing) {
            (None, _) => Own::Nothing,
            (Some(FileType::Directory), None) => Own::Directory,
            _ => Own::Other,
        })
    }

    /// The directories on a path that the layer does not have are needed below, or must not lead elsewhere.
    fn need_parents(&mut self, path: &[u8]) -> Result<()> {
        let (_, known) = self.dirs.nearest(path)?;
        let ends = (known + 1..=path.len()).filter(|&end| end == path.len() || path[end] == b'/');
        for end in ends.filter(|_| known < path.len()) {
            self.alone.iter_mut().for_each(|alone| alone.implied(&path[..end]));
        }
        Ok(())
    }

    /// Writes the marks of a layer that was extracted alone.
    pub fn finish_alone(&mut self) -> Result<Needs> {
        let Some(alone) = self.alone.take() else { return Ok(Needs::default()) };
        let (mut whiteouts, mut opaque, mut there) = (Vec::new(), Vec::new(), BTreeSet::new());
        for path in alone.hidden.iter().filter(|path| !alone.is_hidden_above(path)) {
            self.dirs.make_room(&self.policy)?;
            match self.own(path)? {
                Own::Directory => opaque.push(path.clone()),
                Own::Other => {}
                Own::Nothing => {
                    let Some((parent, name)) = split(path) else { continue };
                    if self.own(parent)? == Own::Nothing {
                        there.insert(parent.to_owned());
                    }
                    whiteouts.push((parent.to_owned(), name.to_owned()));
                }
            }
        }
        for path in alone.emptied.iter().filter(|path| !alone.is_hidden(path)) {
            self.dirs.make_room(&self.policy)?;
            match self.own(path)? {
                Own::Other => continue,
                Own::Nothing => drop(there.insert(path.clone())),
                Own::Directory => {}
            }
            opaque.push(path.clone());
        }
        let mut needs = Needs { flat: alone.flat, absent: alone.absent.clone(), there, ..Needs::default() };
        if !needs.flat {
            for path in &needs.there {
                self.make(path)?;
            }
            needs.whiteouts = self.make_whiteouts(&whiteouts)?;
            for path in alone.parents.iter().filter(|(path, implied)| **implied && !alone.is_hidden(path)) {
                self.dirs.make_room(&self.policy)?;
                if self.own(path.0)? == Own::Directory {
                    needs.implied.insert(path.0.clone());
                }
            }
            needs.opaque_root = opaque.iter().any(Vec::is_empty);
            needs.empty = !needs.opaque_root && super::remove::names(self.root())?.is_empty();
            needs.parents = alone.parents.into_keys().filter(|path| !path.is_empty()).collect();
            self.mark(&whiteouts, &opaque, needs.whiteouts)?;
        }
        Ok(needs)
    }

    fn make_whiteouts(&mut self, whiteouts: &[(Vec<u8>, Vec<u8>)]) -> Result<Option<Whiteouts>> {
        let mut form = None;
        let time = Timespec { tv_sec: self.epoch, tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };
        for (parent, name) in whiteouts {
            let dir = self.make(parent)?;
            let what = || format!("{}: make a whiteout", shown(&join(parent, name)));
            dir.touch();
            if form != Some(Whiteouts::Attributes) {
                let device = rustix::fs::makedev(0, 0);
                match rustix::fs::mknodat(dir.fd(), &name[..], FileType::CharacterDevice, Mode::empty(), device) {
                    Err(Errno::PERM | Errno::ACCESS) if form.is_none() => form = Some(Whiteouts::Attributes),
                    made => {
                        made.with_context(what)?;
                        form = Some(Whiteouts::Devices);
                    }
                }
            }
            if form == Some(Whiteouts::Attributes) {
                let file = super::new_file::open(dir.fd(), name, 0o600).with_context(what)?;
                set(&file, "user.overlay.whiteout", b"y").with_context(what)?;
            }
            // A layer made twice is the same.
            rustix::fs::utimensat(dir.fd(), &name[..], &times, AtFlags::SYMLINK_NOFOLLOW).with_context(what)?;
        }
        Ok(form)
    }

    /// Marks directories, once nothing clears their attributes any more.
    fn mark(&mut self, whiteouts: &[(Vec<u8>, Vec<u8>)], opaque: &[Vec<u8>], form: Option<Whiteouts>) -> Result<()> {
        self.dirs.close(&self.policy)?;
        let mut holders: Vec<_> = whiteouts.iter().map(|(parent, _)| parent).collect();
        holders.dedup();
        // Without an origin, readdir of a directory that only one layer has shows its whiteouts (overlayfs, ovl_get_inode).
        let origin: (&str, &[u8]) = ("user.overlay.origin", b"");
        let attributes = (form == Some(Whiteouts::Attributes)).then_some(("user.overlay.opaque", &b"x"[..]));
        let holders = holders.into_iter().flat_map(|path| [Some(origin), attributes].map(|mark| (path, mark)));
        let opaque = opaque.iter().map(|path| (path, Some(("user.overlay.opaque", &b"y"[..]))));
        for (path, mark) in holders.chain(opaque) {
            let Some((name, value)) = mark else { continue };
            self.dirs.make_room(&self.policy)?;
            let dir = self.dirs.find(path)?.with_context(|| format!("{}: is gone", shown(path)))?;
            set(dir.fd(), name, value).with_context(|| format!("{}: set {name}", shown(path)))?;
        }
        Ok(())
    }
}

fn set(file: impl std::os::fd::AsFd, name: &str, value: &[u8]) -> rustix::io::Result<()> {
    rustix::fs::fsetxattr(file, name, value, XattrFlags::empty())
}
