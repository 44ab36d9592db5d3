//! A directory of the root in which nothing may be made, covered by one in memory that shows what is there.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result};
use chain::attach::{self, NODEV, NOSUID, Place};
use chain::retry_eintr::openat;
use chain::{file_kind, names_in};
use nix::fcntl::{OFlag, readlinkat};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat, mknodat};
use nix::unistd::{Gid, Uid, fchown, symlinkat};

use crate::receives::Receives;

/// Mounts the directory in memory at `path`, which `dir` is open on. Each entry is bound into it, not copied: what
/// could be changed below can be changed through it.
pub fn cover(root: BorrowedFd, path: &Path, dir: &OwnedFd, receives: Receives) -> Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let below = openat(dir, ".", flags, Mode::empty()).context("list it")?;
    let like = fstat(&below)?;
    let mode = format!("{:o}", like.st_mode & 0o7777);
    let options = [("mode", Some(mode.as_str())), ("size", Some("1m"))];
    let memory = attach::filesystem("tmpfs", &options, NOSUID | NODEV, Place { root, path })?;
    // A user namespace cannot give files to an owner that it does not map.
    let _ = fchown(&memory, Some(Uid::from_raw(like.st_uid)), Some(Gid::from_raw(like.st_gid)));
    for name in names_in(below.try_clone()?)? {
        show(&name, &below, &memory, receives).with_context(|| name.display().to_string())?;
    }
    Ok(memory)
}

fn show(name: &OsStr, below: &OwnedFd, memory: &OwnedFd, receives: Receives) -> Result<()> {
    let entry = openat(below, name, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
    match file_kind(&entry)? {
        SFlag::S_IFLNK => return Ok(symlinkat(readlinkat(below, name)?.as_os_str(), memory, name)?),
        SFlag::S_IFDIR => mkdirat(memory, name, Mode::from_bits_truncate(0o755))?,
        _ => mknodat(memory, name, SFlag::S_IFREG, Mode::from_bits_truncate(0o644), 0)?,
    }
    let place = Place { root: memory.as_fd(), path: Path::new(name) };
    // A volume that receives mounts may be below.
    let shown = if receives == Receives::Now { attach::bind_receiving } else { attach::bind };
    shown(&entry, place, 0).map(drop)
}

/// A function in the script: covers the nearest directory that is there, unless it is in memory already.
pub const SHELL: &str = "\
cover() {
if [ -e \"$1\" ] || [ -L \"$1\" ]; then return; fi
near=${1%/*}; while [ ! -d \"${near:-/}\" ]; do near=${near%/*}; done; near=${near:-/}
case \" $covers \" in *\" $(stat -c %d \"$near\") \"*) return;; esac
from=$PWD; cd -P \"$near\"; mount -t tmpfs -o \"nosuid,nodev,mode=$(stat -c %a .),size=1m\" tmpfs \"$PWD\"
chown --reference=. \"$PWD\" 2>/dev/null || :
for name in * .[!.]* ..?*; do
if [ -L \"$name\" ]; then cp -P -- \"$name\" \"$PWD\"
elif [ -d \"$name\" ]; then mkdir -- \"$PWD/$name\"; mount -c --rbind -- \"./$name\" \"$PWD/$name\"
elif [ -e \"$name\" ]; then : >\"$PWD/$name\"; mount -c --bind -- \"./$name\" \"$PWD/$name\"; fi
done
covers=\"$covers $(stat -c %d \"$PWD\")\"; cd \"$from\"
}";
