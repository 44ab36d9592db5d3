//! Where isolate and its child wait for each other: the child for what is done from outside, the parent for the
//! namespaces that the child makes for itself. Both ends close at exec, so that the parent also learns when COMMAND runs.

use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use chain::retry_eintr::retry;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::{pipe2, read, write};

use crate::process::Ending;
use crate::signals::Target;

/// How a child ends if its gate is gone: silently, since the parent says why.
pub const GONE: Ending = Ending::Exit(0);

/// One process's side. Each of the two drops the other's.
pub struct Gate {
    hears: OwnedFd,
    tells: OwnedFd,
}

/// The parent's side and the child's. Pipes: a service may be denied sockets (RestrictAddressFamilies=).
pub fn make() -> Result<(Gate, Gate)> {
    let ends = || pipe2(OFlag::O_CLOEXEC).context("pipe");
    let (parents, childs) = (ends()?, ends()?);
    Ok((Gate { hears: parents.0, tells: childs.1 }, Gate { hears: childs.0, tells: parents.1 }))
}

impl Gate {
    /// SIGPIPE must be blocked: the other may be gone at any time.
    pub fn tell(&self) -> Result<()> {
        match retry(|| write(&self.tells, b"!")) {
            // The other is gone already, and has said why.
            Err(Errno::EPIPE) => Ok(()),
            result => result.map(drop).context("the gate between parent and child"),
        }
    }

    /// Whether the other said something. Otherwise it is gone, or has become COMMAND.
    pub fn hear(&self) -> Result<bool> {
        let count = retry(|| read(&self.hears, &mut [0; 1])).context("the gate between parent and child")?;
        Ok(count != 0)
    }

    /// Waits until the parent has done its part; leaves if it never will.
    pub fn wait(&self) -> Result<()> {
        if !self.hear()? {
            GONE.exit_like(Target::Own);
        }
        Ok(())
    }

    /// When all is said. What is left becomes readable once the child has become COMMAND or is gone.
    pub fn into_end(self) -> OwnedFd {
        self.hears
    }
}
