//! Which directory on the way to ROOT or a volume's source lets nobody through (path_resolution(7)).

use std::fs::{read_link, symlink_metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::Error;
use chain::retry_eintr::open;
use chain::{Hint, mountinfo};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

/// With the hint, where the error is EACCES.
pub fn explained(error: Error, path: &Path) -> Error {
    match error.downcast_ref() {
        Some(Errno::EACCES) => error.context(Hint(explain(path))),
        _ => error,
    }
}

/// EACCES for an O_PATH descriptor has no other cause than a directory on the way, or a security module.
pub fn explain(path: &Path) -> String {
    closed(path, 0).unwrap_or_else(|| "every directory on the way needs execute permission for this user".into())
}

/// Links as the kernel follows them (path_resolution(7)).
const MOST_LINKS: u32 = 40;

fn closed(path: &Path, links: u32) -> Option<String> {
    let mut ways: Vec<&Path> = path.ancestors().filter(|way| !way.as_os_str().is_empty()).collect();
    ways.reverse();
    // A name below it is what takes its execute permission.
    let inside = |way: &&&Path| {
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        matches!(open(&way.join("."), flags, Mode::empty()), Err(Errno::EACCES))
    };
    let way = ways.iter().find(inside)?;
    if let Ok(link) = read_link(way) {
        let target = way.parent().unwrap_or(Path::new("")).join(link);
        return if links < MOST_LINKS { closed(&target, links + 1) } else { None };
    }
    if let Some(user) = fuse_of_one_user(way) {
        return Some(format!(
            "{} is a FUSE mount for user {user} alone: mount it with -o allow_other or -o allow_root, or start this as \
             that user",
            way.display()
        ));
    }
    let stat = symlink_metadata(way).ok()?;
    (stat.mode() & 0o111 != 0o111).then(|| {
        format!(
            "{} (mode {:04o}, user {}) cannot be searched by this user: chmod a+x it, or put this elsewhere",
            way.display(),
            stat.mode() & 0o7777,
            stat.uid()
        )
    })
}

/// Whose FUSE mount it is, if the kernel lets in its owner alone, not even root (fuse_allow_current_process in Linux).
fn fuse_of_one_user(way: &Path) -> Option<String> {
    // The mount cannot be asked, but its place lies outside it.
    let place = way.canonicalize().ok()?;
    let mount = mountinfo::read().ok()?.into_iter().rfind(|mount| mount.point == place)?;
    let is_fuse = ["fuse", "fuseblk"].contains(&mount.kind.split('.').next()?);
    if !is_fuse || mount.options().any(|option| option == b"allow_other") {
        return None;
    }
    let user = mount.options().find_map(|option| option.strip_prefix(b"user_id="))?;
    Some(String::from_utf8_lossy(user).into_owned())
}
