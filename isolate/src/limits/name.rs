//! What the groups that isolate makes are called.

use std::ffi::OsStr;
use std::fs::metadata;
use std::os::unix::fs::MetadataExt;

use nix::unistd::getpid;

/// The command's processes are here, below the group with the limits: a group of version 2 that has
/// processes cannot be divided, and a limit inside this one must be able to divide it.
pub const LEAF: &str = "command";

/// Processes that have to leave a group before it can be divided move here.
pub const WAITING: &str = "isolate-waiting";

/// This isolate's group, apart from those of every other isolate in any pid namespace.
pub fn own_name() -> String {
    format!("{}{}", own_prefix(), getpid())
}

pub fn own_prefix() -> String {
    let pid_namespace = metadata("/proc/self/ns/pid").map_or(0, |file| file.ino());
    format!("isolate-{pid_namespace}-")
}

/// Whether an isolate made the group of this name for its limits.
pub fn is_ours(name: &OsStr) -> bool {
    let name = name.to_str().and_then(|name| name.strip_prefix("isolate-"));
    name.is_some_and(|name| name.starts_with(|c: char| c.is_ascii_digit()))
}
