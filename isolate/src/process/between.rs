//! A child that is made from where this process does not go: other namespaces, or another user.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sched::CloneFlags;
use nix::unistd::{Pid, pipe2};

use super::{close_at_exec, ending_of, fork, fork_into, no_process};
use crate::signals::Target;

/// Clones from where `enter` leads while this process stays as it is: a process in between enters, makes a child that
/// counts as ours (CLONE_PARENT), and ends. If that fails it has said why: then this process ends as it did, after `last`.
pub fn fork_from_between(
    enter: impl FnOnce() -> Result<()>,
    flags: CloneFlags,
    status: Option<i32>,
    last: impl FnOnce(),
) -> Result<Result<Option<Pid>, Errno>> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC).context("pipe")?;
    let Some(between) = fork().map_err(no_process)? else {
        close_at_exec(status);
        enter()?;
        return match fork_into(flags | CloneFlags::CLONE_PARENT) {
            Ok(Some(child)) => {
                // Without it the child finds its gate gone, and leaves.
                File::from(write).write_all(&child.as_raw().to_ne_bytes()).context("pipe")?;
                chain::leave(0)
            }
            result => Ok(result),
        };
    };
    drop(write);
    let mut pid = [0; 4];
    let result = File::from(read).read_exact(&mut pid);
    let ending = ending_of(between)?;
    match result {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
            last();
            ending.exit_like(Target::Own)
        }
        result => result.context("pipe")?,
    }
    Ok(Ok(Some(Pid::from_raw(i32::from_ne_bytes(pid)))))
}
