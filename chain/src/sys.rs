//! System calls that neither nix nor rustix has, one short function each, and the errno of this project: nix's.

use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;
use nix::libc;

/// rustix's errno as nix's, which this project's errors carry.
pub fn errno(errno: rustix::io::Errno) -> Errno {
    Errno::from_raw(errno.raw_os_error())
}

/// That of an error of the standard library's, where it has one.
pub fn errno_of(error: &std::io::Error) -> Option<Errno> {
    error.raw_os_error().map(Errno::from_raw)
}

/// mount_setattr(2), Linux 5.12: changes the mount that `tree` is the root of, with `AT_RECURSIVE` in `flags` every mount
/// below it as well.
pub fn mount_setattr(tree: impl AsFd, flags: libc::c_int, attributes: &libc::mount_attr) -> Result<(), Errno> {
    // SAFETY: the path is an empty C string, the attributes outlive the call and their size is given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | flags,
            std::ptr::from_ref(attributes),
            size_of::<libc::mount_attr>(),
        )
    };
    Errno::result(result).map(drop)
}

/// close_range(2) with CLOSE_RANGE_CLOEXEC, Linux 5.11: every descriptor from `first` to `last`
/// is closed at the next exec.
pub fn close_on_exec(first: u32, last: u32) -> Result<(), Errno> {
    // SAFETY: only close-on-exec flags change; no descriptor becomes invalid.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, libc::CLOSE_RANGE_CLOEXEC) };
    Errno::result(result).map(drop)
}

/// sigaction(2), without the change that nix's has to make.
pub fn is_ignored(signal: i32) -> bool {
    // SAFETY: only asks, into a struct that the C library fills.
    unsafe {
        let mut now: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &mut now) == 0 && now.sa_sigaction == libc::SIG_IGN
    }
}

/// ENOSYS in place of the EPERM that the filters of older container runtimes answer for a call that they do not know, so
/// that the caller tries the old way. Meaningless arguments tell the two apart: the kernel itself answers EINVAL or EBADF
/// (for the mount calls, to those who may mount).
pub fn if_filtered(errno: Errno, call: libc::c_long) -> Errno {
    // SAFETY: no descriptor, no memory and no flag is a valid one in any of these calls.
    let probe = || unsafe { libc::syscall(call, -1, 0, -1, 0, 0) };
    if errno == Errno::EPERM && probe() == -1 && Errno::last() == Errno::EPERM { Errno::ENOSYS } else { errno }
}

/// The hint where a call is missing and there is no other way.
pub fn missing(call: &str, since: &str) -> String {
    //: pidfd, openat2 | pidfd_open, openat2: ENOSYS, EPERM | the kernel is older than Linux 5.3, or Linux 5.6, or a filter does
    //: not know the call; where there is an older way the tools take it | arguments that mean nothing are tried |
    //: tests/kernels::without_pidfds_isolate_names_the_version_that_has_them
    format!(
        "this needs {call} of {since}, or a seccomp filter around us refuses it: update the container runtime, or its profile"
    )
}

// The numbers are the same on every architecture (asm-generic/unistd.h), but not yet in libc everywhere.
const SYS_STATMOUNT: libc::c_long = 457;
const SYS_LISTMOUNT: libc::c_long = 458;

/// struct mnt_id_req, its first version.
#[repr(C)]
struct MountRequest {
    size: u32,
    spare: u32,
    id: u64,
    param: u64,
}

/// For listmount(2): the root of this process.
pub const LSMT_ROOT: u64 = u64::MAX;

/// listmount(2), Linux 6.8, of the mounts below `top`, a mount's unique id or `LSMT_ROOT`: fills `ids`
/// with the unique ids that come after `last`, and says how many.
pub fn listmount(top: u64, last: u64, ids: &mut [u64]) -> Result<usize, Errno> {
    let request = MountRequest { size: size_of::<MountRequest>() as u32, spare: 0, id: top, param: last };
    // SAFETY: the request outlives the call, and the length of `ids` is given.
    let result = unsafe { libc::syscall(SYS_LISTMOUNT, &raw const request, ids.as_mut_ptr(), ids.len(), 0) };
    Errno::result(result).map(|count| count as usize)
}

/// statmount(2), Linux 6.8: fills `buffer` with a struct statmount and its strings.
pub fn statmount(unique: u64, mask: u64, buffer: &mut [u8]) -> Result<(), Errno> {
    let request = MountRequest { size: size_of::<MountRequest>() as u32, spare: 0, id: unique, param: mask };
    // SAFETY: the request outlives the call, and the length of `buffer` is given.
    let result = unsafe { libc::syscall(SYS_STATMOUNT, &raw const request, buffer.as_mut_ptr(), buffer.len(), 0) };
    Errno::result(result).map(drop)
}
