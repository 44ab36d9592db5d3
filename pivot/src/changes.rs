//! Where an overlay's changes go: to a directory, where they are the next time, or to memory for one run.

use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context, Error, Result, anyhow};
use chain::attach::{self, NODEV, NOSUID, Place};
use chain::id_map::why_unknown_here;
use chain::retry_eintr::openat;
use chain::{Hint, Tool, Umask, WithHint, warn, xattr};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{FchmodatFlags, Mode, fchmod, fchmodat, fstat, futimens, mkdirat, stat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown};

use crate::{lock, root};

/// The first user namespace has this inode on every machine (PROC_USER_INIT_INO).
pub const FIRST_USER_NAMESPACE: u64 = 0xEFFF_FFFD;
/// On the work directory of changes that were made over a stack.
const MARK: &str = "user.chainroot.stack";

/// Where the changes go.
pub struct Layer {
    pub upper: OwnedFd,
    pub work: OwnedFd,
    /// Just made, and empty.
    fresh: bool,
    /// The mount through which the directory's lock is held.
    pub lock: Option<OwnedFd>,
}

/// In memory, mounted over ROOT, which may be where a stack's layers are named: it goes when the host's tree is detached.
pub fn in_memory(root: &OwnedFd, like: &OwnedFd) -> Result<Layer> {
    let options = [("mode", Some("755"))];
    let attributes = NOSUID | NODEV;
    let memory = root::stack(root, attach::unattached("tmpfs", &options, attributes), |place| {
        attach::filesystem("tmpfs", &options, attributes, place)
    })?;
    layer(&memory, like)
}

/// In memory, at a place of the new root that the overlay then covers.
pub fn in_memory_at(place: Place, like: &OwnedFd) -> Result<Layer> {
    layer(&attach::filesystem("tmpfs", &[("mode", Some("755"))], NOSUID | NODEV, place)?, like)
}

/// In a directory that no other container may use at the same time: the kernel leaves that undefined.
pub fn kept(dir: &Path, lower: &[OwnedFd], stack: bool) -> Result<Layer> {
    let made = match nix::unistd::mkdir(dir, Mode::from_bits_truncate(0o700)) {
        Ok(()) => true,
        Err(Errno::EEXIST) => false,
        Err(errno) => return Err(not_made(errno)).with_context(|| dir.display().to_string()),
    };
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let opened = chain::retry_eintr::open(dir, flags, Mode::empty()).with_context(|| dir.display().to_string())?;
    // On another filesystem it would not be seen below.
    let contains = |lower: &OwnedFd| -> Result<bool> {
        let is_below = attach::path_of(&opened)?.starts_with(attach::path_of(lower)?);
        Ok(is_below && fstat(&opened)?.st_dev == fstat(lower)?.st_dev)
    };
    if lower.iter().map(contains).collect::<Result<Vec<_>>>()?.contains(&true) {
        if made {
            let _ = std::fs::remove_dir(dir);
        }
        return Err(anyhow!("{}: the DIR of an overlay lies in ROOT or SRC, which it would change", dir.display()))
            .hint("put it beside that, or on another filesystem");
    }
    only_ours(&opened).with_context(|| dir.display().to_string())?;
    let layer = layer(&opened, &lower[0]).with_context(|| dir.display().to_string())?;
    same_marks(&layer, stack).with_context(|| dir.display().to_string())?;
    // Anyone who can open a directory can lock it (flock(2)). DIR may be open to all, this one is not.
    fchmod(&layer.work, Mode::S_IRWXU).with_context(|| dir.join("work").display().to_string())?;
    let lock = lock::alone(&layer.work).with_context(|| dir.display().to_string())?;
    Ok(Layer { lock, ..layer })
}

/// The changes of a stack are marked by `user.*` attributes, and root's over a ROOT by `trusted.*`: a mount with the one
/// would pass over the other in silence.
fn same_marks(layer: &Layer, stack: bool) -> Result<()> {
    if stack && layer.fresh {
        // Without user attributes the mount itself fails, or warns.
        let _ = xattr::set(&layer.work, MARK, b"");
        return Ok(());
    }
    let marked = xattr::get(&attach::by_number(&layer.work), MARK, &mut [0]).is_ok();
    match (stack, marked) {
        _ if in_user_namespace() => Ok(()),
        (true, false) => Err(anyhow!("the changes are those of a plain ROOT, whose marks mean nothing on a stack"))
            .hint("give the stack an --overlay DIR of its own"),
        (false, true) => Err(anyhow!("the changes are those of a stack, whose marks mean nothing on a plain ROOT"))
            .hint("give each ROOT its own --overlay DIR"),
        _ => Ok(()),
    }
}

fn not_made(errno: Errno) -> Error {
    match errno {
        Errno::EOVERFLOW => Error::new(errno).context(Hint(why_unknown_here())),
        _ => errno.into(),
    }
}

/// What lies in the directory is run as the root's own.
fn only_ours(dir: &OwnedFd) -> Result<()> {
    let stat = fstat(dir)?;
    match chain::receipt::others(stat.st_uid, stat.st_mode) {
        None => Ok(()),
        Some(who) => Err(anyhow!("--overlay DIR {who}"))
            .hint("anyone who can write there decides what runs: chmod go-w DIR, or name a directory of your own"),
    }
}

fn layer(dir: &OwnedFd, root: &OwnedFd) -> Result<Layer> {
    let path = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let made = |name: &str| match mkdirat(dir, name, Mode::from_bits_truncate(0o755)) {
        Ok(()) => Ok(true),
        Err(Errno::EEXIST) => Ok(false),
        Err(errno) => Err(not_made(errno)),
    };
    let _umask = Umask::set(0o022);
    let fresh = made("upper")?;
    made("work")?;
    let upper = openat(dir, "upper", path, Mode::empty())?;
    let work = openat(dir, "work", path, Mode::empty())?;
    if fresh {
        // The merged root shows the upper directory's own owner, mode and times.
        let like = fstat(root)?;
        let owner = (Uid::from_raw(like.st_uid), Gid::from_raw(like.st_gid));
        // A user namespace cannot give files to an owner that it does not map.
        let _ = fchown(&upper, Some(owner.0), Some(owner.1));
        fchmod(&upper, Mode::from_bits_truncate(like.st_mode))?;
        let (read, written) =
            (TimeSpec::new(like.st_atime, like.st_atime_nsec), TimeSpec::new(like.st_mtime, like.st_mtime_nsec));
        futimens(&upper, &read, &written)?;
    }
    Ok(Layer { upper, work, fresh, lock: None })
}

/// The kernel makes work/work with mode 000, which keeps its owner from removing it.
pub fn let_remove(layer: &Layer) {
    let _ = fchmodat(&layer.work, "work", Mode::S_IRWXU, FchmodatFlags::FollowSymlink);
}

/// Without extended attributes an overlay cannot mark a directory that hides the one below it. `user`: its marks are
/// `user.*` attributes.
pub fn warn_without_attributes(layer: &Layer, user: bool) {
    let name = if user { "user.overlay.opaque" } else { "trusted.overlay.opaque" };
    match xattr::set(&layer.work, name, b"0") {
        Err(Errno::EOPNOTSUPP) => warn(
            Tool::Pivot,
            "the filesystem of the changes has no extended attributes (in a user namespace, or for a stack, tmpfs has them since \
             Linux 6.6): directories of ROOT can be neither removed nor renamed",
        ),
        // The mount itself reports anything else.
        Err(_) => {}
        Ok(()) => drop(xattr::remove(&layer.work, name)),
    }
}

pub fn in_user_namespace() -> bool {
    stat("/proc/self/ns/user").is_ok_and(|namespace| namespace.st_ino != FIRST_USER_NAMESPACE)
}
