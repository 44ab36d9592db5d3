//! Mounts inside the root, attached by descriptor to places that the kernel resolved inside it.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result};
use chain::attach::{self, Place};
use chain::open_inside;
use chain::shell::quote;
use nix::fcntl::OFlag;

use crate::args::Volume;
use crate::flags::{attributes, words};
use crate::place::{self, Kind, inside};
use crate::tree::{Tree, Wanted};
use crate::{bind, dev, hide, places};

/// Mounts it below `tree`. Returns the mount through which a directory that takes changes is locked.
pub fn mount(volume: &Volume, tree: &mut Tree) -> Result<Option<OwnedFd>> {
    match volume {
        Volume::Bind(bound) => return bind::mount(bound, tree),
        Volume::Tmpfs { target, options, flags } => {
            let options: Vec<_> = options.iter().map(|(key, value)| (key.as_str(), Some(value.as_str()))).collect();
            place::ensure(tree, target, Kind::Directory, Wanted::AsPlace)?;
            let place = Place { root: tree.as_fd(), path: target };
            let memory = attach::filesystem("tmpfs", &options, attributes(*flags), place)?;
            tree.owns(&memory)?;
        }
        Volume::Dev => {
            let dev = dev::mount(tree)?;
            tree.owns(&dev)?;
        }
        Volume::Hide { path } => hide::hide(tree.as_fd(), path)?,
        Volume::Directory { path } => {
            place::ensure(tree, path, Kind::Directory, Wanted::Itself)?;
            open_inside(&tree, path, OFlag::O_PATH | OFlag::O_DIRECTORY)
                .with_context(|| format!("{} in the root", path.display()))?;
        }
        Volume::Symlink { target, path } => place::link(tree, target, path)?,
    }
    Ok(None)
}

/// The step's shell lines; `root` is quoted already, and `private` as [`bind::shell`] has it.
pub fn shell(volume: &Volume, root: &str, private: bool, f: &mut fmt::Formatter) -> fmt::Result {
    places::shell_for(volume, root, f)?;
    match volume {
        Volume::Bind(bound) => bind::shell(bound, root, private, f),
        Volume::Tmpfs { target, options, flags } => {
            let target = inside(root, target);
            let words = std::iter::once(words(*flags)).filter(|words| !words.is_empty());
            let options: Vec<_> = words.chain(options.iter().map(|(key, value)| format!("{key}={value}"))).collect();
            let options = if options.is_empty() { "rw".into() } else { options.join(",") };
            write!(f, "mount -t tmpfs -o {} tmpfs {target}", quote(options))
        }
        // Its place is all that it needs.
        Volume::Directory { .. } | Volume::Symlink { .. } => Ok(()),
        Volume::Dev => dev::shell(root, f),
        Volume::Hide { path } => hide::shell(root, &inside(root, path), f),
    }
}
