//! Unmounting what is not the container's: always lazily, and only in a mount namespace of the chain's.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use chain::Hint;
use chain::mounts::{self, Mount};
use chain::shell::quote;
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use rustix::fs::CWD;
use rustix::mount::{OpenTreeFlags, open_tree};

use crate::procfs;
use crate::step::State;

/// Detaches the host's tree that a pivot stacked on `/`.
pub fn stacked() -> Result<()> {
    umount2("/", MntFlags::MNT_DETACH).context("detach the host's tree")
}

/// Detaches everything but `/`, the fresh /proc and what is kept.
pub fn all_but(keep: &[PathBuf], state: &mut State) -> Result<()> {
    let root = mounts::id_at(CWD, "/")?;
    loop {
        let table = mounts::table()?;
        // Only what is mounted on the root's own mount: what lies below goes along.
        let children = || table.iter().rev().filter(|mount| mount.parent == root && mount.id != root);
        if children().any(|mount| mount.is_at("/")) {
            stacked()?;
            continue;
        }
        let Some(mount) = children().find(|mount| !state.own.contains(&mount.id) && !stays(mount, keep)) else {
            return Ok(());
        };
        if mount.is_at("/proc") {
            replace_proc(state)?;
        } else {
            detach(mount)?;
        }
    }
}

pub fn kept(point: &Path, keep: &[PathBuf]) -> bool {
    keep.iter().any(|dst| point.starts_with(dst))
}

/// What carries a kept mount stays too, for the proof to name.
fn stays(mount: &Mount, keep: &[PathBuf]) -> bool {
    kept(&mount.point, keep) || keep.iter().any(|dst| dst.starts_with(&mount.point))
}

fn detach(mount: &Mount) -> Result<()> {
    umount2(&mount.point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW).map_err(|errno| {
        let point = mount.point.display();
        match errno {
            // mount_namespaces(7): what came with a more privileged namespace cannot be taken apart.
            Errno::EINVAL => anyhow!("{point}: this mount is locked in a user namespace").context(Hint(
                "pivot leaves the host's tree whole, and that can go: isolate … -- pivot ROOT -- mountclean -- …"
                    .into(),
            )),
            errno => anyhow!(errno).context(point.to_string()),
        }
    })
}

/// The fresh proc lies on the old one: takes a copy of it, has both go, and attaches the copy.
fn replace_proc(state: &mut State) -> Result<()> {
    let fresh = state.proc.take().ok_or_else(|| anyhow!("there is no fresh /proc"))?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let copy = match open_tree(&fresh, "", flags) {
        Err(rustix::io::Errno::NOSYS) => None,
        copy => Some(copy.context("/proc")?),
    };
    drop(fresh);
    let both = Mount { id: 0, parent: 0, point: "/proc".into() };
    match copy {
        Some(copy) => {
            // The topmost is ours, the one below it the old one.
            detach(&both)?;
            detach(&both)?;
            procfs::attach(&copy, procfs::point()?)?;
            state.own = vec![mounts::id_of(&copy)?];
            state.proc = Some(copy);
        }
        None => {
            detach(&both)?;
            detach(&both)?;
            state.own.clear();
            procfs::mount_fresh(&[], state)?;
        }
    }
    Ok(())
}

pub fn shell(keep: &[PathBuf]) -> String {
    let patterns: String = keep.iter().map(|dst| format!("{0}|{0}/*|", quote(dst))).collect();
    format!(
        "# the host's tree, if it is stacked on /\n\
         [ \"$(cut -d ' ' -f 5 /proc/self/mountinfo | grep -cx /)\" = 1 ] || umount -l /\n\
         # everything else but / and /proc\n\
         cut -d ' ' -f 5 /proc/self/mountinfo | while read -r point; do case $point in {patterns}/|/proc|/proc/*) ;; \
         *) umount -l \"$(printf %b \"$point\")\" 2>/dev/null || : ;; esac; done\n\
         # a proc below the fresh one\n\
         [ \"$(cut -d ' ' -f 5 /proc/self/mountinfo | grep -cx /proc)\" = 1 ] || \
         {{ umount -l /proc; umount -l /proc; mount -t proc proc /proc; }}"
    )
}
