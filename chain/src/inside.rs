//! Paths as a process whose root is a given directory would resolve them: no symbolic link, `..` or
//! rename leads outside (openat2(2), RESOLVE_IN_ROOT).

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use crate::WithHint;

/// How often openat2(2) may answer EAGAIN before that is an error: a neighbour that renames without a pause must not keep
/// us for ever.
const UNSURE: u32 = 10_000;

/// Opens `path` inside `root`, close-on-exec. Nothing may be stacked on `root` itself: a `..` there
/// stays on it, and then goes on to what is mounted on it.
pub fn open_inside(root: impl AsFd, path: &Path, flags: OFlags) -> Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let mut unsure = 0;
    loop {
        match openat2(&root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::INTR) => {}
            // Something was renamed or mounted anywhere on the machine during a `..`; nothing is wrong.
            Err(Errno::AGAIN) if unsure < UNSURE => unsure += 1,
            Err(Errno::NOSYS) => return Err(Errno::NOSYS).context("openat2").hint("this needs Linux 5.6 or later"),
            result => return Ok(result?),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_and_dots_stay_inside() {
        let dir = std::env::temp_dir().join(format!("chain-inside-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("etc")).unwrap();
        let dir = dir.canonicalize().unwrap();
        symlink("/etc", dir.join("absolute")).unwrap();
        symlink("../../../../../../../../etc", dir.join("relative")).unwrap();
        let root = std::fs::File::open(&dir).unwrap();
        for path in ["etc", "/etc", "../../etc", "absolute", "relative", "absolute/../etc/."] {
            let fd = open_inside(&root, Path::new(path), OFlags::PATH).unwrap();
            let where_ = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap();
            assert_eq!(where_, dir.join("etc"), "{path}");
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
