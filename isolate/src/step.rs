//! The steps of a plan: each one's shell line and deed.

use std::ffi::OsString;
use std::fmt;

use anyhow::{Context, Result};
use chain::{Carry, shell::quote};
use nix::unistd::sethostname;

use crate::loopback;
use crate::unshare::Unshare;

pub enum Step {
    Unshare(Unshare),
    Hostname(OsString),
    Loopback,
}

impl chain::Step for Step {
    type State = Carry;

    fn perform(&self, carry: &mut Carry) -> Result<()> {
        match self {
            Step::Unshare(unshare) => unshare.perform(carry),
            Step::Hostname(name) => sethostname(name).context("sethostname"),
            Step::Loopback => loopback::up(),
        }
    }

    fn nests(&self) -> bool {
        matches!(self, Step::Unshare(_))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Step::Unshare(unshare) => unshare.fmt(f),
            Step::Hostname(name) => write!(f, "hostname {}", quote(name)),
            Step::Loopback => f.write_str("ip link set lo up"),
        }
    }
}
