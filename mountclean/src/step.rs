//! What mountclean does, one step at a time: its shell line and its deed.

use std::fmt;
use std::path::PathBuf;

use anyhow::Result;
use chain::shell::quote;

use crate::args::Sys;
use crate::state::State;
use crate::{mask, procfs, proof, sysfs, unmount};

pub enum Step<'a> {
    OwnMounts,
    Proc { options: &'a [String] },
    Sys { how: Sys },
    Mask,
    DetachHost,
    UnmountAll { keep: &'a [PathBuf], options: &'a [String], sys: bool },
    Prove { keep: &'a [PathBuf], keep_fd: &'a [i32] },
}

impl fmt::Display for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Step::OwnMounts => f.write_str("unshare --mount --propagation private"),
            Step::Proc { options: [] } => f.write_str("mount -t proc -o nosuid,nodev,noexec proc /proc"),
            Step::Proc { options } => {
                write!(f, "mount -t proc -o nosuid,nodev,noexec,{} proc /proc", quote(options.join(",")))
            }
            Step::Sys { how } => {
                let ro = if *how == Sys::Ro { ",ro" } else { "" };
                write!(
                    f,
                    "mkdir -p /sys\n! mountpoint -q /sys || umount -l /sys\nmount -t sysfs -o nosuid,nodev,noexec{ro} sysfs /sys"
                )
            }
            Step::Mask => mask::shell(f),
            Step::DetachHost => f.write_str("umount -l /"),
            Step::UnmountAll { keep, options, sys } => f.write_str(&unmount::shell(keep, options, *sys)),
            Step::Prove { .. } => f.write_str("# prove that no mount, directory or descriptor of the host's is left"),
        }
    }
}

impl chain::Step for Step<'_> {
    type State = State;

    fn nests(&self) -> bool {
        matches!(self, Step::OwnMounts)
    }

    fn perform(&self, state: &mut State) -> Result<()> {
        match self {
            Step::OwnMounts => chain::own_mount_namespace(&mut state.carry),
            Step::Proc { options } => procfs::mount_fresh(options, state),
            Step::Sys { how } => sysfs::mount_fresh(*how, state),
            Step::Mask => mask::mask(state),
            Step::DetachHost => unmount::stacked(),
            Step::UnmountAll { keep, .. } => unmount::all_but(keep, state),
            Step::Prove { keep, keep_fd } => proof::prove(keep, keep_fd, state),
        }
    }
}
