//! The start: what only the parent can do for its child, from outside the new namespaces.
//!
//! The child is a plain clone that waits at the gate until all of that is done. The guard stands before the clone: whatever
//! ends isolate after that, the guard ends the child. Meanwhile every signal is blocked. While it prepares the child isolate has
//! its caller's signal mask, but keeps a SIGCONT for later. Then it blocks every signal again and hears each as it comes.

use std::convert::Infallible;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;

use anyhow::{Context, Error, Result};
use chain::{Hint, Tool, pidfd};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::sched::unshare;
use nix::unistd::{Pid, getpid, pipe2, setpgid};

use crate::ids::owner::Owner;
use crate::limits::cgroup::Group;
use crate::limits::joined;
use crate::namespaces::join::Opened;
use crate::namespaces::unshare::{Unshare, Wait};
use crate::namespaces::{Kind, flags, pasta, persist, why_failed};
use crate::process::{
    close_all_but, close_at_exec, ending_of, fork_from_between, fork_into, let_go_of, let_go_of_code,
};
use crate::signals::{self, Arrivals, ChildSignal, Mask, Target};
use crate::supervise::gate::{self, Gate};
use crate::supervise::group_signals::GroupSignals;
use crate::supervise::guard::{self, Guard, Shared};
use crate::supervise::last_words::can_write;
use crate::supervise::listener;
use crate::supervise::status::{self, Status};
use crate::supervise::terminal::Terminal;
use crate::supervise::waiting::{Now, Waiting};

/// Made by the child for itself: a cgroup namespace shows the group that its maker is in, so it has
/// to wait until the child is in its group; clone(2) has no flag left for time.
const LATER: [Kind; 2] = [Kind::Cgroup, Kind::Time];

pub struct Start<'a> {
    pub unshare: &'a Unshare,
    pub wait: &'a Wait,
    /// With whom isolate and the child end.
    pub caller: Option<OwnedFd>,
    /// The namespaces that the child enters before it makes its own.
    pub joined: Option<Opened>,
    /// The cgroup for the child.
    pub cgroup: Option<Group>,
    /// An isolate waits for this one.
    pub nested: bool,
}

/// What the child has of its parent.
pub struct Child<'a> {
    unshare: &'a Unshare,
    wait: &'a Wait,
    gate: Gate,
    child_signal: ChildSignal,
    own_pidfd: OwnedFd,
    /// Where a reaper at PID 1 tells what became of the command.
    pub reports: Option<File>,
    /// Where the links tell that one has failed.
    pub failures: Option<OwnedFd>,
}

/// Returns in the child, or where something failed; this process waits for the child and ends as it does.
pub fn start(start: Start) -> Result<Child> {
    let own = getpid();
    let own_pidfd = pidfd::own().map_err(no_pidfd)?;
    let parents_pidfd = own_pidfd.try_clone().context("pidfd")?;
    let (gate, childs_gate) = gate::make()?;
    let reports = start.wait.init.then(|| pipe2(OFlag::O_CLOEXEC)).transpose().context("pipe")?;
    let (reports, childs_reports) = reports.map(|(read, write)| (File::from(read), File::from(write))).unzip();
    let failures = start.wait.status.map(|_| pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)).transpose();
    let (failures, childs_failures) = failures.context("pipe")?.unzip();
    let terminal = Terminal::find();
    let child_signal = ChildSignal::set_default();
    let Start { unshare, wait, caller, joined, cgroup, nested } = start;
    let own_group = wait.session || unshare.has(Kind::Pid) && terminal.wants_own_group();
    let at_terminal = own_group && terminal.file().is_some();
    let mask = signals::block_all();
    let shared: &'static Shared = Box::leak(Box::new(Shared {
        own_pidfd,
        caller,
        child: OnceLock::new(),
        is_pid1: unshare.has(Kind::Pid),
        kill: wait.kill,
        terminal,
        group_signals: at_terminal.then(GroupSignals::new).transpose()?,
        cgroup,
        pasta: OnceLock::new(),
    }));
    let guard = Guard::start(shared)?;
    let at_once = flags(unshare.new.iter().filter(|new| !LATER.contains(&new.kind)));
    let groups = joined.as_ref().map_or_else(Vec::new, |opened| opened.groups.clone());
    let forked = match (joined, unshare.owner) {
        (None, None) => Ok(fork_into(at_once)),
        (joined, owner) => {
            let enter = || {
                joined.map_or(Ok(()), |opened| opened.enter())?;
                owner.map_or(Ok(()), Owner::assume)
            };
            fork_from_between(enter, at_once, wait.status, || guard.dismiss())
        }
    };
    let forked = forked.and_then(|forked| forked.map_err(|errno| why_failed::explain(errno, &unshare.kinds())));
    match forked {
        Err(error) => {
            // Not in the process between, which fails for itself alone.
            if getpid() == own {
                guard.dismiss();
            }
            Err(error)
        }
        Ok(None) => {
            mask.restore();
            // Nothing may fail here: the child cannot yet tell its parent, and both would report it.
            let (gate, own_pidfd, reports, failures) = (childs_gate, parents_pidfd, childs_reports, childs_failures);
            Ok(Child { unshare, wait, gate, child_signal, own_pidfd, reports, failures })
        }
        Ok(Some(child)) => {
            drop((childs_gate, parents_pidfd, childs_reports, childs_failures));
            let status = wait.status.zip(failures).map(|(fd, failures)| Status { fd, failures });
            let begun = Begun { unshare, wait, nested, own_group, reports, groups, shared, guard, mask };
            match begun.supervise(child, gate, status)? {}
        }
    }
}

fn no_pidfd(errno: Errno) -> Error {
    let error = Error::new(errno).context("pidfd");
    match errno {
        Errno::ENOSYS | Errno::EPERM => error.context(Hint(chain::sys::missing("pidfd_open", "Linux 5.3"))),
        _ => error,
    }
}

/// Whether the parent has something to do with namespaces that the child makes for itself.
fn waits_for_arrival(unshare: &Unshare, wait: &Wait) -> bool {
    wait.status.is_some() || unshare.new.iter().any(|new| new.file.is_some())
}

impl Child<'_> {
    /// The child's part. Returns the pidfd of the isolate that waits for it.
    pub fn enter(&self) -> Result<()> {
        self.gate.wait()?;
        // Another one the guard sends alone: once, and after a change of ids as well.
        if !self.is_told_by_guard() {
            chain::die_with_parent(&self.own_pidfd)?;
        }
        self.child_signal.put_back();
        close_at_exec(self.wait.status);
        let later = flags(self.unshare.new.iter().filter(|new| LATER.contains(&new.kind)));
        unshare(later).map_err(|errno| why_failed::explain(errno, &self.unshare.kinds()))
    }

    pub fn is_told_by_guard(&self) -> bool {
        self.wait.kill != libc::SIGKILL
    }

    /// All of the new namespaces are there.
    pub fn has_arrived(&self) -> Result<()> {
        if waits_for_arrival(self.unshare, self.wait) {
            // A parent that has failed says why: here its closed gate is no reason to die of SIGPIPE.
            let mask = signals::block_all();
            mask.and(&[libc::SIGPIPE]).restore();
            self.gate.tell()?;
            self.gate.wait()?;
            mask.restore();
        }
        Ok(())
    }

    /// What is left of it once it has arrived: the pidfd of the isolate that waits, and where a reaper tells of the command. The
    /// gate stays open until the child has become COMMAND.
    pub fn into_parts(self) -> (OwnedFd, Option<File>) {
        std::mem::forget(self.gate);
        (self.own_pidfd, self.reports)
    }
}

/// The parent's side, from the clone on.
struct Begun<'a> {
    unshare: &'a Unshare,
    wait: &'a Wait,
    nested: bool,
    own_group: bool,
    reports: Option<File>,
    /// The cgroups of the process whose namespaces the child has joined.
    groups: Vec<std::path::PathBuf>,
    shared: &'static Shared,
    guard: Guard,
    /// The caller's.
    mask: Mask,
}

impl Begun<'_> {
    fn supervise(self, child: Pid, gate: Gate, status: Option<Status>) -> Result<Infallible> {
        let (shared, guard) = (self.shared, self.guard);
        let error = match self.release(child, &gate) {
            Ok(waiting) => return stay(status, Waiting { gate: Some(gate.into_end()), ..waiting }),
            Err(error) => error,
        };
        drop(gate);
        let _ = signals::send(child.as_raw(), libc::SIGCONT);
        let ended = ending_of(child);
        guard.dismiss();
        clean_up(shared);
        match ended {
            Ok(gate::GONE) | Err(_) => Err(error),
            // It has said why, or somebody has killed it.
            Ok(ending) => {
                status.inspect(|status| status.exited(ending, None));
                ending.exit_like(Target::Own)
            }
        }
    }

    /// Everything the parent must do before the child may run.
    fn release(self, child: Pid, gate: &Gate) -> Result<Waiting> {
        let (shared, own_group) = (self.shared, self.own_group);
        let of_child = guard::Child::of(child)?;
        let of_child = shared.child.get_or_init(|| of_child);
        if own_group {
            setpgid(child, child).context("process group")?;
        }
        // A child or a reader of status that is gone is no reason to die. A SIGCONT that is not kept is lost, and the child that
        // was stopped together with us would stop us once more.
        self.mask.and(&[libc::SIGPIPE, libc::SIGCONT]).restore();
        if let Some(group) = &shared.cgroup {
            group.create()?;
        }
        self.unshare.maps.write(Some(child))?;
        joined::join(&self.groups, child);
        if let Some(group) = &shared.cgroup {
            group.add(child)?;
        }
        if self.wait.pasta {
            let _ = shared.pasta.set(pasta::start(child)?);
        }
        if waits_for_arrival(self.unshare, self.wait) {
            gate.tell()?;
            if gate.hear()? {
                persist::keep(&self.unshare.new, child)?;
                if let Some(fd) = self.wait.status {
                    status::started(fd, child);
                }
            }
        }
        signals::block_all();
        let arrivals = Arrivals::open()?;
        let listener = if shared.group_signals.is_some() { listener::start(shared, child)? } else { None };
        if own_group {
            shared.terminal.belongs_to(child);
        }
        gate.tell()?;
        let (nested, relayed) = (self.nested, self.wait.session);
        let (reports, guard, now) = (self.reports, self.guard, Now::default());
        let child = of_child;
        Ok(Waiting { shared, child, nested, relayed, own_group, reports, arrivals, guard, listener, gate: None, now })
    }
}

fn clean_up(shared: &Shared) {
    shared.pasta.get().inspect(|pasta| pasta.stop());
    // A child that the limit has killed could not say why.
    if let Some(exceeded) = shared.cgroup.as_ref().and_then(Group::finish) {
        chain::warn(Tool::Isolate, exceeded);
    }
}

/// Runs to the end of this process. After an error the guard ends the child.
fn stay(status: Option<Status>, mut waiting: Waiting) -> Result<Infallible> {
    let shared = waiting.shared;
    let (ending, target) = waiting.until_the_end(|waiting| {
        let keep: Vec<i32> =
            waiting.descriptors().into_iter().chain(status.iter().flat_map(Status::descriptors)).collect();
        close_all_but(&keep);
        let_go_of(&[0, 1]);
        let_go_of_code();
    })?;
    shared.pasta.get().inspect(|pasta| pasta.stop());
    let exceeded = shared.cgroup.as_ref().and_then(|group| group.finish());
    if let Some(status) = status.filter(|status| can_write(status::borrow(status.fd), &waiting.arrivals)) {
        status.exited(ending, exceeded.as_ref());
    }
    if let Some(exceeded) = exceeded.filter(|_| can_write(std::io::stderr().as_fd(), &waiting.arrivals)) {
        chain::warn(Tool::Isolate, exceeded);
    }
    ending.exit_like(target)
}
