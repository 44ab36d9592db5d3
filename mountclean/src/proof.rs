//! The proof that nothing of the host is left: mounts, root, working directory, descriptors.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};
use chain::mountinfo;
use chain::mounts::{self, Mount};
use chain::{EscapeFd, Tool, WithHint, at_root_of_mount_namespace, escape_fd, names_in, open_inside, passed_on, warn};
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::stat::stat;
use nix::unistd::getppid;

use crate::unmount::kept;

/// What may be there.
pub struct Expected<'a> {
    /// The fresh /proc.
    pub proc: &'a OwnedFd,
    /// The ids of mountclean's own mounts, and of those that pivot was asked for.
    pub mounts: BTreeSet<u64>,
    /// The places whose mounts are kept.
    pub keep: &'a [PathBuf],
    pub keep_fd: &'a [i32],
    /// The ids of the detached mounts through which pivot holds its locks.
    pub locks: &'a [u64],
    /// Our pivot came before, and has closed every inherited descriptor from 3 up.
    pub follows_pivot: bool,
}

pub fn prove(expected: &Expected) -> Result<()> {
    let table = mounts::table()?;
    let root = mounts::id_at("/")?;
    let ours =
        |mount: &Mount| mount.id == root || expected.mounts.contains(&mount.id) || kept(&mount.point, expected.keep);
    let mut left: Vec<&Mount> = table.iter().filter(|mount| !ours(mount)).collect();
    if !left.is_empty() {
        let received = received(&table, &expected.mounts)?;
        left.retain(|mount| !received.contains(&mount.id));
    }
    if let [first, others @ ..] = left.as_slice() {
        let more = if others.is_empty() { String::new() } else { format!(" (and {} more)", others.len()) };
        return Err(anyhow!("a mount that is not the container's is left at {}{more}", first.point.display())).hint(
            match first.is_at("/") {
                true => "something was mounted over the root after the pivot".into(),
                false => format!("--keep-mount {} lets it stay", chain::shell::quote(&first.point)),
            },
        );
    }
    if !at_root_of_mount_namespace()? {
        return Err(anyhow!(
            "/ is not the root of the mount namespace: this is a chroot, and mounts outside it cannot be seen"
        ))
        .hint("use pivot instead of chroot");
    }
    let ids: BTreeSet<u64> = table.iter().map(|mount| mount.id).collect();
    let inside = |id: u64| ids.contains(&id);
    if !inside(mounts::id_at(".")?) {
        return Err(anyhow!("the working directory is in the host's tree"))
            .hint("cd / before the pivot, or pivot --chdir DIR");
    }
    descriptors(expected, inside)?;
    processes(inside)
}

/// The mounts that a volume has received from outside since pivot bound it (`--bind SRC:DST:rslave`): no other mount
/// below an expected one is a slave.
fn received(table: &[Mount], expected: &BTreeSet<u64>) -> Result<BTreeSet<u64>> {
    let slaves: BTreeSet<u64> =
        mountinfo::read()?.into_iter().filter(|mount| mount.is_slave).map(|mount| mount.id).collect();
    let volumes: Vec<u64> = expected.intersection(&slaves).copied().collect();
    let below = mounts::below(&volumes, table).into_iter().map(|mount| mount.id);
    Ok(below.filter(|id| slaves.contains(id)).collect())
}

/// Every descriptor that COMMAND inherits: those that close at exec do not count.
fn descriptors(expected: &Expected, inside: impl Fn(u64) -> bool) -> Result<()> {
    let list = open_inside(expected.proc, "self/fd".as_ref(), OFlag::O_DIRECTORY).context("/proc/self/fd")?;
    for name in names_in(list).context("/proc/self/fd")? {
        let Some(number) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        let Some(fd) = passed_on(number).filter(|_| !expected.keep_fd.contains(&number)) else { continue };
        let Some(kind) = escape_fd(fd).with_context(|| format!("descriptor {number}"))? else {
            // Our pivot has closed these. After another program's they are closed here.
            if number > 2 && !expected.follows_pivot {
                fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).with_context(|| format!("descriptor {number}"))?;
            }
            continue;
        };
        let known = matches!(kind, EscapeFd::Directory | EscapeFd::Path)
            && mounts::id_of(fd.as_fd()).is_ok_and(|id| inside(id) || expected.locks.contains(&id));
        if !known {
            return Err(anyhow!("descriptor {number} is {kind} outside the root")).hint(format!(
                "close it: {number}{}&-, or pass it on knowingly: --keep-fd {number}",
                if number == 0 { '<' } else { '>' }
            ));
        }
    }
    Ok(())
}

/// COMMAND may hold no reference and still have a way out: /proc/PID/root of a process outside. Whether it may follow
/// those of PID 1 and its parent depends on privilege and security modules. PID 1 of a new pid namespace must be inside:
/// it lives as long as COMMAND.
fn processes(inside: impl Fn(u64) -> bool) -> Result<()> {
    for pid in [1, getppid().as_raw()] {
        let root = format!("/proc/{pid}/root/");
        if pid <= 0 || !mounts::id_at(&root).is_ok_and(|id| !inside(id)) || is_root(&root) {
            continue;
        }
        if pid == 1 && !is_first_pid_namespace() {
            return Err(anyhow!(
                "PID 1 of this pid namespace is outside the root: /proc/1/root leads to the host's tree"
            ))
            .hint(
                "name the next link by its bare name, isolate --init -- pivot ROOT -- mountclean -- …, or make a pid \
                     namespace for the chain: isolate --pid -- pivot ROOT -- mountclean -- …",
            );
        }
        warn(
            Tool::Mountclean,
            format_args!(
                "/proc/{pid}/root leads to the host's tree, for that process is in this pid namespace and not in \
                 the root; isolate --pid gives COMMAND one of its own"
            ),
        );
        break;
    }
    Ok(())
}

/// Whether a path leads to the same directory as `/`. For an isolate that waits behind a pivot that is so in another
/// mount namespace.
fn is_root(path: &str) -> bool {
    let directory = |path: &str| stat(path).map(|stat| (stat.st_dev, stat.st_ino));
    matches!((directory(path), directory("/")), (Ok(one), Ok(other)) if one == other)
}

/// The first pid namespace has this inode on every machine (PROC_PID_INIT_INO).
fn is_first_pid_namespace() -> bool {
    stat("/proc/self/ns/pid").is_ok_and(|namespace| namespace.st_ino == 0xEFFF_FFFC)
}
