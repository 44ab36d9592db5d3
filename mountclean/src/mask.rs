//! Hides the parts of /proc and /sys that container runtimes hide, and makes read-only what they do.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use chain::attach::{self, NODEV, NOEXEC, NOSUID, Place, READ_ONLY};
use chain::defaults::{HIDDEN_IN_PROC, HIDDEN_IN_SYS, READ_ONLY_IN_PROC};
use chain::retry_eintr::openat;
use chain::{Umask, file_kind, mounts, names_in, open_inside};
use nix::fcntl::{AT_FDCWD, OFlag};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::{Mode, SFlag, mkdirat};
use nix::unistd::fchdir;

use crate::procfs;

/// Each processor has a directory here, and its heat in it tells what everyone else does.
const PROCESSORS: &str = "/sys/devices/system/cpu";
const HIDDEN_OF_EACH: &str = "thermal_throttle";

/// Masks what exists, in this proc and in /sys: a file with an empty file, a directory with an empty directory, both in
/// memory and read-only. The image's /dev/null may be missing, or no device. Returns the ids of the masks.
pub fn mask(proc: &OwnedFd) -> Result<Vec<u64>> {
    let root = procfs::root()?;
    // Attached only while binds are made from it (before 6.15 Linux copies no detached mount), on `/`, where it hides
    // nothing: paths begin below it.
    let at = Place { root: root.as_fd(), path: Path::new("/") };
    let options = [("mode", Some("555")), ("size", Some("4k"))];
    let nothing = attach::filesystem("tmpfs", &options, NOSUID | NODEV | NOEXEC, at).context("tmpfs")?;
    let masked = all(&nothing, proc, &root);
    // By the working directory, so that no path is resolved again.
    let cwd = openat(AT_FDCWD, ".", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    fchdir(&nothing)?;
    umount2(".", MntFlags::MNT_DETACH).context("tmpfs")?;
    fchdir(&cwd)?;
    masked
}

fn all(nothing: &OwnedFd, proc: &OwnedFd, root: &OwnedFd) -> Result<Vec<u64>> {
    let _umask = Umask::set(0o022);
    let mode = Mode::from_bits_truncate(0o444);
    openat(nothing, "file", OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC, mode).context("tmpfs")?;
    mkdirat(nothing, "directory", Mode::from_bits_truncate(0o555)).context("tmpfs")?;
    let file = open_inside(nothing, Path::new("file"), OFlag::O_PATH)?;
    let directory = open_inside(nothing, Path::new("directory"), OFlag::O_PATH)?;
    let of_each = processors(root)?;
    let in_proc = HIDDEN_IN_PROC.iter().map(|path| Place { root: proc.as_fd(), path: Path::new(path) });
    let in_sys = HIDDEN_IN_SYS.iter().map(Path::new).chain(of_each.iter().map(PathBuf::as_path));
    let in_sys = in_sys.map(|path| Place { root: root.as_fd(), path });
    let mut ids = Vec::new();
    for place in in_proc.chain(in_sys) {
        let Some(there) = open_if_there(place)? else { continue };
        let cover = if file_kind(&there)? == SFlag::S_IFDIR { &directory } else { &file };
        ids.push(covered(cover, place)?);
    }
    for path in READ_ONLY_IN_PROC {
        let place = Place { root: proc.as_fd(), path: Path::new(path) };
        let Some(there) = open_if_there(place)? else { continue };
        ids.push(covered(&there, place)?);
    }
    Ok(ids)
}

/// None only if nothing is there: what cannot be opened for another reason would stay in sight.
fn open_if_there(place: Place) -> Result<Option<OwnedFd>> {
    place.open_if_there().with_context(|| place.path.display().to_string())
}

fn processors(root: &OwnedFd) -> Result<Vec<PathBuf>> {
    let place = Place { root: root.as_fd(), path: Path::new(PROCESSORS) };
    let Some(directory) = open_if_there(place)? else { return Ok(Vec::new()) };
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut names = names_in(openat(&directory, ".", flags, Mode::empty())?).context(PROCESSORS)?;
    names.retain(|name| {
        let number = name.to_str().and_then(|name| name.strip_prefix("cpu"));
        number.is_some_and(|number| number.parse::<u32>().is_ok())
    });
    Ok(names.iter().map(|name| Path::new(PROCESSORS).join(name).join(HIDDEN_OF_EACH)).collect())
}

fn covered(cover: &OwnedFd, place: Place) -> Result<u64> {
    attach::bind(cover, place, READ_ONLY | NOSUID | NODEV | NOEXEC)
        .and_then(mounts::id_of)
        .with_context(|| place.path.display().to_string())
}

pub fn shell(f: &mut fmt::Formatter) -> fmt::Result {
    let hidden: Vec<String> = HIDDEN_IN_PROC.iter().map(|path| format!("/proc/{path}")).collect();
    let read_only: Vec<String> = READ_ONLY_IN_PROC.iter().map(|path| format!("/proc/{path}")).collect();
    writeln!(
        f,
        "mask() {{\nfor path in {} {} {PROCESSORS}/cpu[0-9]*/{HIDDEN_OF_EACH}; do if [ -d $path ]; then mount -t tmpfs -o ro tmpfs $path; \
         elif [ -e $path ]; then mount --bind /dev/null $path; fi; done",
        hidden.join(" "),
        HIDDEN_IN_SYS.join(" ")
    )?;
    write!(
        f,
        "for path in {}; do if [ -e $path ]; then mount --bind $path $path; \
         mount -o remount,bind,ro,nosuid,nodev,noexec $path; fi; done\n}}\nmask",
        read_only.join(" ")
    )
}
