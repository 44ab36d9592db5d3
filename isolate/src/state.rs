//! What the steps of a plan hand to each other.

use std::fs::File;
use std::path::PathBuf;

use chain::{Carry, HasCarry, Marked};

use crate::limits::cgroup::Group;
use crate::namespaces::join::Opened;

#[derive(Default)]
pub struct State {
    pub carry: Carry,
    /// Where the child is to be limited.
    pub group: Option<Group>,
    /// The namespaces that the child enters before it makes its own.
    pub join: Option<Opened>,
    /// What the carry says of the mount namespace that a new one is a copy of.
    pub marked: Option<Marked>,
    /// The cgroups of the process whose namespaces those are.
    pub joined: Vec<PathBuf>,
    /// The guard tells the child of isolate's end; the kernel would do it with SIGKILL.
    pub told_by_guard: bool,
    /// Where a reaper at PID 1 tells what became of the command.
    pub report: Option<File>,
}

impl HasCarry for State {
    fn carry(&mut self) -> &mut Carry {
        &mut self.carry
    }
}

impl From<Carry> for State {
    fn from(carry: Carry) -> State {
        State { carry, ..State::default() }
    }
}
