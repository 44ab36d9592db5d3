//! Paths as a process whose root is a given directory would resolve them: no symbolic link, `..` or
//! rename leads outside (openat2(2), RESOLVE_IN_ROOT).

use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

use anyhow::Result;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2, readlinkat};
use nix::libc::SYS_openat2;
use nix::sys::stat::{Mode, SFlag};

use crate::retry_eintr::openat;
use crate::{file_kind, sys};

/// As the kernel's own limit (path_resolution(7)).
pub const MOST_LINKS: usize = 40;

/// How often openat2(2) may answer EAGAIN before that is an error: a neighbour that renames without a pause must not keep
/// us for ever.
const UNSURE: u32 = 10_000;

/// Opens `path` inside `root`, close-on-exec. Nothing may be stacked on `root` itself: a `..` there
/// stays on it, and then goes on to what is mounted on it.
pub fn open_inside(root: impl AsFd, path: &Path, flags: OFlag) -> Result<OwnedFd> {
    let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve);
    let mut unsure = 0;
    loop {
        match openat2(&root, path, how) {
            Err(Errno::EINTR) => {}
            // Something was renamed or mounted anywhere on the machine during a `..`; nothing is wrong.
            Err(Errno::EAGAIN) if unsure < UNSURE => unsure += 1,
            Err(errno @ (Errno::ENOSYS | Errno::EPERM)) => {
                return match sys::if_filtered(errno, SYS_openat2) {
                    Errno::ENOSYS => Ok(by_hand(root.as_fd().try_clone_to_owned()?, path, flags)?),
                    errno => Err(errno.into()),
                };
            }
            result => return Ok(result?),
        }
    }
}

/// The same one name at a time, for a kernel, or a filter, without openat2. No name is followed as a link, and `..` goes
/// back to the directory that was come from, so that nothing renamed meanwhile leads outside.
fn by_hand(root: OwnedFd, path: &Path, flags: OFlag) -> Result<OwnedFd, Errno> {
    let names = |path: &Path| -> Vec<OsString> {
        let named = path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
        named.map(|part| part.as_os_str().to_owned()).collect()
    };
    if path.as_os_str().is_empty() {
        return Err(Errno::ENOENT);
    }
    let mut above = vec![root];
    let mut rest = VecDeque::from(names(path));
    let mut links = 0;
    while let (Some(name), Some(here)) = (rest.pop_front(), above.last()) {
        if name == ".." {
            above.truncate((above.len() - 1).max(1));
            continue;
        }
        let there =
            openat(here, name.as_os_str(), OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
        let is_link = file_kind(&there)? == SFlag::S_IFLNK;
        if is_link && !(rest.is_empty() && flags.contains(OFlag::O_NOFOLLOW)) {
            links += 1;
            if links > MOST_LINKS {
                return Err(Errno::ELOOP);
            }
            let link = readlinkat(&there, "")?;
            let link = Path::new(&link);
            if link.is_absolute() {
                above.truncate(1);
            }
            names(link).into_iter().rev().for_each(|name| rest.push_front(name));
        } else if rest.is_empty() {
            return openat(here, name.as_os_str(), flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty());
        } else {
            above.push(there);
        }
    }
    let here = above.last().ok_or(Errno::ENOENT)?;
    openat(here, ".", flags | OFlag::O_CLOEXEC, Mode::empty())
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
            let own = root.try_clone().unwrap().into();
            for opened in [
                open_inside(&root, Path::new(path), OFlag::O_PATH),
                Ok(by_hand(own, Path::new(path), OFlag::O_PATH).unwrap()),
            ] {
                let opened = opened.unwrap();
                let name = std::fs::read_link(format!("/proc/self/fd/{}", opened.as_raw_fd()));
                assert_eq!(name.unwrap(), dir.join("etc"), "{path}");
            }
        }
        symlink("loop", dir.join("loop")).unwrap();
        for (path, flags) in [
            ("loop", OFlag::O_PATH),
            ("loop/x", OFlag::O_PATH | OFlag::O_NOFOLLOW),
            ("absolute", OFlag::O_RDONLY | OFlag::O_NOFOLLOW),
            ("none/..", OFlag::O_PATH),
            ("etc/none", OFlag::O_PATH),
            ("", OFlag::O_PATH),
        ] {
            let real = open_inside(&root, Path::new(path), flags).unwrap_err();
            let own = by_hand(root.try_clone().unwrap().into(), Path::new(path), flags).map(drop);
            assert_eq!(own.err().as_ref(), real.downcast_ref(), "{path}");
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
