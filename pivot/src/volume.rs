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
use nix::sys::stat::{Mode, SFlag, fstat};

use crate::args::{Flags, Volume};
use crate::place::{self, Kind, inside};
use crate::{descriptors, dev, places, why_failed};

/// Mounts it below `tree`.
pub fn mount(volume: &Volume, tree: &OwnedFd) -> Result<()> {
    match volume {
        Volume::Bind { source, optional: true, .. } if source.symlink_metadata().is_err_and(is_missing) => Ok(()),
        Volume::Bind { source, target, flags, .. } => bind(source, target, *flags, tree).map(drop),
        Volume::Tmpfs { target, options, flags } => {
            let options: Vec<_> = options.iter().map(|(key, value)| (key.as_str(), Some(value.as_str()))).collect();
            place::ensure(tree, target, Kind::Directory)?;
            let place = Place { root: tree.as_fd(), path: target };
            attach::filesystem("tmpfs", &options, attributes(*flags), place).map(drop)
        }
        Volume::Dev => dev::mount(tree).map(drop),
        Volume::Directory { path } => {
            place::ensure(tree, path, Kind::Directory)?;
            open_inside(tree, path, OFlag::O_PATH | OFlag::O_DIRECTORY)
                .with_context(|| format!("{} in the root", path.display()))
                .map(drop)
        }
        Volume::Symlink { target, path } => place::link(tree, target, path),
    }
}

fn is_missing(error: std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::NotFound
}

fn attributes(flags: Flags) -> u64 {
    let Flags { read_only, nosuid, nodev, noexec } = flags;
    let chosen = [(read_only, READ_ONLY), (nosuid, NOSUID), (nodev, NODEV), (noexec, NOEXEC)];
    chosen.into_iter().filter(|(on, _)| *on).fold(0, |all, (_, bit)| all | bit)
}

fn words(flags: Flags) -> String {
    let Flags { read_only, nosuid, nodev, noexec } = flags;
    let words = [(read_only, "ro"), (nosuid, "nosuid"), (nodev, "nodev"), (noexec, "noexec")];
    words.into_iter().filter(|(on, _)| *on).map(|(_, word)| word).collect::<Vec<_>>().join(",")
}

fn bind(source: &Path, target: &Path, flags: Flags, tree: &OwnedFd) -> Result<OwnedFd> {
    let source = &descriptors::named(source)?;
    let opened = open(source, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).map_err(|errno| {
        let error = Error::new(errno).context(source.display().to_string());
        let hint = match errno {
            //: --bind SRC | open: ENOENT | SRC is not there | the only cause |
            //: pivot/volumes::files_are_mounted_on_files_and_a_mismatch_is_explained
            Errno::ENOENT => "SRC is a path of the host's, and is never made".into(),
            Errno::EACCES => why_denied::explain(source),
            _ => return error,
        };
        error.context(Hint(hint))
    })?;
    let kind_of_source =
        kind(&opened).map_err(|error| why_denied::explained(error.context(source.display().to_string()), source))?;
    place::ensure(tree, target, kind_of_source)?;
    let place = Place { root: tree.as_fd(), path: target };
    attach::bind(&opened, place, attributes(flags)).map_err(|error| {
        let there = place.open().and_then(|there| kind(&there));
        match (kind_of_source, there, error.downcast_ref()) {
            (Kind::File, Ok(Kind::Directory), _) => {
                anyhow!("{} in the root is a directory, and SRC is a file", target.display())
            }
            (Kind::Directory, Ok(Kind::File), _) => {
                anyhow!("{} in the root is a file, and SRC is a directory", target.display())
            }
            (_, _, Some(&errno @ (Errno::EPERM | Errno::EINVAL))) => why_failed::of_bind(errno, &opened),
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
        Volume::Bind { source, target, flags, optional } => {
            let (source, target, words) = (quote(source), inside(root, target), words(*flags));
            let (unless, end) =
                if *optional { (format!("[ ! -e {source} ] || {{ "), "; }") } else { Default::default() };
            if words.is_empty() {
                return write!(f, "{unless}mount --rbind {source} {target}{end}");
            }
            writeln!(f, "{REMOUNT_BELOW}")?;
            write!(f, "{unless}mount --rbind {source} {target} && remount_below {target} {words}{end}")
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
    }
}

/// A function in the script: sets attributes on a mount and on those below it.
pub const REMOUNT_BELOW: &str = "\
remount_below() { findmnt --raw --noheadings --output TARGET --submounts \"$1\" | while read -r point; do \
    mount -o \"remount,bind,$2\" \"$(printf %b \"$point\")\"; done; }";
