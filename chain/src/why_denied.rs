//! Which directory on the way to a file lets nobody through (path_resolution(7)).

use std::fs::{read_link, symlink_metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::Error;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use crate::retry_eintr::open;
use crate::{Hint, MOST_LINKS, mountinfo};

/// With the hint, where the error is EACCES.
pub fn explained(error: Error, path: &Path) -> Error {
    match error.downcast_ref() {
        Some(Errno::EACCES) => error.context(Hint(explain(path))),
        _ => error,
    }
}

/// EACCES for an O_PATH descriptor has no other cause than a directory on the way, or a security module.
pub fn explain(path: &Path) -> String {
    //: ROOT, SRC | open: EACCES | none of these can be seen | access control lists and security modules show in no mode |
    //: pivot/refusals_mounts::a_directory_that_an_acl_closes_is_one_on_the_way
    closed(path, 0).unwrap_or_else(|| "every directory on the way needs execute permission for this user".into())
}

fn closed(path: &Path, links: usize) -> Option<String> {
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
    let dir = way.display();
    if symlink_metadata(way).is_ok_and(|stat| stat.is_symlink()) {
        // In /proc, where a link leads to what another process has.
        //: ROOT, SRC | open: EACCES | a link in /proc that only who may trace the process may follow (ptrace(2)) | it cannot
        //: be read | pivot/refusals_mounts::a_source_in_another_mount_namespace_is_named
        return Some(format!(
            "{dir} may be followed only by who may trace that process: its own user, or root outside"
        ));
    }
    if let Some(user) = fuse_of_one_user(way) {
        //: ROOT, SRC | open: EACCES | a FUSE mount that lets its owner in alone, not even root | mountinfo: no
        //: allow_other | pivot/refusals::a_fuse_mount_without_allow_root_is_named
        return Some(format!(
            "{dir} is a FUSE mount for user {user} alone: mount it with -o allow_other or -o allow_root, or start this as \
             that user"
        ));
    }
    let stat = symlink_metadata(way).ok()?;
    let (mode, user) = (stat.mode() & 0o7777, stat.uid());
    (mode & 0o111 != 0o111).then(|| {
        //: ROOT, SRC | open: EACCES | a directory on the way that not everybody may search; in a user namespace root is
        //: only the user outside, and who is not mapped is shown as 65534 | each directory is entered |
        //: pivot/refusals::a_directory_on_the_way_that_lets_nobody_through_is_named
        format!(
            "{dir} (mode {mode:04o}, user {user}) cannot be searched by this user: chmod a+x it, or put this elsewhere"
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
