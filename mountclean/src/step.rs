//! What mountclean does, one step at a time: its shell line and its deed.

use std::collections::BTreeSet;
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use anyhow::{Context, Result};
use chain::shell::quote;
use chain::{Carry, HasCarry};
use nix::mount::MsFlags;

use crate::args::Sys;
use crate::fresh::Fresh;
use crate::proof::{self, Expected};
use crate::{hold, mask, procfs, sysfs, unmount};

pub enum Step<'a> {
    OwnMounts,
    Proc { options: &'a [String] },
    HostsProc,
    Sys { how: Sys },
    Mask,
    DetachHost,
    UnmountAll { keep: &'a [PathBuf], options: &'a [String], sys: bool },
    Prove { keep: &'a [PathBuf], keep_fd: &'a [i32] },
    Hold,
}

/// What the steps hand to each other.
pub struct State {
    carry: Carry,
    /// The fresh /proc, and /sys if it was asked for.
    fresh: Vec<Fresh>,
    /// The ids of the masks.
    masks: Vec<u64>,
}

impl State {
    pub fn new(carry: Carry) -> State {
        State { carry, fresh: Vec::new(), masks: Vec::new() }
    }

    fn proc(&self) -> Result<&OwnedFd> {
        let proc = self.fresh.iter().find(|fresh| fresh.point == procfs::PLACE);
        Ok(&proc.context("there is no fresh /proc")?.mount)
    }

    /// The mounts that are not the host's.
    fn mounts(&self) -> BTreeSet<u64> {
        let fresh = self.fresh.iter().flat_map(|fresh| fresh.below.iter().chain([&fresh.id]));
        fresh.chain(&self.masks).chain(&self.carry.mounts).copied().collect()
    }
}

impl HasCarry for State {
    fn carry(&mut self) -> &mut Carry {
        &mut self.carry
    }
}

impl fmt::Display for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Step::OwnMounts => f.write_str("unshare --mount --propagation private"),
            Step::Proc { options: [] } => f.write_str("mount -t proc -o nosuid,nodev,noexec proc /proc"),
            Step::Proc { options } => {
                write!(f, "mount -t proc -o nosuid,nodev,noexec,{} proc /proc", quote(options.join(",")))
            }
            Step::HostsProc => f.write_str("mount -c --rbind /../proc /proc"),
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
            Step::Hold => f.write_str("# until standard input ends"),
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
            Step::OwnMounts => chain::own_mount_namespace(&mut state.carry, MsFlags::MS_PRIVATE)?,
            Step::Proc { options } => state.fresh.push(procfs::mount_fresh(options)?),
            Step::HostsProc => state.fresh.push(procfs::bind_hosts()?),
            Step::Sys { how } => state.fresh.push(sysfs::mount_fresh(*how)?),
            Step::Mask => state.masks = mask::mask(state.proc()?)?,
            Step::DetachHost => unmount::stacked()?,
            Step::UnmountAll { keep, .. } => {
                state.fresh = unmount::all_but(keep, std::mem::take(&mut state.fresh), &state.carry.mounts)?;
            }
            Step::Prove { keep, keep_fd } => proof::prove(&Expected {
                proc: state.proc()?,
                mounts: state.mounts(),
                keep,
                keep_fd,
                locks: &state.carry.locks,
                follows_pivot: state.carry.host_tree.is_some(),
            })?,
            Step::Hold => {
                hold::until_stdin_ends()?;
                std::process::exit(0);
            }
        }
        Ok(())
    }
}
