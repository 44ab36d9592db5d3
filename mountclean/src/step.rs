//! What mountclean does, one step at a time: its shell line and its deed.

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use anyhow::Result;
use chain::shell::quote;
use chain::{Carry, HasCarry};

use crate::{procfs, proof, unmount};

pub enum Step<'a> {
    OwnMounts,
    Proc { options: &'a [String] },
    DetachHost,
    UnmountAll { keep: &'a [PathBuf] },
    Prove { keep: &'a [PathBuf], keep_fd: &'a [i32] },
}

pub struct State {
    pub carry: Carry,
    /// The fresh /proc.
    pub proc: Option<OwnedFd>,
    /// The ids of mountclean's own mounts.
    pub own: Vec<u64>,
}

impl State {
    pub fn new(carry: Carry) -> State {
        State { carry, proc: None, own: Vec::new() }
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
            Step::DetachHost => f.write_str("umount -l /"),
            Step::UnmountAll { keep } => f.write_str(&unmount::shell(keep)),
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
            Step::DetachHost => unmount::stacked(),
            Step::UnmountAll { keep } => unmount::all_but(keep, state),
            Step::Prove { keep, keep_fd } => proof::prove(keep, keep_fd, state),
        }
    }
}
