//! Why the kernel refuses a new proc in a user namespace.

use std::path::{Path, PathBuf};

use crate::owner::pid_namespace_is_ours;
use crate::{at_root_of_mount_namespace, mounts};

/// Mounts on directories that are empty for good cover nothing (mnt_already_visible in Linux).
const HARMLESS: [&str; 2] = ["/proc/sys/fs/binfmt_misc", "/proc/fs/nfsd"];

/// A place in /proc that something is mounted over, as container runtimes do it.
fn covered_proc() -> Option<PathBuf> {
    let points = mounts::table().ok()?.into_iter().map(|mount| mount.point);
    let covers = |point: &PathBuf| {
        point.starts_with("/proc")
            && point != Path::new("/proc")
            && !HARMLESS.iter().any(|path| point.starts_with(path))
    };
    points.filter(covers).min()
}

/// The cause of EPERM that holds, with what to do about it (mount_too_revealing in Linux).
pub fn why_no_new_proc() -> String {
    if !pid_namespace_is_ours() {
        return "in a user namespace a new proc takes a pid namespace of its own: add --pid, \
                isolate --user --map-root --pid -- …"
            .into();
    }
    if let Some(point) = covered_proc() {
        return format!(
            "{} is covered, and a user namespace gets no new proc then: start the container around us with \
             --security-opt unmask=ALL (podman) or systempaths=unconfined (docker)",
            point.display()
        );
    }
    if at_root_of_mount_namespace().is_ok_and(|at_root| !at_root) {
        return "the /proc outside this chroot is covered in part, or there is none, and a user namespace gets no new \
                proc then: use pivot instead of chroot"
            .into();
    }
    "in a user namespace the kernel allows a new proc only where one is mounted already, with nothing over any part of \
     it: let mountclean follow pivot directly"
        .into()
}
