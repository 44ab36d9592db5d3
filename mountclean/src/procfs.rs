//! The fresh /proc.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Error, Result, anyhow};
use chain::attach::{self, NODEV, NOEXEC, NOSUID, Place};
use chain::retry_eintr::{fstatfs, open};
use chain::{Hint, WithHint, mounts, why_no_new_proc};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::sys::statfs::FsType;
use nix::unistd::mkdir;

use crate::fresh::Fresh;

pub const PLACE: &str = "/proc";
const PROC_SUPER_MAGIC: FsType = FsType(0x9fa0);

pub fn mount_fresh(options: &[String]) -> Result<Fresh> {
    check_place(PLACE)?;
    let root = root()?;
    let pairs: Vec<_> = options
        .iter()
        .map(|option| option.split_once('=').map_or((option.as_str(), None), |(key, value)| (key, Some(value))))
        .collect();
    // As every distribution mounts it (proc(5)).
    let attributes =
        NOSUID | NODEV | NOEXEC | attach::atime_of(there_before(["/../proc", PLACE], PROC_SUPER_MAGIC).as_ref());
    let place = Place { root: root.as_fd(), path: Path::new(PLACE) };
    let proc = attach::filesystem("proc", &pairs, attributes, place).map_err(|error| refused(error, options))?;
    Ok(Fresh { id: mounts::id_of(&proc)?, mount: proc, point: PLACE, below: Vec::new() })
}

/// The proc of the host's tree, which pivot has stacked on `/`, with all that covers parts of it.
pub fn bind_hosts() -> Result<Fresh> {
    check_place(PLACE)?;
    let root = root()?;
    let hosts = there_before(["/../proc"], PROC_SUPER_MAGIC).context("the host has no /proc")?;
    let proc = attach::bind(&hosts, Place { root: root.as_fd(), path: Path::new(PLACE) }, NOSUID | NODEV | NOEXEC)?;
    Ok(Fresh { id: mounts::id_of(&proc)?, below: mounts::ids_below(&proc)?, mount: proc, point: PLACE })
}

/// The mount that was there before: above a stacked pivot, or at its usual place.
pub fn there_before<const N: usize>(places: [&str; N], kind: FsType) -> Option<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    places.into_iter().find_map(|path| {
        let there = open(path, flags, Mode::empty()).ok()?;
        (fstatfs(&there).ok()?.filesystem_type() == kind).then_some(there)
    })
}

pub fn root() -> Result<OwnedFd> {
    open("/", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).context("/")
}

/// Checks that `/proc` or `/sys` is a directory in the root: a link in the image must not choose the place.
pub fn check_place(path: &'static str) -> Result<()> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    match open(path, flags, Mode::empty()) {
        Err(Errno::ENOENT) => mkdir(path, Mode::from_bits_truncate(0o555))
            .with_context(|| format!("{path}: not in the root, and cannot be made"))
            //: /proc, /sys: not in the root | mkdir: EROFS, EACCES | the root has none, and nothing can be made in it | the
            //: only causes | mountclean/mounts::proc_is_the_only_place_that_no_link_of_the_image_moves
            .hint(format!("the root needs an empty directory {path}")),
        Err(Errno::ENOTDIR | Errno::ELOOP) => Err(anyhow!("{path}: not a directory"))
            //: /proc, /sys: not a directory | open O_NOFOLLOW: ENOTDIR, ELOOP | the image has a link or a file there | the only
            //: causes | mountclean/mounts::proc_is_the_only_place_that_no_link_of_the_image_moves
            .hint(format!("the root needs a directory {path} of its own, not a link")),
        result => result.map(drop).context(path),
    }
}

/// Tells the kernel's reasons apart.
fn refused(error: Error, options: &[String]) -> Error {
    let hint = match error.downcast_ref() {
        Some(Errno::EPERM) => why_no_new_proc(),
        Some(Errno::EINVAL) if !options.is_empty() => {
            //: --proc-opts | fsconfig, mount: EINVAL | proc does not know the option, or the value | the kernel names it |
            //: mountclean/mounts::proc_options_reach_the_kernel_and_wrong_ones_are_explained
            "the kernel knows hidepid=0|1|2|4, gid=GID and (Linux 5.8) subset=pid".into()
        }
        _ => return error,
    };
    error.context(Hint(hint))
}
