//! The capabilities of this thread (capabilities(7)), which nix does not have.

use nix::errno::Errno;
pub use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::sys::errno;

pub fn get() -> Result<CapabilitySets, Errno> {
    rustix::thread::capabilities(None).map_err(errno)
}

pub fn set(sets: CapabilitySets) -> Result<(), Errno> {
    rustix::thread::set_capabilities(None, sets).map_err(errno)
}

/// Whether all of these are in effect, in our user namespace.
pub fn are_effective(all: CapabilitySet) -> bool {
    get().is_ok_and(|sets| sets.effective.contains(all))
}

/// EINVAL: unknown to this kernel.
pub fn is_in_bounding_set(one: CapabilitySet) -> Result<bool, Errno> {
    rustix::thread::capability_is_in_bounding_set(one).map_err(errno)
}

pub fn drop_from_bounding_set(one: CapabilitySet) -> Result<(), Errno> {
    rustix::thread::remove_capability_from_bounding_set(one).map_err(errno)
}

pub fn clear_ambient_set() -> Result<(), Errno> {
    rustix::thread::clear_ambient_capability_set().map_err(errno)
}

pub fn add_to_ambient_set(one: CapabilitySet) -> Result<(), Errno> {
    rustix::thread::configure_capability_in_ambient_set(one, true).map_err(errno)
}
