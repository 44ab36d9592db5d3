//! System calls that neither nix nor rustix has: one short function a call.

use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;
use nix::libc;

/// mount_setattr(2), Linux 5.12: changes the attributes of the mount that `tree` is the root of,
/// with `AT_RECURSIVE` in `flags` those of every mount below it.
pub fn mount_setattr(tree: impl AsFd, flags: libc::c_int, set: u64, clear: u64) -> Result<(), Errno> {
    let attributes = libc::mount_attr { attr_set: set, attr_clr: clear, propagation: 0, userns_fd: 0 };
    // SAFETY: the path is an empty C string, the attributes outlive the call and their size is given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    Errno::result(result).map(drop)
}
