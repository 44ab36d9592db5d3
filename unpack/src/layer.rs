//! Applying a layer's entries to the tree, whiteouts included, by the OCI image specification.

mod content;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::Timespec;
use rustix::io::Errno;

use crate::budget::{Limits, weight, within};
use crate::frame::{Archive, Entry, Kind, Segment, Time};
use crate::gate::Gate;
use crate::ledger::Change;
use crate::tree::{Making, Member, Meta, Needs, NewFile, Planned, Policy, Special, Tree, shown};
use crate::writers::{WHOLE, Writers};
pub use content::Content;

const WHITEOUT: &[u8] = b".wh.";
/// How the names begin that aufs keeps for itself in its branches.
const AUFS: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Where aufs keeps the content of files with several names, as hard links to what is in here.
const LINKED: &[u8] = b".wh..wh.plnk";

/// Starting to read a layer (threads, buffers) costs as much as this many entries.
const LAYER: u64 = 32;

/// This many bytes of an ACL's text cost as much as an entry.
const LIST: usize = 256;

/// From this size on, files are copied from file to file, if the archive is in a file and not compressed.
const COPIED: u64 = 64 << 10;

pub struct Layers<'a> {
    pub tree: Tree,
    /// Shared with the tree, which waits for them when it must.
    pub writers: Rc<RefCell<Writers>>,
    pub policy: &'a Policy,
    pub limits: &'a Limits,
    /// Held while the tree changes. Taking it stops the extraction between two steps.
    pub gate: &'a Gate,
    /// Bytes of files passed on so far.
    pub progress: &'a AtomicU64,
    /// The archive is a layer and not a plain root filesystem, so whiteouts have a meaning.
    pub layered: bool,
    /// What the layers have asked for so far, weighed by its cost.
    pub entries: u64,
    pub bytes: u64,
}

impl Layers<'_> {
    /// Applies one layer over those before it.
    pub fn apply<R: Content>(&mut self, archive: &mut Archive<R>) -> Result<()> {
        self.entries += LAYER;
        while let Some(entry) = archive.next()? {
            let offset = entry.offset;
            match self.entry(entry, archive) {
                // With the layers below, the way may lead elsewhere.
                Err(error) if error.downcast_ref() == Some(&Errno::LOOP) && self.tree.needs_flattening() => {}
                result => result.with_context(|| format!("at byte {offset}"))?,
            }
        }
        self.writers.borrow_mut().flush()?;
        let _inside = self.gate.pass();
        self.tree.end_layer()?;
        if self.layered { self.tree.remove(LINKED) } else { Ok(()) }
    }

    /// Writes what a layer that was extracted alone hides of those below it, and says what it needs of them.
    pub fn finish_alone(&mut self) -> Result<Needs> {
        let _inside = self.gate.pass();
        self.tree.finish_alone()
    }

    fn entry<R: Content>(&mut self, mut entry: Entry, archive: &mut Archive<R>) -> Result<()> {
        let member = self.member(&entry.path).with_context(|| shown(&entry.path))?;
        let segments = entry.sparse.as_ref().map_or(0, Vec::len);
        let lists = [&entry.acl_access, &entry.acl_default].into_iter().flatten().map(Vec::len).sum::<usize>();
        self.entries += weight(member.depth) + (entry.xattrs.len() + segments + lists / LIST) as u64;
        self.limits.within_entries(self.entries + self.tree.implied())?;
        self.bytes = self.bytes.saturating_add(entry.size);
        within(self.bytes, self.limits.bytes, "bytes of the image's files", "--limit bytes=N")?;
        within(
            member.depth,
            self.limits.depth,
            format_args!("{}: nested directories", shown(&member.path)),
            "--limit depth=N",
        )?;
        self.progress.store(self.bytes, Ordering::Relaxed);
        if member.absolute {
            self.policy.ledger.note(Change::Absolute, &member.path);
        }
        let inside = self.gate.pass();
        let path = member.path;
        if self.layered && self.whiteout(&path)? {
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
                    crate::retry_eintr::ftruncate(file.file(), size)
                        .with_context(|| format!("{}: a size of {size}", shown(file.path())))?;
                }
                let segments = sparse.unwrap_or_else(|| vec![Segment { offset: 0, length: size }]);
                self.content(&file, &segments, archive)?;
                self.writers.borrow_mut().end(file)
            }
            Kind::Directory => self.tree.directory(&path, meta(entry)),
            Kind::HardLink => {
                let target = self
                    .member(&entry.link)
                    .with_context(|| format!("{}: hard link to {}", shown(&path), shown(&entry.link)))?;
                self.tree.hard_link(&path, &target.path)
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

    /// Where a name leads from the root.
    fn member(&self, raw: &[u8]) -> Result<Member> {
        if !self.layered {
            return Member::new(raw);
        }
        let member = Member::of_layer(raw)?;
        if member.upward {
            self.policy.ledger.note(Change::Upward, raw);
        }
        Ok(member)
    }

    /// Passes on a file to create.
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

    /// Passes on a file's segments, as bytes or by their place in the archive's file.
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

    /// Whether the name is a whiteout, or aufs's own, and so not a file.
    fn whiteout(&mut self, path: &[u8]) -> Result<bool> {
        let mut parts = path.rsplitn(2, |&b| b == b'/');
        let name = parts.next().unwrap_or_default();
        let dir = parts.next().unwrap_or_default();
        if dir == LINKED {
            return Ok(false);
        }
        if dir.split(|&b| b == b'/').any(|part| part.starts_with(WHITEOUT)) {
            // Anything but what aufs left would be a file that no layer can have.
            ensure!(dir.split(|&b| b == b'/').any(|part| part.starts_with(AUFS)), "{}: below a whiteout", shown(path));
            return Ok(true);
        }
        if name == OPAQUE {
            self.tree.opaque(dir)?;
        } else if !name.starts_with(AUFS) {
            let Some(hidden) = name.strip_prefix(WHITEOUT) else { return Ok(false) };
            if matches!(hidden, b"" | b"." | b"..") {
                bail!("{}: a whiteout of nothing", shown(path));
            }
            let hidden = if dir.is_empty() { hidden.to_owned() } else { [dir, b"/", hidden].concat() };
            self.tree.whiteout(&hidden)?;
        }
        Ok(true)
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
