//! A mount that mountclean has made: the fresh /proc, and /sys where it was asked for.

use std::os::fd::OwnedFd;

pub struct Fresh {
    pub mount: OwnedFd,
    pub point: &'static str,
    pub id: u64,
    /// The ids of the mounts that a bind of the host's brought along.
    pub below: Vec<u64>,
}

impl Fresh {
    pub fn has(&self, id: u64) -> bool {
        self.id == id || self.below.contains(&id)
    }
}
