//! Who owns this process's namespaces (ioctl_ns(2)).

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::libc;
use nix::sys::stat::{fstat, stat};

const NS_GET_USERNS: libc::Ioctl = 0xb701;

/// Whether our user namespace owns our pid namespace, as a new proc requires, or our net namespace, as a new sysfs does.
/// `kind` is the name in /proc/PID/ns. True if /proc does not tell.
pub fn is_ours(kind: &str) -> bool {
    let Some((namespace, user)) = ["/proc", "/../proc"].into_iter().find_map(|proc| {
        Some((File::open(format!("{proc}/self/ns/{kind}")).ok()?, stat(format!("{proc}/self/ns/user").as_str()).ok()?))
    }) else {
        return true;
    };
    // SAFETY: NS_GET_USERNS takes no argument and returns a new descriptor, or -1.
    let owner = unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_USERNS) };
    if owner < 0 {
        // EPERM: the owner is an ancestor namespace.
        return false;
    }
    // SAFETY: the descriptor was just made and nobody else knows it.
    let owner = unsafe { OwnedFd::from_raw_fd(owner) };
    fstat(&owner).is_ok_and(|owner| owner.st_ino == user.st_ino)
}
