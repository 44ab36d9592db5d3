//! Why the kernel refuses a new proc in a user namespace: part of the one that is there is covered.

use std::path::{Path, PathBuf};

use crate::mounts;

/// Mounts on directories that are empty for good cover nothing (mnt_already_visible in Linux).
const HARMLESS: [&str; 2] = ["/proc/sys/fs/binfmt_misc", "/proc/fs/nfsd"];

/// A place in /proc that something is mounted over, as container runtimes do it.
pub fn covered_proc() -> Option<PathBuf> {
    let points = mounts::table().ok()?.into_iter().map(|mount| mount.point);
    let covers = |point: &PathBuf| {
        point.starts_with("/proc")
            && point != Path::new("/proc")
            && !HARMLESS.iter().any(|path| point.starts_with(path))
    };
    points.filter(covers).min()
}

/// What to do about it.
pub fn uncover(point: &Path) -> String {
    format!(
        "{} is covered, and a user namespace gets no new proc then: start the container around us with \
         --security-opt unmask=ALL (podman) or systempaths=unconfined (docker)",
        point.display()
    )
}
