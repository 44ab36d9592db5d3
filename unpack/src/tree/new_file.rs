//! A regular file between its plan and its last byte.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use anyhow::{Context, Result};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::meta::{Final, Policy};
use super::path::{shown, split};
use super::remove;

pub enum Making {
    There(NewFile),
    Planned(Planned),
}

/// A regular file whose name is free in a directory that stays open until it was made.
pub struct Planned {
    pub(super) dir: Arc<OwnedFd>,
    pub(super) last: Final,
    pub(super) path: Vec<u8>,
    pub(super) policy: Arc<Policy>,
}

impl Planned {
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// Whether two are made in one directory, and so one after the other.
    pub fn is_beside(&self, other: &Planned) -> bool {
        Arc::ptr_eq(&self.dir, &other.dir)
    }

    /// On any thread.
    pub fn make(self) -> Result<NewFile> {
        let name = split(&self.path).map_or(&b"."[..], |(_, name)| name);
        let mode = self.policy.made_as(&self.last);
        let mut made = open(self.dir.as_fd(), name, mode);
        if matches!(made, Err(Errno::EXIST)) {
            // Not ours: nothing of this image has the name.
            remove::remove(self.dir.as_fd(), name)
                .with_context(|| format!("{}: remove what is there", shown(&self.path)))?;
            made = open(self.dir.as_fd(), name, mode);
        }
        let file = made.with_context(|| format!("{}: make the file", shown(&self.path)))?;
        Ok(NewFile::new(file, self.last, self.path, self.policy))
    }
}

/// A regular file that exists and is empty. Its content and everything else follow.
pub struct NewFile {
    file: File,
    last: Final,
    mode: u32,
    path: Vec<u8>,
    policy: Arc<Policy>,
}

impl NewFile {
    pub(super) fn new(file: File, last: Final, path: Vec<u8>, policy: Arc<Policy>) -> NewFile {
        NewFile { file, mode: policy.made_as(&last), last, path, policy }
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// The content is complete.
    pub fn finish(self) -> Result<()> {
        self.policy.set_by_fd(self.file.as_fd(), &self.last, Some(self.mode), &self.path)
    }
}

/// Creates a file that must not exist yet.
pub(super) fn open(dir: BorrowedFd, name: &[u8], mode: u32) -> rustix::io::Result<File> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    crate::retry_eintr::openat(dir, name, flags, Mode::from_raw_mode(mode)).map(File::from)
}
