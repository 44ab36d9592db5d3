//! What a volume with rslave asks of the mount namespace.

use chain::attach::PRIVATE;

/// Whether what is mounted outside from now on appears in the mounts of this namespace (mount_namespaces(7), MS_SLAVE).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Receives {
    /// No volume wants it.
    #[default]
    No,
    /// One wants it: the copies for all others must be made private.
    Now,
    /// One wants it, and an earlier link has made all mounts private.
    Never,
}

impl Receives {
    /// The attribute of all copies but those for such volumes.
    pub fn attribute_of_others(self) -> u64 {
        if self == Receives::Now { PRIVATE } else { 0 }
    }
}
