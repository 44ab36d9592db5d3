//! From options to steps, in the order that the kernel needs.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Result, anyhow};
use chain::{Carry, Command, Tool, User, WithHint, status_fd};
use nix::libc;

use crate::args::{Args, Propagation, SignalName};
use crate::ids::mapping;
use crate::ids::owner::Owner;
use crate::limits::rlimit;
use crate::limits::{Limit, Limits};
use crate::namespaces::join::{self, Join};
use crate::namespaces::unshare::{Unshare, Wait};
use crate::namespaces::{Kind, New};
use crate::privileges::Privileges;
use crate::signals;
use crate::step::Step;
use crate::supervise::Session;

pub fn of(args: &Args, user: Option<User>, command: &mut Command, carry: &mut Carry) -> Result<Vec<Step>> {
    let session = match args.pty {
        true => Some(Session::WithTerminal),
        false => args.new_session.then_some(Session::WithoutTerminal),
    };
    let mut plan: Vec<Step> = args.die_with_parent.then_some(Step::WatchCaller).into_iter().collect();
    plan.extend(session.map(Step::Session));
    let pasta = is_pasta(args);
    let new = namespaces(args, pasta);
    let has = |kind| new.iter().any(|new: &New| new.kind == kind);
    let (own_net, own_time) = (has(Kind::Net), has(Kind::Time));
    if let (false, Some(_)) = (own_time, args.boottime.or(args.monotonic)) {
        return Err(anyhow!("--boottime and --monotonic shift the clocks of a new time namespace")).hint("add --time");
    }
    if !has(Kind::Mount) && args.propagation != Propagation::Private {
        return Err(anyhow!("--propagation is for a new mount namespace")).hint("add --mount");
    }
    if !has(Kind::User) && args.setgroups.is_some() {
        return Err(anyhow!("--setgroups is for a new user namespace")).hint("add --user");
    }
    let owner = args.owner.as_ref().map(Owner::plan).transpose()?;
    let own = owner.unwrap_or_else(Owner::own);
    let (maps, maps_shown) = mapping::of(args, own)?;
    let is_new_user = has(Kind::User);
    let stays_himself =
        if is_new_user { maps.inner_user(own.user).is_some_and(|user| user != 0) } else { carry.caps_lent };
    let lends = stays_himself && command.tool().is_some() && args.setuid.is_none() && user.is_none();
    let limits = Limits::of(args);
    let joins_pid = args.join.as_ref().is_some_and(Join::has_pid);
    let waits = args.fork
        || args.forward_signals
        || args.init
        || pasta
        || joins_pid
        || args.kill_child.is_some()
        || args.status_fd.is_some()
        || session.is_some()
        || !limits.is_empty()
        || has(Kind::Pid)
        || owner.is_some()
        || args.die_with_parent
        || new.iter().any(|new| new.file.is_some())
        || !maps.is_empty() && !maps.can_write_own();
    let wait = match waits {
        true => Some(Wait {
            kill: args.kill_child.as_ref().map_or(Ok(libc::SIGKILL), signal)?,
            status: args.status_fd.map(|fd| status_fd::usable(Tool::Isolate, fd)).transpose()?,
            pasta,
            init: args.init,
            session: session.is_some(),
        }),
        false => None,
    };
    if !limits.is_empty() {
        let joins = args.join.as_ref().map(Join::process).transpose()?.flatten();
        plan.push(Step::Limit(Limit::plan(limits, joins)?));
    }
    if command.tool().is_some() && (args.join.is_some() || args.root.is_some()) {
        plan.push(Step::HoldTools);
    }
    if let Some(from) = &args.join {
        plan.push(Step::Join(Join { from: from.clone(), forks: waits, status: args.status_fd }));
    }
    if !new.is_empty() || waits {
        let clocks = [("monotonic", args.monotonic), ("boottime", args.boottime)];
        let (propagation, keep_caps) = (args.propagation, args.keep_caps || lends && is_new_user);
        plan.push(Step::Unshare(Unshare { new, maps, maps_shown, propagation, clocks, keep_caps, owner, wait }));
    }
    plan.extend(args.hostname.clone().map(Step::Hostname));
    if own_net {
        plan.push(Step::Loopback);
    }
    if args.init {
        plan.push(Step::Init { session: session.is_some() });
    }
    // As unshare(1): the root first, then the proc in it.
    plan.extend(args.root.clone().map(Step::Root));
    plan.extend(args.wd.clone().map(Step::Chdir));
    plan.extend(args.mount_proc.clone().map(|dir| Step::Mount { kind: "proc", dir }));
    plan.extend(args.mount_binfmt.clone().map(|dir| Step::Mount { kind: "binfmt_misc", dir }));
    for limit in &args.rlimit {
        plan.push(Step::Rlimit(rlimit::Limit::plan(limit)?));
    }
    if let Some(taken) = args.join.as_ref().map(join::environment).transpose()?.flatten() {
        command.env = chain::Environment::only(&taken)?;
    }
    if let Some(kept) = kept_variables(args, command) {
        command.env = chain::Environment::only(&kept)?;
        plan.push(Step::CleanEnv(kept));
    }
    let privileges = Privileges::plan(args, user, lends, carry.caps_lent && !is_new_user)?;
    let passed_on = carry.caps_lent && !is_new_user && !privileges.as_ref().is_some_and(Privileges::decides);
    carry.caps_lent = if lends { !args.keep_caps } else { passed_on };
    plan.extend(privileges.map(Step::Privileges));
    if args.keep_caps && args.user.is_none() && !mapping::is_wanted(args) {
        return Err(anyhow!("--keep-caps keeps those of a new user namespace")).hint("add --user; or --cap-add");
    }
    Ok(plan)
}

/// Notes who writes to standard input while that can still be seen: a user namespace hides the descriptors of outer
/// processes (ptrace(2)), a new proc hides the processes, and a net namespace their sockets.
pub fn note_writer(args: &Args, carry: &mut Carry) {
    let new = namespaces(args, is_pasta(args));
    let has = |kind| new.iter().any(|new| new.kind == kind);
    let pipes = args.mount_proc.is_some() || args.join.is_some() || has(Kind::User);
    chain::handoff::note_writer(carry, pipes, pipes || has(Kind::Net));
}

/// The shell to run without a COMMAND.
pub fn shell() -> OsString {
    std::env::var_os("SHELL").filter(|shell| !shell.is_empty()).unwrap_or_else(|| "/bin/sh".into())
}

fn is_pasta(args: &Args) -> bool {
    args.net.as_ref().and_then(|file| file.as_ref()).is_some_and(|file| file.as_os_str() == "pasta")
}

fn namespaces(args: &Args, pasta: bool) -> Vec<New> {
    let asked = |kind| match kind {
        Kind::User => &args.user,
        Kind::Mount => &args.mount,
        Kind::Uts => &args.uts,
        Kind::Ipc => &args.ipc,
        Kind::Net => &args.net,
        Kind::Pid => &args.pid,
        Kind::Cgroup => &args.cgroup,
        Kind::Time => &args.time,
    };
    let implied = |kind| match kind {
        Kind::User => mapping::is_wanted(args),
        Kind::Uts => args.hostname.is_some(),
        Kind::Mount => args.mount_proc.is_some() || args.mount_binfmt.is_some() || args.init,
        Kind::Pid => args.init,
        _ => false,
    };
    let file = |kind| asked(kind).clone().flatten().filter(|_: &PathBuf| !(pasta && kind == Kind::Net));
    Kind::ALL
        .into_iter()
        .filter(|&kind| args.all || asked(kind).is_some() || implied(kind))
        .map(|kind| New { kind, file: file(kind) })
        .collect()
}

fn signal(SignalName(name): &SignalName) -> Result<i32> {
    signals::by_name(name)
        .ok_or_else(|| anyhow!("--kill-child={name}: no such signal"))
        .hint("a name, with or without SIG, or a number: kill -l")
}

/// The whole environment, where it is not the caller's.
fn kept_variables(args: &Args, command: &Command) -> Option<Vec<(OsString, OsString)>> {
    if !args.clean_env && !args.clear_env && args.whitelist_env.is_empty() {
        return None;
    }
    let mut kept: Vec<(OsString, OsString)> = Vec::new();
    for name in &args.whitelist_env {
        let value = name.to_str().and_then(|name| command.env.get(name));
        kept.extend(value.map(|value| (name.clone(), value.into())));
    }
    if args.clean_env {
        // What login(1) would set, as far as it is known here.
        let own = |name, otherwise: &str| command.env.get(name).unwrap_or(otherwise.as_ref()).to_owned();
        let login =
            [("PATH", chain::defaults::PATH.into()), ("HOME", own("HOME", "/")), ("TERM", own("TERM", "linux"))];
        for (name, value) in login {
            if !kept.iter().any(|(known, _)| known == name) {
                kept.push((name.into(), value));
            }
        }
    }
    Some(kept)
}
