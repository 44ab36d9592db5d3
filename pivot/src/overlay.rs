//! Layers over ROOT that take every change: kept in a directory, or in memory for one run.

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context, Error, Result, anyhow};
use chain::attach::{self, NODEV, NOSUID, Place};
use chain::capabilities::{CapabilitySet, are_effective};
use chain::id_map::why_unknown_here;
use chain::mounts::{self, Mount};
use chain::retry_eintr::{fstatfs, openat};
use chain::shell::quote;
use chain::{Hint, Tool, Umask, WithHint, warn, xattr};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{FchmodatFlags, Mode, fchmod, fchmodat, fstat, futimens, mkdirat, stat};
use nix::sys::statfs::OVERLAYFS_SUPER_MAGIC;
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown};

use crate::args::Changes;
use crate::{lock, root};

/// A value of fsconfig(2) is no longer.
const LONGEST: usize = 255;
/// The first user namespace has this inode on every machine (PROC_USER_INIT_INO).
const FIRST_USER_NAMESPACE: u64 = 0xEFFF_FFFD;

/// Where the changes go.
pub struct Layer {
    upper: OwnedFd,
    work: OwnedFd,
    /// The mount through which the directory's lock is held.
    pub lock: Option<OwnedFd>,
}

/// In memory, mounted over ROOT: it goes when the host's tree is detached.
pub fn in_memory(root: &OwnedFd) -> Result<Layer> {
    let options = [("mode", Some("755"))];
    let attributes = NOSUID | NODEV;
    let memory = root::stack(root, attach::unattached("tmpfs", &options, attributes), |place| {
        attach::filesystem("tmpfs", &options, attributes, place)
    })?;
    layer(&memory, root)
}

/// In memory, at a place of the new root that the overlay then covers.
pub fn in_memory_at(place: Place, like: &OwnedFd) -> Result<Layer> {
    layer(&attach::filesystem("tmpfs", &[("mode", Some("755"))], NOSUID | NODEV, place)?, like)
}

/// In a directory that no other container may use at the same time: the kernel leaves that undefined.
pub fn kept(dir: &Path, lower: &[OwnedFd]) -> Result<Layer> {
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
    // Anyone who can open a directory can lock it (flock(2)). DIR may be open to all, this one is not.
    fchmod(&layer.work, Mode::S_IRWXU).with_context(|| dir.join("work").display().to_string())?;
    let lock = lock::alone(&layer.work).with_context(|| dir.display().to_string())?;
    Ok(Layer { lock, ..layer })
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
    Ok(Layer { upper, work, lock: None })
}

/// Directories, the uppermost first, with the layer over them, attached on the first.
pub fn mount(layer: &Layer, lower: &[OwnedFd]) -> Result<OwnedFd> {
    made(Some(layer), lower, |options| {
        root::stack(&lower[0], attach::unattached("overlay", options, 0), |place| {
            attach::filesystem("overlay", options, 0, place)
        })
    })
}

/// The same, attached at a place. Without a layer nothing can be changed.
pub fn mount_at(layer: Option<&Layer>, lower: &[OwnedFd], attributes: u64, place: Place) -> Result<OwnedFd> {
    made(layer, lower, |options| attach::filesystem("overlay", options, attributes, place))
}

fn made(
    layer: Option<&Layer>,
    lower: &[OwnedFd],
    mount: impl FnOnce(&[(&str, Option<&str>)]) -> Result<OwnedFd>,
) -> Result<OwnedFd> {
    let path = |fd: &OwnedFd| attach::by_number(fd).display().to_string();
    let lowers: Vec<String> = lower.iter().map(path).collect();
    let joined = lowers.join(":");
    let changes = layer.map(|layer| (path(&layer.upper), path(&layer.work)));
    let mut options = if joined.len() <= LONGEST {
        vec![("lowerdir", Some(&*joined))]
    } else {
        lowers.iter().map(|lower| ("lowerdir+", Some(&**lower))).collect()
    };
    if let Some((upper, work)) = &changes {
        options.extend([("upperdir", Some(&**upper)), ("workdir", Some(&**work))]);
    }
    if in_user_namespace() {
        // trusted.* attributes are not for us; Linux 5.11 has the overlay's marks in user.* ones.
        options.push(("userxattr", None));
    }
    if let Some(layer) = layer {
        warn_without_attributes(layer);
    }
    let merged = mount(&options);
    if let Some(layer) = layer {
        let_remove(layer);
    }
    merged.map_err(|error| explained(error, layer, lower))
}

/// The kernel makes work/work with mode 000, which keeps its owner from removing it.
fn let_remove(layer: &Layer) {
    let _ = fchmodat(&layer.work, "work", Mode::S_IRWXU, FchmodatFlags::FollowSymlink);
}

fn explained(error: Error, layer: Option<&Layer>, lower: &[OwnedFd]) -> Error {
    let hint = match error.downcast_ref() {
        //: mount -t overlay | fsopen: ENODEV | the kernel has no overlay filesystem | the only cause |
        //: pivot/roots::refusals_of_an_overlay_with_an_index_are_explained
        Some(Errno::ENODEV) => "the kernel has no overlay filesystem: modprobe overlay",
        //: mount -t overlay | fsopen: EPERM | user namespaces have overlays since Linux 5.11 | /proc/self/ns/user, and
        //: CAP_SYS_ADMIN is there | tests/kernels::an_overlay_of_an_ordinary_user_works_or_names_the_version_that_has_it
        Some(Errno::EPERM) if in_user_namespace() && are_effective(CapabilitySet::SYS_ADMIN) => {
            "an overlay in a user namespace needs Linux 5.11 or later"
        }
        //: mount -t overlay | fsconfig: EBUSY | another overlay uses the directory | the only cause (ovl_report_in_use) |
        //: pivot/roots::refusals_of_an_overlay_with_an_index_are_explained
        Some(Errno::EBUSY) => "another overlay uses the directory: give each container its own --overlay DIR",
        //: mount -t overlay | fsconfig: ELOOP | two of its directories are one, or lie in each other | the only cause |
        //: pivot/roots::refusals_of_an_overlay_with_an_index_are_explained
        Some(Errno::ELOOP) => "the directories of an overlay must not lie in each other",
        //: mount -t overlay | fsconfig: ESTALE | the changes are another ROOT's | the only cause (ovl_verify_origin) |
        //: pivot/roots::refusals_of_an_overlay_with_an_index_are_explained
        Some(Errno::ESTALE) => "the directory was used over another ROOT: give each ROOT its own --overlay DIR",
        //: mount -t overlay | fsconfig: EINVAL | more directories than one value takes, before Linux 6.8 | it knows no lowerdir+
        //: for one either | pivot/changes::a_volume_can_have_many_lower_directories
        Some(Errno::EINVAL) if lower.len() > 1 && error.to_string().contains("lowerdir+") => {
            "that many directories in an overlay take Linux 6.8"
        }
        Some(Errno::EINVAL) => invalid(layer, lower),
        _ => return error,
    };
    error.context(Hint(hint.into()))
}

/// EINVAL has several causes, which before Linux 6.5 only the kernel's log tells apart.
fn invalid(layer: Option<&Layer>, lower: &[OwnedFd]) -> &'static str {
    let on_overlay = |fd: &OwnedFd| fstatfs(fd).is_ok_and(|fs| fs.filesystem_type() == OVERLAYFS_SUPER_MAGIC);
    let mount = |fd: &OwnedFd| mounts::id_of(fd).ok();
    let own = layer.and_then(|layer| mount(&layer.upper));
    if layer.is_some_and(|layer| own != mount(&layer.work)) {
        //: mount -t overlay | fsconfig: EINVAL | upper and work of DIR are on two mounts | the ids of both |
        //: pivot/roots::refusals_of_the_overlay_are_explained
        "upper and work in the directory of the changes must be on one mount: unmount what is mounted on them"
    } else if layer.is_some_and(|layer| on_overlay(&layer.upper)) {
        //: mount -t overlay | fsconfig: EINVAL | DIR is on an overlay | statfs |
        //: pivot/roots::refusals_of_the_overlay_are_explained
        "the changes would be on an overlay, which cannot be an overlay's upper layer: put --overlay DIR elsewhere"
    } else if in_user_namespace() && lower.iter().any(|root| has_mounts_below(root, own)) {
        //: mount -t overlay | fsconfig: EINVAL | a mount below ROOT that the user namespace may not look behind | the table
        //: of mounts | pivot/roots::the_current_root_can_be_a_root_too
        "a mount below ROOT is locked in a user namespace: an overlay would show what it hides"
    } else if lower.iter().any(on_overlay) {
        //: mount -t overlay | fsconfig: EINVAL | two overlays would lie below this one | statfs of ROOT |
        //: pivot/roots::refusals_of_the_overlay_are_explained
        "ROOT is on an overlay over an overlay, and the kernel allows no third: copy ROOT to another filesystem"
    } else {
        //: mount -t overlay | fsconfig: EINVAL | none of these | all of them are looked for |
        //: pivot/roots::refusals_of_an_overlay_with_an_index_are_explained
        "the last lines of the kernel's log say why (dmesg); NFS, FUSE and FAT, for example, take no changes"
    }
}

/// Whether something is mounted on a directory below ROOT, the layer's own mount aside.
fn has_mounts_below(root: &OwnedFd, own: Option<u64>) -> bool {
    let Ok(path) = attach::path_of(root) else { return false };
    let is_below = |mount: &Mount| mount.point.starts_with(&path) && mount.point != path && Some(mount.id) != own;
    mounts::table().is_ok_and(|table| table.iter().any(is_below))
}

/// Without extended attributes an overlay cannot mark a directory that hides the one below it.
fn warn_without_attributes(layer: &Layer) {
    let name = if in_user_namespace() { "user.overlay.opaque" } else { "trusted.overlay.opaque" };
    match xattr::set(&layer.work, name, b"0") {
        Err(Errno::EOPNOTSUPP) => warn(
            Tool::Pivot,
            "the filesystem of the changes has no extended attributes (in a user namespace tmpfs has them since Linux 6.6): \
             directories of ROOT can be neither removed nor renamed",
        ),
        // The mount itself reports anything else.
        Err(_) => {}
        Ok(()) => drop(xattr::remove(&layer.work, name)),
    }
}

fn in_user_namespace() -> bool {
    stat("/proc/self/ns/user").is_ok_and(|namespace| namespace.st_ino != FIRST_USER_NAMESPACE)
}

/// `lower`, the uppermost first, and `place` are quoted already.
pub fn shell(changes: &Changes, lower: &[String], place: &str, f: &mut fmt::Formatter) -> fmt::Result {
    let top = lower.first().map_or("", String::as_str);
    let joined = lower.join(":");
    writeln!(
        f,
        "userxattr=$([ \"$(stat -L -c %i /proc/self/ns/user)\" = {FIRST_USER_NAMESPACE} ] || echo ,userxattr)"
    )?;
    match changes {
        Changes::Source => write!(f, "mount -t overlay -o lowerdir={joined}$userxattr overlay {place}"),
        Changes::Directory(dir) => {
            let dir = quote(dir);
            writeln!(
                f,
                "[ -d {dir}/upper ] || {{ mkdir -p {dir}/upper {dir}/work; chmod --reference={top} {dir}/upper; touch -r {top} {dir}/upper; }}"
            )?;
            write!(
                f,
                "mount -t overlay -o lowerdir={joined},upperdir={dir}/upper,workdir={dir}/work$userxattr overlay {place} && \
                 chmod 700 {dir}/work/work"
            )
        }
        Changes::Memory => {
            let others: String = lower.iter().skip(1).map(|lower| format!(" \"$(cd -P {lower} && pwd)\"")).collect();
            write!(
                f,
                "overlay_in_memory() (\n\
                 place=$(cd -P \"$2\" && pwd); cd -P \"$1\"; shift 2; low=.; for other; do low=$low:$other; done\n\
                 mount -t tmpfs -o nosuid,nodev,mode=755 tmpfs \"$place\"\n\
                 mkdir \"$place/upper\" \"$place/work\"; chmod --reference=. \"$place/upper\"; touch -r . \"$place/upper\"\n\
                 mount -t overlay -o \"lowerdir=$low,upperdir=$place/upper,workdir=$place/work$userxattr\" overlay \"$place\"\n\
                 )\noverlay_in_memory {top} {place}{others}"
            )
        }
    }
}
