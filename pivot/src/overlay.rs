//! Overlays: directories as one, with a layer over them that takes every change.

use std::fmt;
use std::os::fd::OwnedFd;

use anyhow::{Error, Result};
use chain::Hint;
use chain::attach::{self, Place};
use chain::capabilities::{CapabilitySet, are_effective};
use chain::mounts::{self, Mount};
use chain::retry_eintr::fstatfs;
use chain::shell::quote;
use nix::errno::Errno;
use nix::sys::statfs::OVERLAYFS_SUPER_MAGIC;

use crate::args::Changes;
use crate::changes::{FIRST_USER_NAMESPACE, Layer, in_user_namespace, let_remove, warn_without_attributes};
use crate::root;

/// A value of fsconfig(2) is no longer.
const LONGEST: usize = 255;

/// Lower directories, the uppermost first.
pub struct Lower {
    pub dirs: Vec<OwnedFd>,
    /// Whether they are a stack's. Its marks are `user.*` attributes, also for root.
    pub stack: bool,
}

/// The directories with the layer over them, attached on `root`. Without a layer nothing can be changed.
pub fn mount(layer: Option<&Layer>, lower: &Lower, root: &OwnedFd) -> Result<OwnedFd> {
    made(layer, lower, |options, how| match how {
        Call::New => root::stack(root, attach::unattached("overlay", options, 0), |place| {
            attach::filesystem("overlay", options, 0, place)
        }),
        Call::Old => root::stack(root, Err(Errno::ENOSYS.into()), |place| {
            attach::filesystem_by_old_call("overlay", options, 0, place)
        }),
    })
}

/// The same, attached at a place.
pub fn mount_at(layer: Option<&Layer>, lower: &Lower, attributes: u64, place: Place) -> Result<OwnedFd> {
    made(layer, lower, |options, how| match how {
        Call::New => attach::filesystem("overlay", options, attributes, place),
        Call::Old => attach::filesystem_by_old_call("overlay", options, attributes, place),
    })
}

/// The directories without a layer, attached nowhere.
pub fn unattached(lower: &Lower) -> Result<OwnedFd> {
    made(None, lower, |options, _| attach::unattached("overlay", options, attach::READ_ONLY))
}

enum Call {
    New,
    Old,
}

fn made(
    layer: Option<&Layer>,
    lower: &Lower,
    mount: impl Fn(&[(&str, Option<&str>)], Call) -> Result<OwnedFd>,
) -> Result<OwnedFd> {
    let path = |fd: &OwnedFd| attach::by_number(fd).display().to_string();
    let lowers: Vec<String> = lower.dirs.iter().map(path).collect();
    let joined = lowers.join(":");
    let changes = layer.map(|layer| (path(&layer.upper), path(&layer.work)));
    let mut others = Vec::new();
    if let Some((upper, work)) = &changes {
        others.extend([("upperdir", Some(&**upper)), ("workdir", Some(&**work))]);
    }
    let user = lower.stack || in_user_namespace();
    if user {
        // trusted.* attributes are not for a user namespace; Linux 5.11 has the overlay's marks in user.* ones.
        others.push(("userxattr", None));
    }
    if lower.stack {
        // What the kernel was built with must not decide what a stack is.
        others.extend([("redirect_dir", Some("nofollow")), ("index", Some("off"))]);
    }
    if let Some(layer) = layer {
        warn_without_attributes(layer, user);
    }
    let one = || [&[("lowerdir", Some(&*joined))], &*others].concat();
    let merged = if joined.len() <= LONGEST {
        mount(&one(), Call::New)
    } else {
        let each: Vec<_> = lowers.iter().map(|lower| ("lowerdir+", Some(&**lower))).chain(others.clone()).collect();
        match mount(&each, Call::New) {
            // Before Linux 6.8 there is no lowerdir+, and mount(2) takes a page of options.
            Err(error) if matches!(error.downcast_ref(), Some(Errno::EINVAL | Errno::E2BIG)) => {
                mount(&one(), Call::Old).or(Err(error))
            }
            made => made,
        }
    };
    if let Some(layer) = layer {
        let_remove(layer);
    }
    merged.map_err(|error| explained(error, layer, &lower.dirs))
}

/// Whether the kernel takes fewer directories.
fn are_too_many(error: &Error) -> bool {
    match error.downcast_ref() {
        Some(Errno::E2BIG) => true,
        Some(Errno::EINVAL) => format!("{error:#}").contains("lowerdir+"),
        _ => false,
    }
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
        //: mount -t overlay | fsconfig: EINVAL, mount: E2BIG | more directories than one value takes, before Linux 6.8 | it knows no lowerdir+
        //: for one either | pivot/changes::a_volume_can_have_many_lower_directories
        Some(Errno::EINVAL | Errno::E2BIG) if lower.len() > 1 && are_too_many(&error) => {
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

/// `lower`, the uppermost first, and `place` are quoted already.
pub fn shell(changes: &Changes, lower: &[String], stack: bool, place: &str, f: &mut fmt::Formatter) -> fmt::Result {
    let top = lower.first().map_or("", String::as_str);
    let joined = lower.join(":");
    match stack {
        true => writeln!(f, "userxattr=,userxattr,redirect_dir=nofollow,index=off")?,
        false => writeln!(
            f,
            "userxattr=$([ \"$(stat -L -c %i /proc/self/ns/user)\" = {FIRST_USER_NAMESPACE} ] || echo ,userxattr)"
        )?,
    }
    match changes {
        // An overlay without changes is of two directories at least.
        Changes::Source if stack && lower.len() == 1 => write!(
            f,
            "lone_layer() (\n\
             place=$(cd -P \"$2\" && pwd); cd -P \"$1\"\n\
             mount -t tmpfs -o nosuid,nodev,mode=755 tmpfs \"$place\"; mkdir \"$place/empty\"\n\
             mount -t overlay -o \"lowerdir=.:$place/empty$userxattr\" overlay \"$place\"\n\
             )\nlone_layer {top} {place}"
        ),
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
