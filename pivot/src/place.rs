//! One place inside the root to mount on, made where it is missing.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Error, Result, anyhow, bail};
use chain::retry_eintr::openat;
use chain::shell::quote;
use chain::{MOST_LINKS, Umask, WithHint, file_kind, hinted, mounts, open_inside};
use nix::errno::Errno;
use nix::fcntl::{OFlag, readlinkat};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat};
use nix::unistd::symlinkat;

use crate::tree::{Tree, Wanted};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Directory,
    File,
}

/// What a source is mounted on: a directory on a directory, anything else on a file.
pub fn kind_of(source: &OwnedFd) -> Result<Kind> {
    Ok(if file_kind(source)? == SFlag::S_IFDIR { Kind::Directory } else { Kind::File })
}

/// Makes sure that something is at `path` inside the root. Every directory on the way is opened by the
/// kernel inside the root, so whatever a link says or a rename does, nothing is made outside.
pub fn ensure(tree: &mut Tree, path: &Path, kind: Kind, wanted: Wanted) -> Result<()> {
    match open_inside(&tree, path, OFlag::O_PATH) {
        Ok(_) => return Ok(()),
        Err(error) if error.downcast_ref() != Some(&Errno::ENOENT) => return Err(error),
        Err(_) => {}
    }
    let _umask = Umask::set(0o022);
    walk(tree, path, Some((kind, wanted))).map(drop)
}

/// Where a path leads inside the root, links followed. What is missing is as it is named.
pub fn resolve(tree: &mut Tree, path: &Path) -> Result<PathBuf> {
    walk(tree, path, None)
}

fn walk(tree: &mut Tree, path: &Path, make: Option<(Kind, Wanted)>) -> Result<PathBuf> {
    let mut rest: VecDeque<OsString> = names(path).collect();
    let mut here = PathBuf::from("/");
    let mut links = 0;
    while let Some(name) = rest.pop_front() {
        if name == ".." {
            here.pop();
            continue;
        }
        let parent = match open_inside(&tree, &here, OFlag::O_PATH | OFlag::O_DIRECTORY) {
            Err(error) if make.is_none() && error.downcast_ref() == Some(&Errno::ENOENT) => {
                here.push(name);
                continue;
            }
            parent => parent?,
        };
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
                let made = make.map(|(kind, wanted)| {
                    tree.make_in(&here, &parent, wanted, |parent| match kind {
                        Kind::File if rest.is_empty() => make_file(parent, &name),
                        _ => mkdirat(parent, name.as_os_str(), Mode::from_bits_truncate(0o755)),
                    })
                });
                made.transpose().map_err(|error| not_made(error, &here.join(&name), &parent))?;
                here.push(name);
            }
            Err(errno) => return Err(errno).context(here.join(&name).display().to_string()),
        }
    }
    Ok(here)
}

/// A symbolic link in the root.
pub fn link(tree: &mut Tree, target: &Path, path: &Path) -> Result<()> {
    let (parent, name) = match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => (parent, name),
        _ => bail!("{}: not a name for a link", path.display()),
    };
    ensure(tree, parent, Kind::Directory, Wanted::Itself)?;
    let here = resolve(tree, parent)?;
    let directory = open_inside(&tree, &here, OFlag::O_PATH | OFlag::O_DIRECTORY)?;
    let there = || openat(&directory, name, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty());
    match readlinkat(&directory, name) {
        Ok(link) if link == target.as_os_str() => return Ok(()),
        _ if there().is_ok() => {
            return Err(anyhow!("{} in the root exists and is not a link to {}", path.display(), target.display()))
                .hint("--symlink makes a link where nothing is");
        }
        _ => {}
    }
    tree.make_in(&here, &directory, Wanted::Itself, |parent| symlinkat(target, parent, name))
        .map_err(|error| not_made(error, &here.join(name), &directory))
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

fn make_file(parent: BorrowedFd, name: &OsStr) -> Result<(), Errno> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(parent, name, flags, Mode::from_bits_truncate(0o644)).map(drop)
}

fn not_made(error: Error, path: &Path, parent: &OwnedFd) -> Error {
    let hint = error.downcast_ref().and_then(|&errno| why_not_made(errno, path, parent));
    hinted(error.context(format!("{} in the root is missing and cannot be made", path.display())), hint)
}

fn why_not_made(errno: Errno, path: &Path, parent: &OwnedFd) -> Option<String> {
    let dir = path.parent()?.display();
    Some(match errno {
        //: DST in the root | mkdir, open: EROFS | the root is read-only; below another directory it is made in memory | the only cause |
        //: pivot/places::why_a_place_cannot_be_made_is_found_by_looking
        Errno::EROFS => "the root is read-only: make it there beforehand, or use --ephemeral".into(),
        Errno::EPERM if mounts::is_immutable(parent) => {
            //: DST in the root | mkdir, open: EPERM | the root's directory is immutable (chattr +i); below another one it
            //: is made in memory | statx | pivot/places::why_a_place_cannot_be_made_is_found_by_looking
            format!("{dir} in the root is immutable: chattr -i, or use --ephemeral")
        }
        Errno::EACCES => {
            let stat = fstat(parent).ok()?;
            let (mode, user) = (stat.st_mode & 0o7777, stat.st_uid);
            //: DST in the root | mkdir, open: EACCES | the caller may not write in the root's directory; below another one
            //: it is made in memory | statx | pivot/places::in_the_root_itself_that_takes_an_option_which_the_message_names
            format!(
                "{dir} in the root (mode {mode:04o}, user {user}) cannot be written by this user: make it there beforehand, or use --ephemeral"
            )
        }
        //: DST in the root | mkdir, open: EOVERFLOW | the filesystem has no number for this user: idmapped, or mounted in a
        //: user namespace; below another directory it is made in memory | the only cause |
        //: pivot/places::a_filesystem_that_does_not_know_the_user_is_named
        Errno::EOVERFLOW => {
            "this user has no number on ROOT's filesystem: make it there beforehand, or use --ephemeral".into()
        }
        _ => return None,
    })
}
