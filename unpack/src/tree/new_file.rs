//! A regular file between its making and its last byte.

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::Arc;

use anyhow::Result;

use super::meta::{Final, Policy};

/// A regular file that is there already, empty; its content and everything else follow.
pub struct NewFile {
    pub(super) file: File,
    pub(super) last: Final,
    pub(super) mode: u32,
    pub(super) path: Vec<u8>,
    pub(super) policy: Arc<Policy>,
}

impl NewFile {
    pub fn file(&self) -> &File {
        &self.file
    }

    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// The content is whole.
    pub fn finish(self) -> Result<()> {
        self.policy.set_by_fd(self.file.as_fd(), &self.last, Some(self.mode), &self.path)
    }
}
