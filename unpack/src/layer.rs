//! Applying a layer's entries to the tree, whiteouts included, by the OCI image specification.

mod content;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::Timespec;

use crate::above::{Above, Claim, Cover, OutOfOrder};
use crate::budget::{Limits, within};
use crate::frame::{Archive, Entry, Kind, Segment, Time};
use crate::gate::Gate;
use crate::ledger::Change;
use crate::tree::{Making, Member, Meta, NewFile, Planned, Policy, Special, Tree, shown};
use crate::writers::{WHOLE, Writers};
pub use content::Content;

const WHITEOUT: &[u8] = b".wh.";
/// What aufs keeps for itself in its branches begins like this.
const AUFS: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Files from this size on are copied from file to file, where the archive lies plain in one.
const COPIED: u64 = 64 << 10;

pub struct Layers<'a> {
    pub tree: Tree,
    /// Shared with the tree, which waits for them where it has to.
    pub writers: Rc<RefCell<Writers>>,
    pub policy: &'a Policy,
    pub limits: &'a Limits,
    /// Held while the tree changes: whoever takes it stops the extraction between two steps.
    pub gate: &'a Gate,
    /// Bytes of files handed on so far.
    pub progress: &'a AtomicU64,
    /// Whiteouts mean something: the archive is a layer and no plain root filesystem.
    pub layered: bool,
    /// What layers above this one hide, where they are applied from the newest down.
    pub above: Option<Above>,
    pub entries: u64,
    pub bytes: u64,
}

impl Layers<'_> {
    /// Applies one layer over those before it.
    pub fn apply<R: Content>(&mut self, archive: &mut Archive<R>) -> Result<()> {
        while let Some(entry) = archive.next()? {
            let offset = entry.offset;
            self.entry(entry, archive).with_context(|| format!("at byte {offset}"))?;
        }
        self.writers.borrow_mut().flush()?;
        let _inside = self.gate.pass();
        if let Some(above) = &mut self.above {
            above.end_layer();
        }
        self.tree.end_layer()
    }

    fn entry<R: Content>(&mut self, mut entry: Entry, archive: &mut Archive<R>) -> Result<()> {
        let member = Member::new(&entry.path).with_context(|| shown(&entry.path))?;
        self.entries += 1;
        within(self.entries, self.limits.entries, "entries of the image", "--max-entries")?;
        self.bytes = self.bytes.saturating_add(entry.size);
        within(self.bytes, self.limits.bytes, "bytes of the image's files", "--max-bytes")?;
        within(
            member.depth,
            self.limits.depth,
            format_args!("{}: nested directories", shown(&member.path)),
            "--max-depth",
        )?;
        self.progress.store(self.bytes, Ordering::Relaxed);
        if member.absolute {
            self.policy.ledger.note(Change::Absolute, &member.path);
        }
        let inside = self.gate.pass();
        let path = member.path;
        if (self.layered && self.whiteout(&path)?) || !self.shows(&path, entry.kind)? {
            drop(inside);
            return archive.pass_over(R::pass).context("read its content");
        }
        if !self.tree.holds(&path) || (entry.kind == Kind::HardLink && !self.tree.holds(&entry.link)) {
            self.tree.leave_out(&path);
            drop(inside);
            return archive.pass_over(R::pass).context("read its content");
        }
        match entry.kind {
            Kind::File => {
                let (size, sparse) = (entry.size, entry.sparse.take());
                let making = self.tree.file(path, meta(entry), sparse.is_none() && size <= WHOLE)?;
                drop(inside);
                let file = match making {
                    Making::There(file) => Arc::new(file),
                    Making::Planned(file) => return self.whole(file, size, archive),
                };
                if sparse.is_some() {
                    crate::patient::ftruncate(file.file(), size)
                        .with_context(|| format!("{}: a size of {size}", shown(file.path())))?;
                }
                let segments = sparse.unwrap_or_else(|| vec![Segment { offset: 0, length: size }]);
                self.content(&file, &segments, archive)?;
                self.writers.borrow_mut().end(file)
            }
            Kind::Directory => self.tree.directory(&path, meta(entry)),
            Kind::HardLink => {
                let target = Member::new(&entry.link)
                    .with_context(|| format!("{}: hard link to {}", shown(&path), shown(&entry.link)))?;
                self.hard_link(&path, &target.path)
            }
            Kind::Symlink => {
                let target = entry.link.clone();
                self.tree.special(&path, Special::Symlink(&target), meta(entry))
            }
            Kind::Fifo => self.tree.special(&path, Special::Fifo, meta(entry)),
            Kind::CharDevice => {
                let (major, minor) = entry.device;
                self.tree.special(&path, Special::Char(major, minor), meta(entry))
            }
            Kind::BlockDevice => {
                let (major, minor) = entry.device;
                self.tree.special(&path, Special::Block(major, minor), meta(entry))
            }
        }
    }

    /// Hands a file on that is to be made.
    fn whole<R: Content>(&mut self, file: Planned, size: u64, archive: &mut Archive<R>) -> Result<()> {
        let mut writers = self.writers.borrow_mut();
        let (large, position) = (size >= COPIED, archive.position());
        match large.then(|| archive.stream().file()).flatten() {
            Some((from, begin)) => {
                let what = || format!("{}: read its content", shown(file.path()));
                archive.pass_over(R::pass).with_context(what)?;
                writers.whole_from(file, size, &from, begin + position)
            }
            None => writers.whole(file, size, |most| archive.share(most, R::share)),
        }
    }

    /// Hands a file's segments on, by bytes or by their place in the archive's file.
    fn content<R: Content>(
        &mut self,
        file: &Arc<NewFile>,
        segments: &[Segment],
        archive: &mut Archive<R>,
    ) -> Result<()> {
        let mut writers = self.writers.borrow_mut();
        let large = archive.remaining() / (segments.len() as u64).max(1) >= COPIED;
        let position = archive.position();
        let Some((from, begin)) = large.then(|| archive.stream().file()).flatten() else {
            return segments.iter().try_for_each(|segment| {
                let share = |most| archive.share(most, R::share);
                writers.copy(file, segment.offset, segment.length, share)
            });
        };
        let mut offset = begin + position;
        for segment in segments {
            writers.copy_from(file, segment.offset, segment.length, &from, offset)?;
            offset += segment.length;
        }
        archive.pass_over(R::pass).with_context(|| format!("{}: read its content", shown(file.path())))
    }

    /// Whether the name is a whiteout or something of aufs's, and so no file.
    fn whiteout(&mut self, path: &[u8]) -> Result<bool> {
        let mut parts = path.rsplitn(2, |&b| b == b'/');
        let name = parts.next().unwrap_or_default();
        let dir = parts.next().unwrap_or_default();
        if dir.split(|&b| b == b'/').any(|part| part.starts_with(WHITEOUT)) {
            // Its hard links' own directory; anything else there would be a file that no layer can have.
            ensure!(dir.split(|&b| b == b'/').any(|part| part.starts_with(AUFS)), "{}: below a whiteout", shown(path));
            return Ok(true);
        }
        if name == OPAQUE {
            match &mut self.above {
                Some(above) => {
                    above.claim(Claim::Opaque, dir);
                    self.in_directory(dir)?;
                }
                None => self.tree.opaque(dir)?,
            }
        } else if !name.starts_with(AUFS) {
            let Some(hidden) = name.strip_prefix(WHITEOUT) else { return Ok(false) };
            if matches!(hidden, b"" | b"." | b"..") {
                bail!("{}: a whiteout of nothing", shown(path));
            }
            let hidden = if dir.is_empty() { hidden.to_owned() } else { [dir, b"/", hidden].concat() };
            match &mut self.above {
                Some(above) if above.cover(&hidden) == Cover::Hidden => {}
                Some(above) => {
                    if self.tree.is_directory(&hidden)? {
                        // An upper layer's, or this one's, that it did not take over from below.
                        above.claim(Claim::Directory, &hidden);
                        above.claim(Claim::Opaque, &hidden);
                    } else {
                        above.claim(Claim::Hidden, &hidden);
                    }
                    self.in_directory(dir)?;
                }
                None => self.tree.whiteout(&hidden)?,
            }
        }
        Ok(true)
    }

    /// A whiteout in `dir` means that directory, and not where a link leads.
    fn in_directory(&mut self, dir: &[u8]) -> Result<()> {
        if self.tree.leads_elsewhere(dir)? {
            return Err(OutOfOrder.into());
        }
        if let Some(above) = &mut self.above {
            above.pass_through(dir);
        }
        Ok(())
    }

    /// Whether the layers above leave anything of an entry; lower layers are told of it.
    fn shows(&mut self, path: &[u8], kind: Kind) -> Result<bool> {
        let Some(above) = &mut self.above else { return Ok(true) };
        match (above.cover(path), kind == Kind::Directory) {
            (Cover::Directory, true) => return Ok(false),
            (Cover::Hidden, _) => {
                // The directories on its way are there all the same.
                let mut at = path;
                while let Some(end) = at.iter().rposition(|&b| b == b'/') {
                    at = &at[..end];
                    if above.cover(at) != Cover::Hidden {
                        self.tree.imply(at)?;
                        break;
                    }
                }
                return Ok(false);
            }
            (Cover::Directory, false) => {
                // What is below this in lower layers ended with the directory that it was in.
                above.claim(Claim::Opaque, path);
                return Ok(false);
            }
            (Cover::Nothing, true) => above.claim(Claim::Directory, path),
            (Cover::Nothing, false) if above.was_passed_through(path) => return Err(OutOfOrder.into()),
            (Cover::Nothing, false) => above.claim(Claim::Hidden, path),
        }
        Ok(true)
    }

    fn hard_link(&mut self, path: &[u8], target: &[u8]) -> Result<()> {
        let Some(above) = &self.above else { return self.tree.hard_link(path, target) };
        if above.cover(target) != Cover::Nothing {
            return Err(OutOfOrder.into());
        }
        if above.lowest {
            return self.tree.hard_link(path, target);
        }
        // What is not there yet may be this layer's or a lower one's.
        if self.tree.link_now(path, target)? { Ok(()) } else { Err(OutOfOrder.into()) }
    }
}

fn meta(entry: Entry) -> Meta {
    Meta {
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        mtime: timespec(entry.mtime),
        atime: entry.atime.map(timespec),
        xattrs: entry.xattrs,
        acl_access: entry.acl_access,
        acl_default: entry.acl_default,
        acl_nfs: entry.acl_nfs,
    }
}

fn timespec(time: Time) -> Timespec {
    Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() }
}
