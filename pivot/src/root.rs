//! The root's own mount, stacked on ROOT so that pivot_root can take it.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Error, Result, ensure};
use chain::attach::{self, Place};
use chain::retry_eintr::open;
use chain::{Hint, mounts, why_denied};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, fstat};

use crate::args::IdMap;
use crate::receives::Receives;
use crate::{id_map, why_failed};

const DIRECTORY: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

/// ROOT as the host has it.
pub fn open_root(root: &Path) -> Result<OwnedFd> {
    open(root, DIRECTORY, Mode::empty()).map_err(|errno| {
        let error = Error::new(errno).context(root.display().to_string());
        let shown = chain::shell::quote(root);
        match errno {
            Errno::ENOENT if root.is_symlink() => error.context(Hint("it is a link to nothing".into())),
            Errno::ENOENT if shown.contains(':') => {
                error.context(Hint(format!("a volume is --bind {shown}, before ROOT; -v is --verbose")))
            }
            Errno::ENOENT if is_program(root) => {
                error.context(Hint(format!("ROOT comes before COMMAND: pivot ROOT -- {shown}")))
            }
            Errno::ENOENT => error.context(Hint(format!("make it first: unpack IMAGE {shown}"))),
            Errno::ENOTDIR if root.is_file() => error.context(Hint(format!(
                "an image becomes a directory with unpack: unpack {shown} ./root -- pivot ./root"
            ))),
            Errno::EACCES => error.context(Hint(why_denied::explain(root))),
            _ => error,
        }
    })
}

/// Tells a tree from another that has taken its name.
pub fn identity(root: &OwnedFd) -> Result<(u64, u64)> {
    let stat = fstat(root)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// A bare word that a shell would find a program for.
fn is_program(word: &Path) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    word.components().count() == 1 && std::env::split_paths(&path).any(|dir| dir.join(word).is_file())
}

/// A copy of the mount that ROOT is on, from ROOT down, on top of ROOT.
pub fn bind(root: &OwnedFd, id_map: Option<&IdMap>, receives: Receives) -> Result<OwnedFd> {
    let private = receives.attribute_of_others();
    let copy = attach::copy(root).map_err(|errno| why_failed::of_bind(errno, root));
    let copy = match id_map {
        Some(map) => {
            let copy = copy?;
            id_map::apply(map, &copy, true, root)?;
            Ok(copy)
        }
        None => copy,
    };
    let is_set = match &copy {
        Ok(copy) => private != 0 && attach::set_unattached(copy, private)?,
        Err(_) => false,
    };
    let bound = stack(root, copy, |place| attach::bind(root, place, 0))?;
    if !is_set {
        attach::set(&bound, private)?;
    }
    Ok(bound)
}

/// The same in shell; `root` is quoted already.
pub fn shell(root: &str, id_map: Option<&IdMap>, receives: Receives, f: &mut fmt::Formatter) -> fmt::Result {
    let private = if receives == Receives::Now { " --make-rprivate" } else { "" };
    match id_map {
        Some(map) => {
            writeln!(f, "{}\nidmapped {} --rbind {root} {root}", id_map::SHELL, chain::shell::quote(map.to_string()))?;
            match receives {
                Receives::Now => write!(f, "mount --make-rprivate {root}"),
                _ => Ok(()),
            }
        }
        None => write!(f, "mount --rbind{private} {root} {root}"),
    }
}

/// Attaches a mount on ROOT. If the kernel cannot make one without attaching it, `by_path` does both.
pub fn stack(
    root: &OwnedFd,
    unattached: Result<OwnedFd>,
    by_path: impl FnOnce(Place) -> Result<OwnedFd>,
) -> Result<OwnedFd> {
    let attached = unattached.and_then(|made| {
        attach::attach(&made, root).map_err(attach::why_not_attached)?;
        Ok(made)
    });
    match attached {
        Ok(made) => Ok(made),
        Err(error) if error.downcast_ref() == Some(&Errno::ENOSYS) => {
            let path = attach::path_of(root)?;
            let host = open("/", DIRECTORY, Mode::empty())?;
            let made = by_path(Place { root: host.as_fd(), path: &path })?;
            ensure!(mounts::is_mount_root(&made)?, "{}: was moved meanwhile", path.display());
            Ok(made)
        }
        Err(error) => Err(error),
    }
}
