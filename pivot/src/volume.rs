//! Mounts inside the root, attached by descriptor to places that the kernel resolved inside it.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Error, Result, anyhow};
use chain::Hint;
use chain::attach::{self, NODEV, NOEXEC, NOSUID, Place, READ_ONLY};
use chain::retry_eintr::open;
use chain::shell::quote;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, SFlag, fstat};

use crate::args::{BindOptions, Volume};
use crate::dev;
use crate::place::{self, Kind, inside};
use crate::places;

/// Mounts it below `tree`.
pub fn mount(volume: &Volume, tree: &OwnedFd) -> Result<()> {
    match volume {
        Volume::Bind { source, target, options } => bind(source, target, *options, tree),
        Volume::Tmpfs { target, options } => {
            let options: Vec<_> = options.iter().map(|(key, value)| (key.as_str(), Some(value.as_str()))).collect();
            place::ensure(tree, target, Kind::Directory)?;
            attach::filesystem("tmpfs", &options, NOSUID | NODEV, Place { root: tree.as_fd(), path: target })
        }
        Volume::Dev => dev::mount(tree),
    }
    .map(drop)
}

fn bind(source: &Path, target: &Path, options: BindOptions, tree: &OwnedFd) -> Result<OwnedFd> {
    let opened = open(source, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).map_err(|errno| {
        let error = Error::new(errno).context(source.display().to_string());
        let hint = match errno {
            Errno::ENOENT => "SRC is a path of the host's, and is never made",
            _ => return error,
        };
        error.context(Hint(hint.into()))
    })?;
    place::ensure(tree, target, kind(&opened)?)?;
    let chosen =
        [(options.read_only, READ_ONLY), (options.nosuid, NOSUID), (options.nodev, NODEV), (options.noexec, NOEXEC)];
    let attributes = chosen.into_iter().filter(|(on, _)| *on).fold(0, |all, (_, bit)| all | bit);
    let place = Place { root: tree.as_fd(), path: target };
    attach::bind(&opened, place, attributes).map_err(|error| {
        let there = place.open().and_then(|there| kind(&there));
        match (kind(&opened), there, error.downcast_ref()) {
            (Ok(Kind::File), Ok(Kind::Directory), _) => {
                anyhow!("{} in the root is a directory, and SRC is a file", target.display())
            }
            (Ok(Kind::Directory), Ok(Kind::File), _) => {
                anyhow!("{} in the root is a file, and SRC is a directory", target.display())
            }
            (_, _, Some(Errno::EPERM)) => error
                .context(Hint("in a user namespace attributes that SRC's own mount has cannot be taken away".into())),
            _ => error,
        }
    })
}

/// What a source is mounted on: a directory on a directory, anything else on a file.
pub fn kind(source: &OwnedFd) -> Result<Kind> {
    let mode = SFlag::from_bits_truncate(fstat(source)?.st_mode) & SFlag::S_IFMT;
    Ok(if mode == SFlag::S_IFDIR { Kind::Directory } else { Kind::File })
}

/// The step's shell lines; `root` is quoted already.
pub fn shell(volume: &Volume, root: &str, f: &mut fmt::Formatter) -> fmt::Result {
    places::shell_for(volume, root, f)?;
    match volume {
        Volume::Bind { source, target, options } => {
            let (source, target) = (quote(source), inside(root, target));
            let words = [
                (options.read_only, "ro"),
                (options.nosuid, "nosuid"),
                (options.nodev, "nodev"),
                (options.noexec, "noexec"),
            ];
            let words: Vec<_> = words.into_iter().filter(|(on, _)| *on).map(|(_, word)| word).collect();
            if words.is_empty() {
                return write!(f, "mount --rbind {source} {target}");
            }
            writeln!(f, "{REMOUNT_BELOW}")?;
            write!(f, "mount --rbind {source} {target} && remount_below {target} {}", words.join(","))
        }
        Volume::Tmpfs { target, options } => {
            let target = inside(root, target);
            let options: String = options.iter().map(|(key, value)| format!(",{key}={value}")).collect();
            write!(f, "mount -t tmpfs -o {} tmpfs {target}", quote(format!("nosuid,nodev{options}")))
        }
        Volume::Dev => dev::shell(root, f),
    }
}

/// A function of the script: attributes for a mount and those below it.
pub const REMOUNT_BELOW: &str = "\
remount_below() { findmnt --raw --noheadings --output TARGET --submounts \"$1\" | while read -r point; do \
    mount -o \"remount,bind,$2\" \"$(printf %b \"$point\")\"; done; }";
