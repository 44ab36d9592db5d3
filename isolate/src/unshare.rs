//! Into the new namespaces: here, or in a child that this process waits for.

use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{IntoRawFd, OwnedFd};

use anyhow::{Context, Result};
use chain::Carry;
use chain::patient::waitpid;
use nix::fcntl::OFlag;
use nix::mount::{MsFlags, mount};
use nix::sched::{setns, unshare};
use nix::sys::signal::Signal;
use nix::unistd::{pipe2, setpgid};
use rustix::process::{PidfdFlags, pidfd_open};

use crate::guard::{Guard, Post};
use crate::ids::Maps;
use crate::namespaces::{Kind, New, flags};
use crate::process::{SignalState, clone_into, close_all_but, let_go_of};
use crate::refusal;
use crate::terminal::Terminal;
use crate::waiting::Waiting;

#[derive(Clone, Debug)]
pub struct Unshare {
    pub new: Vec<New>,
    pub maps: Maps,
    /// The options of unshare(1) that stand for the maps.
    pub maps_shown: Vec<String>,
    /// A child enters them, and we wait for it.
    pub forks: bool,
}

/// Made by the child for itself: a cgroup namespace shows the group that its maker is in, so it has
/// to wait until the child is in its group; clone(2) has no flag left for time.
const LATER: [Kind; 2] = [Kind::Cgroup, Kind::Time];

impl Unshare {
    fn has(&self, kind: Kind) -> bool {
        self.new.iter().any(|new| new.kind == kind)
    }

    fn kinds(&self) -> Vec<Kind> {
        self.new.iter().map(|new| new.kind).collect()
    }

    pub fn perform(&self, carry: &mut Carry) -> Result<()> {
        if self.forks {
            return self.fork(carry);
        }
        unshare(flags(&self.new)).map_err(|errno| refusal::explain(errno, &self.kinds()))?;
        self.maps.write(None)?;
        self.arrive(carry)
    }

    fn fork(&self, carry: &mut Carry) -> Result<()> {
        let us = pidfd_open(rustix::process::getpid(), PidfdFlags::empty()).context("pidfd")?;
        let mut terminal = Terminal::find();
        let leads = self.has(Kind::Pid) && terminal.wants_own_group();
        let gate = pipe2(OFlag::O_CLOEXEC).context("pipe")?;
        let signals = SignalState::put_aside()?;
        let at_once = flags(self.new.iter().filter(|new| !LATER.contains(&new.kind)));
        let child = clone_into(at_once).map_err(|errno| refusal::explain(errno, &self.kinds()))?;
        let Some(child) = child else {
            chain::die_with_parent(&us, Signal::SIGKILL)?;
            signals.put_back()?;
            wait_at(gate)?;
            let later = flags(self.new.iter().filter(|new| LATER.contains(&new.kind)));
            unshare(later).map_err(|errno| refusal::explain(errno, &self.kinds()))?;
            carry.parent = Some(us);
            return self.arrive(carry);
        };
        if leads {
            setpgid(child, child).context("process group")?;
        }
        // What the link before us left is the child's now.
        let nested = std::mem::take(carry).parent.is_some();
        let (behind, gate) = gate;
        drop(behind);
        if let Err(error) = self.maps.write(Some(child)) {
            // The child finds the gate gone, and leaves.
            drop(gate);
            let _ = waitpid(child, None);
            return Err(error);
        }
        let guard = Guard::start(&Post { us: &us, child, listens: leads, terminal: &terminal })?;
        if leads {
            terminal.belongs_to(child);
        }
        let waiting = Waiting::new(child, self.has(Kind::Pid), nested, guard, terminal)?;
        match File::from(gate).write_all(b"!") {
            // The child is gone already, and has said why.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            result => result.context("open the gate for the child")?,
        }
        close_all_but(&waiting.descriptors());
        // Closed, whichever way this ends.
        let _ = us.into_raw_fd();
        let_go_of(&[0, 1]);
        let (ending, whom) = waiting.until_the_end()?;
        ending.share(whom)
    }

    /// In the new namespaces, ids mapped.
    fn arrive(&self, carry: &mut Carry) -> Result<()> {
        if self.has(Kind::Mount) {
            mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
                .context("make every mount private")?;
            carry.mount_namespace = chain::mount_namespace_id();
        }
        if self.has(Kind::Time) {
            // unshare(2) puts only children into the new one (time_namespaces(7)).
            let path = "/proc/self/ns/time_for_children";
            let namespace = File::open(path).context(path)?;
            setns(namespace, Kind::Time.flag()).context("enter the new time namespace")?;
        }
        Ok(())
    }
}

/// Waits until the parent has done its part; leaves without a word if it never will, since the
/// parent says why.
fn wait_at((gate, parents_end): (OwnedFd, OwnedFd)) -> Result<()> {
    drop(parents_end);
    match File::from(gate).read_exact(&mut [0]) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => std::process::exit(chain::FAILED.into()),
        result => result.context("wait for the parent"),
    }
}

impl fmt::Display for Unshare {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("unshare")?;
        for new in &self.new {
            match &new.file {
                Some(file) => write!(f, " --{}={}", new.kind, chain::shell::quote(file))?,
                None => write!(f, " --{}", new.kind)?,
            }
        }
        for option in &self.maps_shown {
            write!(f, " {option}")?;
        }
        if self.forks {
            f.write_str(" --fork --kill-child")?;
        }
        Ok(())
    }
}
