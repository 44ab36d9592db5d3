//! What a person at a terminal wants to know about the root, but a script does not.

use std::io::IsTerminal;
use std::os::fd::OwnedFd;
use std::path::Path;

use chain::{Tool, file_kind, open_inside, warn};
use nix::fcntl::OFlag;
use nix::sys::stat::SFlag;

/// Images often come without devices, and unpack makes none for an ordinary user.
pub fn give(tree: &OwnedFd) {
    if std::io::stderr().is_terminal() && !has_null(tree) {
        warn(
            Tool::Pivot,
            "hint: the root has no device /dev/null, and >/dev/null makes a file there: --dev gives it a /dev",
        );
    }
}

fn has_null(tree: &OwnedFd) -> bool {
    let null = open_inside(tree, Path::new("dev/null"), OFlag::O_PATH).and_then(|null| Ok(file_kind(null)?));
    null.is_ok_and(|kind| kind == SFlag::S_IFCHR)
}
