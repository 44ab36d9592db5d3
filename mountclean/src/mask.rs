//! The parts of /proc and /sys that container runtimes hide or make read-only (the defaults of
//! runc 1.1 and of the engines above it).

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result};
use chain::attach::{self, NODEV, NOEXEC, NOSUID, Place, READ_ONLY};
use chain::patient::openat;
use chain::{Umask, mounts, open_inside};
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat};
use nix::unistd::fchdir;
use rustix::fs::{CWD, OFlags};

use crate::procfs;
use crate::step::State;

const HIDDEN: [&str; 9] =
    ["acpi", "asound", "kcore", "keys", "latency_stats", "timer_list", "timer_stats", "sched_debug", "scsi"];
const HIDDEN_IN_SYS: &str = "/sys/firmware";
const READ_ONLY_PATHS: [&str; 5] = ["bus", "fs", "irq", "sys", "sysrq-trigger"];

/// Masks what is there. The image's /dev/null may be missing or no device, so files are hidden by an
/// empty file, directories by an empty directory, both in memory and read-only.
pub fn mask(state: &mut State) -> Result<()> {
    let proc = state.proc()?.try_clone()?;
    let root = procfs::root()?;
    // Attached only while it is taken from (Linux before 6.15 copies no mount that is not), on `/`,
    // where it hides nothing: paths begin below it.
    let at = Place { root: root.as_fd(), path: Path::new("/") };
    let options = [("mode", Some("555")), ("size", Some("4k"))];
    let nothing = attach::filesystem("tmpfs", &options, NOSUID | NODEV | NOEXEC, at).context("tmpfs")?;
    let masked = all(&nothing, &proc, &root);
    // By way of the working directory: no path is resolved again.
    let cwd = openat(CWD, ".", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    fchdir(&nothing)?;
    umount2(".", MntFlags::MNT_DETACH).context("tmpfs")?;
    fchdir(&cwd)?;
    state.own.extend(masked?);
    Ok(())
}

fn all(nothing: &OwnedFd, proc: &OwnedFd, root: &OwnedFd) -> Result<Vec<u64>> {
    let _umask = Umask::set(0o022);
    let mode = Mode::from_bits_truncate(0o444);
    openat(nothing, "file", OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC, mode).context("tmpfs")?;
    mkdirat(nothing, "directory", Mode::from_bits_truncate(0o555)).context("tmpfs")?;
    let file = open_inside(nothing, Path::new("file"), OFlags::PATH)?;
    let directory = open_inside(nothing, Path::new("directory"), OFlags::PATH)?;
    let places = HIDDEN.iter().map(|path| Place { root: proc.as_fd(), path: Path::new(path) });
    let places = places.chain([Place { root: root.as_fd(), path: Path::new(HIDDEN_IN_SYS) }]);
    let mut ids = Vec::new();
    for place in places {
        let Ok(there) = place.open() else { continue };
        let kind = SFlag::from_bits_truncate(fstat(&there)?.st_mode) & SFlag::S_IFMT;
        let cover = if kind == SFlag::S_IFDIR { &directory } else { &file };
        ids.push(covered(cover, place)?);
    }
    for path in READ_ONLY_PATHS {
        let place = Place { root: proc.as_fd(), path: Path::new(path) };
        let Ok(there) = place.open() else { continue };
        ids.push(covered(&there, place)?);
    }
    Ok(ids)
}

fn covered(cover: &OwnedFd, place: Place) -> Result<u64> {
    attach::bind(cover, place, READ_ONLY | NOSUID | NODEV | NOEXEC)
        .and_then(mounts::id_of)
        .with_context(|| place.path.display().to_string())
}

pub fn shell(f: &mut fmt::Formatter) -> fmt::Result {
    let hidden: Vec<String> = HIDDEN.iter().map(|path| format!("/proc/{path}")).collect();
    let read_only: Vec<String> = READ_ONLY_PATHS.iter().map(|path| format!("/proc/{path}")).collect();
    writeln!(
        f,
        "mask() {{\nfor path in {} {HIDDEN_IN_SYS}; do if [ -d $path ]; then mount -t tmpfs -o ro tmpfs $path; \
         elif [ -e $path ]; then mount --bind /dev/null $path; fi; done",
        hidden.join(" ")
    )?;
    write!(
        f,
        "for path in {}; do if [ -e $path ]; then mount --bind $path $path; \
         mount -o remount,bind,ro,nosuid,nodev,noexec $path; fi; done\n}}\nmask",
        read_only.join(" ")
    )
}
