//! One place inside the root to mount on, made where it is missing.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Error, Result, anyhow, bail};
use chain::retry_eintr::openat;
use chain::shell::quote;
use chain::{Hint, Umask, open_inside};
use nix::errno::Errno;
use nix::fcntl::{OFlag, readlinkat};
use nix::sys::stat::{Mode, mkdirat};
use rustix::fs::OFlags;

/// As the kernel's own limit (path_resolution(7)).
const MOST_LINKS: usize = 40;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Directory,
    File,
}

/// Makes sure that something is at `path` inside `root`. Every directory on the way is opened by the
/// kernel inside the root, so whatever a link says or a rename does, nothing is made outside.
pub fn ensure(root: impl AsFd, path: &Path, kind: Kind) -> Result<()> {
    match open_inside(&root, path, OFlags::PATH) {
        Ok(_) => return Ok(()),
        Err(error) if error.downcast_ref() != Some(&rustix::io::Errno::NOENT) => return Err(error),
        Err(_) => {}
    }
    let _umask = Umask::set(0o022);
    let mut rest: VecDeque<OsString> = names(path).collect();
    let mut here = PathBuf::from("/");
    let mut links = 0;
    while let Some(name) = rest.pop_front() {
        if name == ".." {
            here.pop();
            continue;
        }
        let parent = open_inside(&root, &here, OFlags::PATH | OFlags::DIRECTORY)?;
        match readlinkat(&parent, name.as_os_str()) {
            Ok(link) => {
                links += 1;
                if links > MOST_LINKS {
                    bail!("too many symbolic links");
                }
                if link.as_bytes().starts_with(b"/") {
                    here = PathBuf::from("/");
                }
                names(Path::new(&link)).rev().for_each(|name| rest.push_front(name));
            }
            // There, and no link.
            Err(Errno::EINVAL) => here.push(name),
            Err(Errno::ENOENT) => {
                let made = if kind == Kind::File && rest.is_empty() {
                    make_file(&parent, &name)
                } else {
                    mkdirat(&parent, name.as_os_str(), Mode::from_bits_truncate(0o755))
                };
                made.or_else(already).map_err(|errno| not_made(errno, &here.join(&name)))?;
                here.push(name);
            }
            Err(errno) => return Err(errno).context(here.join(&name).display().to_string()),
        }
    }
    Ok(())
}

/// A path in the root as the shell lines have it.
pub fn inside(root: &str, target: &Path) -> String {
    format!("{root}{}", quote(Path::new("/").join(target)))
}

fn names(path: &Path) -> impl DoubleEndedIterator<Item = OsString> + '_ {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    })
}

fn make_file(parent: &OwnedFd, name: &OsStr) -> Result<(), Errno> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(parent, name, flags, Mode::from_bits_truncate(0o644)).map(drop)
}

fn already(errno: Errno) -> Result<(), Errno> {
    if errno == Errno::EEXIST { Ok(()) } else { Err(errno) }
}

fn not_made(errno: Errno, path: &Path) -> Error {
    let error = anyhow!(errno).context(format!("{} in the root is missing and cannot be made", path.display()));
    match errno {
        Errno::EROFS => {
            error.context(Hint("the root is read-only: make it there beforehand, or use --ephemeral".into()))
        }
        Errno::EACCES => {
            error.context(Hint("ROOT belongs to somebody else: make it there beforehand, or use --ephemeral".into()))
        }
        _ => error,
    }
}
