//! Fixed modes for what a tool makes in the container, whatever the caller's umask. COMMAND gets the old umask back.

use nix::sys::stat::{Mode, umask};

/// Sets the file mode creation mask until it is dropped.
#[must_use]
pub struct Umask(Mode);

impl Umask {
    pub fn set(mask: u32) -> Umask {
        Umask(umask(Mode::from_bits_truncate(mask)))
    }
}

impl Drop for Umask {
    fn drop(&mut self) {
        umask(self.0);
    }
}
