//! What mountclean has mounted so far.

use std::os::fd::OwnedFd;

use anyhow::{Result, anyhow};
use chain::{Carry, HasCarry};

/// Where the fresh proc goes.
pub const PROC: &str = "/proc";

pub struct State {
    pub carry: Carry,
    /// The fresh /proc, and /sys if it was asked for.
    pub fresh: Vec<Fresh>,
    /// The ids of mountclean's own mounts.
    pub own: Vec<u64>,
}

pub struct Fresh {
    pub mount: OwnedFd,
    pub point: &'static str,
}

impl State {
    pub fn new(carry: Carry) -> State {
        State { carry, fresh: Vec::new(), own: Vec::new() }
    }

    pub fn proc(&self) -> Result<&OwnedFd> {
        let proc = self.fresh.iter().find(|fresh| fresh.point == PROC);
        proc.map(|fresh| &fresh.mount).ok_or_else(|| anyhow!("there is no fresh /proc"))
    }
}

impl HasCarry for State {
    fn carry(&mut self) -> &mut Carry {
        &mut self.carry
    }
}
