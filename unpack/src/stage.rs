//! Where a root is made before it is one: a hidden directory beside it, which only its owner can enter
//! and which is locked while its run lives.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use chain::WithHint;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::tree::remove;

const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// The tree's name in its staging directory.
pub const TREE: &str = "root";

pub struct Stage {
    /// ROOT's parent.
    pub parent: OwnedFd,
    pub parent_path: PathBuf,
    /// ROOT's own name.
    pub name: OsString,
    dir: OwnedFd,
    staged: OsString,
}

impl Stage {
    /// Sweeps what dead runs left and makes a staging directory for `root`.
    pub fn new(root: &Path) -> Result<Stage> {
        let (Some(parent_path), Some(name)) = (root.parent(), root.file_name()) else {
            anyhow::bail!("{}: the root directory cannot be made anew", root.display());
        };
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent = crate::patient::open(parent_path, flags, Mode::empty())
            .with_context(|| parent_path.display().to_string())?;
        sweep(parent.as_fd(), name);
        let (dir, staged) = make(parent.as_fd(), name)
            .with_context(|| format!("{}: make a staging directory", parent_path.display()))?;
        let stage = Stage { parent, parent_path: parent_path.to_owned(), name: name.to_owned(), dir, staged };
        let made = rustix::fs::mkdirat(&stage.dir, TREE, Mode::RWXU);
        made.with_context(|| stage.path().display().to_string())?;
        Ok(stage)
    }

    pub fn path(&self) -> PathBuf {
        self.parent_path.join(&self.staged)
    }

    pub fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    pub fn open_tree(&self) -> Result<OwnedFd> {
        crate::patient::openat(&self.dir, TREE, DIRECTORY, Mode::empty())
            .with_context(|| self.path().join(TREE).display().to_string())
    }

    /// Removes the staging directory and all that is in it; what a running container still uses stays
    /// for a later run to sweep.
    pub fn remove(&self) -> rustix::io::Result<()> {
        let Ok(_kept_out) = keep_out(self.dir.as_fd()) else { return Ok(()) };
        remove::remove(self.parent.as_fd(), self.staged.as_bytes())
    }

    /// What removes this directory from another thread.
    pub fn remover(&self) -> Result<Stage> {
        Ok(Stage {
            parent: self.parent.try_clone()?,
            parent_path: self.parent_path.clone(),
            name: self.name.clone(),
            dir: self.dir.try_clone()?,
            staged: self.staged.clone(),
        })
    }
}

/// `.NAME.unpack-`, short enough to take a suffix within NAME_MAX.
fn prefix(name: &OsStr) -> Vec<u8> {
    let name = name.as_bytes();
    let short = &name[..name.len().min(220)];
    [b".", short, b".unpack-"].concat()
}

/// The name of the lock that publishing takes.
pub fn lock_name(name: &OsStr) -> OsString {
    OsString::from_vec([&prefix(name)[..], b"lock"].concat())
}

/// Makes and locks a staging directory under a name that nobody has.
fn make(parent: BorrowedFd, name: &OsStr) -> Result<(OwnedFd, OsString)> {
    loop {
        let number = RandomState::new().hash_one(std::process::id());
        let staged = OsString::from_vec([&prefix(name)[..], format!("{number:016x}").as_bytes()].concat());
        match rustix::fs::mkdirat(parent, &staged, Mode::RWXU) {
            Err(Errno::EXIST) => continue,
            Err(error @ (Errno::ACCESS | Errno::PERM | Errno::ROFS)) => {
                return Err(error).hint("ROOT is made beside its place: its parent directory must be writable");
            }
            result => result?,
        }
        // Between these two calls another run may have taken it for a dead one's and removed it.
        let Ok(dir) = crate::patient::openat(parent, &staged, DIRECTORY, Mode::empty()) else { continue };
        if crate::patient::flock(&dir, FlockOperation::NonBlockingLockExclusive).is_err()
            || !still(parent, &staged, &dir)
        {
            continue;
        }
        inherit_nothing(&dir)?;
        return Ok((dir, staged));
    }
}

/// A parent with setgid or a default ACL would pass them on to everything made below.
fn inherit_nothing(dir: &OwnedFd) -> Result<()> {
    for acl in [c"system.posix_acl_default", c"system.posix_acl_access"] {
        match rustix::fs::fremovexattr(dir, acl) {
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let gid = rustix::process::getegid();
    if rustix::fs::fstat(dir)?.st_gid != gid.as_raw() {
        rustix::fs::fchown(dir, None, Some(gid))?;
    }
    Ok(rustix::fs::fchmod(dir, Mode::RWXU)?)
}

/// Whether a name still means this file.
fn still(parent: BorrowedFd, name: &OsStr, file: &OwnedFd) -> bool {
    let (Ok(named), Ok(open)) = (rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW), rustix::fs::fstat(file))
    else {
        return false;
    };
    (named.st_dev, named.st_ino) == (open.st_dev, open.st_ino)
}

/// Keeps containers out of the tree that a staging directory holds, as long as the result lives, so that
/// none starts in it while it is removed. WOULDBLOCK: one runs there, for pivot holds a shared lock on its root.
fn keep_out(dir: BorrowedFd) -> rustix::io::Result<Option<OwnedFd>> {
    let Ok(tree) = crate::patient::openat(dir, TREE, DIRECTORY, Mode::empty()) else { return Ok(None) };
    match crate::patient::flock(&tree, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Err(Errno::WOULDBLOCK),
        // A filesystem without locks has none of pivot's either.
        _ => Ok(Some(tree)),
    }
}

/// Removes what dead runs for this root have left, where nothing needs to be staged.
pub fn sweep_beside(root: &Path) {
    let (Some(parent), Some(name)) = (root.parent(), root.file_name()) else { return };
    if let Ok(parent) = crate::patient::open(parent, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        sweep(parent.as_fd(), name);
    }
}

/// Removes the staging directories of runs that are dead. What cannot be removed is left alone.
fn sweep(parent: BorrowedFd, name: &OsStr) {
    let prefix = prefix(name);
    let us = rustix::process::geteuid().as_raw();
    for found in remove::names(parent).unwrap_or_default() {
        if !found.starts_with(&prefix) {
            continue;
        }
        let found = OsString::from_vec(found);
        let is_lock = found == lock_name(name);
        let kind = if is_lock { OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC } else { DIRECTORY };
        let Ok(file) = crate::patient::openat(parent, &found, kind, Mode::empty()) else { continue };
        let ours = rustix::fs::fstat(&file).is_ok_and(|stat| stat.st_uid == us);
        let dead = crate::patient::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
        if !(ours && dead && still(parent, &found, &file)) {
            continue;
        }
        if is_lock {
            // Whoever waits for it meanwhile looks what the name means once it has it.
            let _ = rustix::fs::unlinkat(parent, &found, AtFlags::empty());
        } else if let Ok(_kept_out) = keep_out(file.as_fd()) {
            let _ = remove::remove(parent, found.as_bytes());
        }
    }
}

/// The lock under which a receipt and its root are put in place together.
pub struct Publishing<'a> {
    parent: BorrowedFd<'a>,
    name: OsString,
    _file: File,
}

impl Publishing<'_> {
    pub fn lock<'a>(parent: BorrowedFd<'a>, root: &OsStr) -> Result<Publishing<'a>> {
        let name = lock_name(root);
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        loop {
            let file = crate::patient::openat(parent, &name, flags, Mode::RUSR | Mode::WUSR)
                .with_context(|| format!("{}: lock it", name.display()))?;
            crate::patient::flock(&file, FlockOperation::LockExclusive)?;
            // Whoever had it before us removed it.
            if still(parent, &name, &file) {
                return Ok(Publishing { parent, name, _file: file.into() });
            }
        }
    }
}

impl Drop for Publishing<'_> {
    fn drop(&mut self) {
        let _ = rustix::fs::unlinkat(self.parent, &self.name, AtFlags::empty());
    }
}

/// What ROOT must not be for it to be replaced.
pub fn replaceable(root: &Path) -> Result<()> {
    use rustix::fs::{StatxAttributes, StatxFlags};
    let what = || root.display().to_string();
    let statx = rustix::fs::statx(rustix::fs::CWD, root, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS)
        .with_context(what)?;
    if statx.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
        let error: Result<()> = Err(anyhow::anyhow!("{}: something is mounted there", root.display()));
        return error.hint(format!("umount {} first, or name another ROOT", chain::shell::quote(root)));
    }
    if let Some(mount) = overlay_over(root)? {
        let error: Result<()> = Err(anyhow::anyhow!("{}: a lower directory of the overlay on {mount}", root.display()));
        return error.hint(format!("umount {mount} first: an overlay's lower directory must not change"));
    }
    let directory = rustix::fs::FileType::from_raw_mode(statx.stx_mode.into()) == rustix::fs::FileType::Directory;
    ensure!(directory, "{}: no directory", root.display());
    Ok(())
}

/// The overlay of this mount namespace that has the directory as a lower one (proc_pid_mountinfo(5)).
fn overlay_over(root: &Path) -> Result<Option<String>> {
    let Ok(table) = std::fs::read_to_string("/proc/self/mountinfo") else { return Ok(None) };
    let ours = rustix::fs::stat(root)?;
    for line in table.lines() {
        let Some((mount, filesystem)) = line.split_once(" - ") else { continue };
        if !filesystem.starts_with("overlay ") {
            continue;
        }
        let options = filesystem.split(' ').next_back().unwrap_or_default().split(',');
        let lower =
            options.filter_map(|option| option.strip_prefix("lowerdir=").or_else(|| option.strip_prefix("lowerdir+=")));
        for path in lower.flat_map(|paths| paths.split(':')) {
            let same = rustix::fs::stat(unescape(path))
                .is_ok_and(|stat| (stat.st_dev, stat.st_ino) == (ours.st_dev, ours.st_ino));
            if same {
                let at = mount.split(' ').nth(4).unwrap_or_default();
                return Ok(Some(at.to_owned()));
            }
        }
    }
    Ok(None)
}

/// Mount tables write blanks and backslashes in octal.
fn unescape(text: &str) -> OsString {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&first, more)) = rest.split_first() {
        let octal = more.get(..3).and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match (first, octal) {
            (b'\\', Some(byte)) => {
                bytes.push(byte);
                rest = &more[3..];
            }
            _ => {
                bytes.push(first);
                rest = more;
            }
        }
    }
    OsString::from_vec(bytes)
}
