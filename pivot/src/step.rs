//! What pivot does, one step at a time: its shell line and its deed.

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use chain::handoff::{self, Expect};
use chain::shell::quote;
use chain::{Carry, HasCarry, HostTree, Tool};

use crate::{descriptors, lock, root};

pub enum Step<'a> {
    CheckDescriptors { keep: &'a [u32] },
    AwaitRoot { root: &'a Path },
    OwnMounts,
    HoldTools,
    Bind { root: &'a Path },
    ReadOnly { root: &'a Path },
    Enter { root: &'a Path },
    Lock,
    LendProc,
    PivotRoot,
    DetachHost,
    PutOld { dir: &'a Path },
    Chdir { dir: &'a Path },
}

pub struct State {
    carry: Carry,
    /// ROOT; where it was given as `-`, what the line named.
    root: PathBuf,
    /// The new root mount, once it is there.
    tree: Option<OwnedFd>,
    host: HostTree,
}

impl State {
    pub fn new(carry: Carry, root: PathBuf, host: HostTree) -> State {
        State { carry, root, tree: None, host }
    }

    fn tree(&self) -> Result<&OwnedFd> {
        self.tree.as_ref().ok_or_else(|| anyhow!("the root is not bound yet"))
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
            Step::CheckDescriptors { .. } => f.write_str("# descriptors: 0 to 2 are no directories, others are closed"),
            Step::AwaitRoot { root } if root.as_os_str() == "-" => f.write_str("IFS= read -r root; export root"),
            Step::AwaitRoot { .. } => {
                f.write_str("# standard input: where it is unpack's pipe, wait until ROOT is whole")
            }
            Step::OwnMounts => f.write_str("unshare --mount --propagation private"),
            Step::HoldTools => f.write_str("# open the links that follow, which the root does not hold"),
            Step::Bind { root } => write!(f, "mount --rbind {0} {0}", word(root)),
            Step::ReadOnly { root } => write!(
                f,
                "findmnt --raw --noheadings --output TARGET --submounts {} | while read -r point; do \
                 mount -o remount,bind,ro \"$(printf %b \"$point\")\"; done",
                word(root)
            ),
            Step::Enter { root } => write!(f, "cd {}", word(root)),
            Step::Lock => f.write_str("exec 9<.; flock --shared 9"),
            Step::PivotRoot => f.write_str("PATH=$PATH:/usr/sbin:/sbin pivot_root . ."),
            // Without a /proc util-linux's umount gives up before it calls the kernel.
            Step::LendProc => f.write_str("# for the umount below, which is the root's own\nmount --rbind /proc proc"),
            Step::DetachHost => f.write_str("umount -l . && umount -l /proc"),
            Step::PutOld { dir } => write!(f, "mount --move /.. {}", quote(Path::new("/").join(dir))),
            Step::Chdir { dir } => write!(f, "cd {}", quote(Path::new("/").join(dir))),
        }
    }
}

fn word(root: &Path) -> String {
    if root.as_os_str() == "-" { "\"$root\"".into() } else { quote(root) }
}

impl chain::Step for Step<'_> {
    type State = State;

    fn nests(&self) -> bool {
        matches!(self, Step::OwnMounts)
    }

    fn perform(&self, state: &mut State) -> Result<()> {
        match self {
            Step::CheckDescriptors { keep } => descriptors::check(keep),
            Step::AwaitRoot { root } => await_root(root, state),
            Step::OwnMounts => chain::own_mount_namespace(&mut state.carry),
            Step::HoldTools => state.carry.hold_tools(),
            Step::Bind { .. } => {
                state.tree = Some(root::bind(&state.root)?);
                Ok(())
            }
            Step::ReadOnly { .. } => root::make_read_only(state.tree()?),
            Step::Enter { .. } => root::enter_tree(state.tree()?),
            Step::Lock => {
                let lock = lock::hold(state.tree()?).with_context(|| state.root.display().to_string())?;
                state.carry.lock = lock.or(state.carry.lock);
                Ok(())
            }
            Step::LendProc => Ok(()),
            Step::PivotRoot => {
                root::pivot()?;
                // The namespace goes by the mount of /, which has changed.
                state.carry.mount_namespace = chain::mount_namespace_id();
                state.carry.host_tree = Some(state.host);
                Ok(())
            }
            Step::DetachHost => root::detach_host(),
            Step::PutOld { dir } => root::put_old(dir),
            Step::Chdir { dir } => root::enter(dir),
        }
    }
}

fn await_root(root: &Path, state: &mut State) -> Result<()> {
    if root.as_os_str() == "-" {
        if let Some(named) = handoff::receive(Tool::Pivot, Expect::Any)? {
            state.root = named;
        }
        return Ok(());
    }
    // Where ROOT's parent is not even there, no unpack is about to make ROOT in it.
    if let Ok(absolute) = handoff::absolute(root) {
        handoff::receive(Tool::Pivot, Expect::Root(&absolute))?;
    }
    Ok(())
}
