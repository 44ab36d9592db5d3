//! Mounts inside the root, attached by descriptor to places that the kernel resolved inside it.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Error, Result, anyhow};
use chain::attach::{self, NODEV, NOEXEC, NOSUID, Place, READ_ONLY};
use chain::retry_eintr::open;
use chain::shell::quote;
use chain::{Hint, open_inside, why_denied};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use crate::args::{Changes, Flags, Volume};
use crate::overlay::{self, Layer};
use crate::place::{self, Kind, inside};
use crate::tree::{Tree, Wanted};
use crate::{descriptors, dev, hide, places, why_failed};

/// Mounts it below `tree`. Returns the mount through which a directory that takes changes is locked.
pub fn mount(volume: &Volume, tree: &mut Tree) -> Result<Option<OwnedFd>> {
    match volume {
        Volume::Bind { source, optional: true, .. } if source.symlink_metadata().is_err_and(is_missing) => {}
        Volume::Bind { source, target, flags, recursive, changes, .. } => {
            let opened = open_source(source)?;
            let kind = place::kind_of(&opened)
                .map_err(|error| why_denied::explained(error.context(source.display().to_string()), source))?;
            place::ensure(tree, target, kind, Wanted::AsPlace)?;
            let place = Place { root: tree.as_fd(), path: target };
            return match changes {
                Changes::Source => bind(&opened, kind, place, attributes(*flags), *recursive).map(|()| None),
                _ if kind == Kind::File => Err(anyhow!("{}: an overlay is over a directory", source.display())),
                Changes::Memory => overlaid(overlay::in_memory_at(place, &opened)?, &opened, *flags, place),
                Changes::Directory(dir) => overlaid(overlay::kept(dir, &opened)?, &opened, *flags, place),
            };
        }
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

fn overlaid(layer: Layer, source: &OwnedFd, flags: Flags, place: Place) -> Result<Option<OwnedFd>> {
    overlay::mount_at(&layer, source, attributes(flags), place)?;
    Ok(layer.lock)
}

fn is_missing(error: std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::NotFound
}

pub fn attributes(flags: Flags) -> u64 {
    let Flags { read_only, nosuid, nodev, noexec } = flags;
    let chosen = [(read_only, READ_ONLY), (nosuid, NOSUID), (nodev, NODEV), (noexec, NOEXEC)];
    chosen.into_iter().filter(|(on, _)| *on).fold(0, |all, (_, bit)| all | bit)
}

pub fn words(flags: Flags) -> String {
    let Flags { read_only, nosuid, nodev, noexec } = flags;
    let words = [(read_only, "ro"), (nosuid, "nosuid"), (nodev, "nodev"), (noexec, "noexec")];
    words.into_iter().filter(|(on, _)| *on).map(|(_, word)| word).collect::<Vec<_>>().join(",")
}

fn open_source(source: &Path) -> Result<OwnedFd> {
    let source = &descriptors::named(source)?;
    open(source, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).map_err(|errno| {
        let error = Error::new(errno).context(source.display().to_string());
        let hint = match errno {
            //: --bind SRC | open: ENOENT | SRC is not there | the only cause |
            //: pivot/volumes::files_are_mounted_on_files_and_a_mismatch_is_explained
            Errno::ENOENT => "SRC is a path of the host's, and is never made".into(),
            Errno::EACCES => why_denied::explain(source),
            _ => return error,
        };
        error.context(Hint(hint))
    })
}

fn bind(source: &OwnedFd, kind_of_source: Kind, place: Place, attributes: u64, recursive: bool) -> Result<()> {
    let target = place.path;
    let bound = match recursive {
        true => attach::bind(source, place, attributes),
        false => attach::bind_alone(source, place, attributes),
    };
    bound.map(drop).map_err(|error| {
        let there = place.open().and_then(|there| place::kind_of(&there));
        match (kind_of_source, there, error.downcast_ref()) {
            (Kind::File, Ok(Kind::Directory), _) => {
                anyhow!("{} in the root is a directory, and SRC is a file", target.display())
            }
            (Kind::Directory, Ok(Kind::File), _) => {
                anyhow!("{} in the root is a file, and SRC is a directory", target.display())
            }
            (_, _, Some(Errno::EINVAL)) if !recursive => error.context(Hint(
                "in a user namespace SRC takes along what is mounted below it, which would show what that hides".into(),
            )),
            (_, _, Some(&errno @ (Errno::EPERM | Errno::EINVAL))) => why_failed::of_bind(errno, source),
            _ => error,
        }
    })
}

/// The step's shell lines; `root` is quoted already.
pub fn shell(volume: &Volume, root: &str, f: &mut fmt::Formatter) -> fmt::Result {
    places::shell_for(volume, root, f)?;
    match volume {
        Volume::Bind { source, target, flags, optional, recursive, changes } => {
            let (source, target, words) = (quote(source), inside(root, target), words(*flags));
            let (unless, end) =
                if *optional { (format!("[ ! -e {source} ] || {{ "), "; }") } else { Default::default() };
            let dir = match changes {
                Changes::Source => None,
                Changes::Memory => Some(None),
                Changes::Directory(dir) => Some(Some(dir.as_path())),
            };
            if let Some(dir) = dir {
                f.write_str(&unless)?;
                overlay::shell(dir, &source, &target, f)?;
                if !words.is_empty() {
                    write!(f, "\nmount -o remount,bind,{words} {target}")?;
                }
                return f.write_str(end);
            }
            let bind = if *recursive { "--rbind" } else { "--bind" };
            if words.is_empty() {
                return write!(f, "{unless}mount {bind} {source} {target}{end}");
            }
            writeln!(f, "{REMOUNT_BELOW}")?;
            write!(f, "{unless}mount {bind} {source} {target} && remount_below {target} {words}{end}")
        }
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

/// A function in the script: sets attributes on a mount and on those below it.
pub const REMOUNT_BELOW: &str = "\
remount_below() { findmnt --raw --noheadings --output TARGET --submounts \"$1\" | while read -r point; do \
    mount -o \"remount,bind,$2\" \"$(printf %b \"$point\")\"; done; }";
