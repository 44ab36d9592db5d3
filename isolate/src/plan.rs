//! From options to steps, in the order that the kernel needs.

use std::ffi::OsString;

use anyhow::Result;
use nix::unistd::{getegid, geteuid};

use crate::args::Args;
use crate::ids::{self, Maps};
use crate::namespaces::{Kind, New};
use crate::step::Step;
use crate::unshare::Unshare;

pub fn of(args: &Args) -> Result<Vec<Step>> {
    let mut plan = Vec::new();
    let new = namespaces(args);
    let has = |kind| new.iter().any(|new: &New| new.kind == kind);
    let (maps, maps_shown) = maps(args)?;
    let (own_net, own_pid, own_uts) = (has(Kind::Net), has(Kind::Pid), args.hostname.clone());
    let forks = args.fork || own_pid || !maps.is_empty() && !maps.can_write_own();
    if !new.is_empty() || forks {
        plan.push(Step::Unshare(Unshare { new, maps, maps_shown, forks }));
    }
    if let Some(name) = own_uts {
        plan.push(Step::Hostname(name));
    }
    if own_net {
        plan.push(Step::Loopback);
    }
    Ok(plan)
}

/// The shell to run where no COMMAND was given.
pub fn shell() -> OsString {
    std::env::var_os("SHELL").filter(|shell| !shell.is_empty()).unwrap_or_else(|| "/bin/sh".into())
}

fn namespaces(args: &Args) -> Vec<New> {
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
        Kind::User => args.map_root || args.map_current,
        Kind::Uts => args.hostname.is_some(),
        _ => false,
    };
    Kind::ALL
        .into_iter()
        .filter(|&kind| args.all || asked(kind).is_some() || implied(kind))
        .map(|kind| New { kind, file: asked(kind).clone().flatten() })
        .collect()
}

fn maps(args: &Args) -> Result<(Maps, Vec<String>)> {
    if args.map_root {
        Ok((ids::own(Some(0), Some(0))?, vec!["--map-root-user".into()]))
    } else if args.map_current {
        Ok((ids::own(Some(geteuid().as_raw()), Some(getegid().as_raw()))?, vec!["--map-current-user".into()]))
    } else {
        Ok((Maps::default(), Vec::new()))
    }
}
