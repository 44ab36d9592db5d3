//! Unmounts what is not the container's: always lazily, and only in the chain's own mount namespace.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use chain::WithHint;
use chain::attach::{self, Place};
use chain::mounts::{self, Mount};
use chain::shell::quote;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::fresh::Fresh;
use crate::procfs;

const MOUNTING: &str = "another process keeps mounting in this mount namespace";

/// Detaches the host's tree that a pivot stacked on `/`.
pub fn stacked() -> Result<()> {
    for _ in 0..mounts::MOST {
        umount2("/", MntFlags::MNT_DETACH).context("detach the host's tree")?;
        // If ROOT was / itself, more than one mount may be stacked on it.
        if mounts::id_at("/..")? == mounts::id_at("/")? {
            return Ok(());
        }
    }
    bail!("{MOUNTING}")
}

/// Detaches everything but `/`, the fresh mounts and what is kept or was asked for (`asked`, by id). Returns the fresh
/// mounts: where one lay on an old one, it is another mount now.
pub fn all_but(keep: &[PathBuf], mut fresh: Vec<Fresh>, asked: &[u64]) -> Result<Vec<Fresh>> {
    let root = mounts::id_at("/")?;
    for _ in 0..mounts::MOST {
        let table = mounts::table()?;
        // Only mounts directly on the root's own: what is below them goes along.
        let children = || table.iter().rev().filter(|mount| mount.parent == root && mount.id != root);
        if children().any(|mount| mount.is_at("/")) {
            stacked()?;
            continue;
        }
        let is_ours = |id: u64| asked.contains(&id) || fresh.iter().any(|fresh| fresh.has(id));
        let Some(mounted) = children().find(|mount| !is_ours(mount.id) && !stays(mount, keep)) else {
            return Ok(fresh);
        };
        match fresh.iter().position(|fresh| mounted.is_at(fresh.point)) {
            Some(index) => {
                let replaced = replace_below(fresh.swap_remove(index), mounted)?;
                fresh.push(replaced);
            }
            None => detach(mounted)?,
        }
    }
    bail!("{MOUNTING}")
}

pub fn kept(point: &Path, keep: &[PathBuf]) -> bool {
    keep.iter().any(|dst| point.starts_with(dst))
}

/// What carries a kept mount stays too; the proof then names it.
fn stays(mount: &Mount, keep: &[PathBuf]) -> bool {
    kept(&mount.point, keep) || keep.iter().any(|dst| dst.starts_with(&mount.point))
}

/// Lazily: that a mount is busy is no reason to stay.
fn detach(mount: &Mount) -> Result<()> {
    let Err(errno) = umount2(&mount.point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) else { return Ok(()) };
    let there = mounts::table()?.iter().any(|other| other.id == mount.id);
    let point = mount.point.display();
    match errno {
        // Somebody else has unmounted it.
        Errno::EINVAL | Errno::ENOENT if !there => Ok(()),
        // mount_namespaces(7): mounts from a more privileged namespace cannot be taken apart.
        Errno::EINVAL => Err(anyhow!("{point}: this mount is locked in a user namespace"))
            //: DIR: this mount is locked | umount2: EINVAL | mounts of the namespace around a user namespace go together or
            //: stay | it is still in the table | mountclean/mounts::without_a_pivot_in_a_user_namespace_it_says_what_to_use
            .hint("pivot leaves the host's tree whole, and that can go: isolate … -- pivot ROOT -- mountclean -- …"),
        errno => Err(errno).context(point.to_string()),
    }
}

/// A fresh mount lies on an old one: copies it, detaches both, and attaches the copy.
fn replace_below(fresh: Fresh, old: &Mount) -> Result<Fresh> {
    let copy = match attach::copy(&fresh.mount) {
        // Before Linux 5.2 the new one can only be moved aside by a path, and back.
        Err(Errno::ENOSYS) => return swap_by_path(fresh, old),
        copy => copy.context(fresh.point)?,
    };
    drop(fresh.mount);
    // First ours, which is on top, then the old one.
    detach(old)?;
    detach(old)?;
    let root = procfs::root()?;
    attach::attach(&copy, Place { root: root.as_fd(), path: Path::new(fresh.point) }.open()?).context(fresh.point)?;
    Ok(Fresh { id: mounts::id_of(&copy)?, mount: copy, ..fresh })
}

fn swap_by_path(fresh: Fresh, old: &Mount) -> Result<Fresh> {
    // Stacked on / for a moment, where /.. finds it.
    mount(Some(fresh.point), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>).context(fresh.point)?;
    detach(old)?;
    mount(Some("/.."), fresh.point, None::<&str>, MsFlags::MS_MOVE, None::<&str>).context(fresh.point)?;
    Ok(fresh)
}

/// The same in shell. `options` are the fresh /proc's; `sys`: there is a fresh /sys too.
pub fn shell(keep: &[PathBuf], options: &[String], sys: bool) -> String {
    let kept = keep.iter().map(|dst| format!("{0}|{0}/*|", quote(dst)));
    let patterns: String = kept.chain(sys.then(|| "/sys|/sys/*|".to_owned())).collect();
    let options: String = options.iter().map(|option| format!(",{option}")).collect();
    let mount_proc = format!("mount -t proc -o {} proc /proc", quote(format!("nosuid,nodev,noexec{options}")));
    format!(
        "unmount_all_but_root_and_proc() {{\n\
         # the host's tree, if it is stacked on /\n\
         [ \"$(cut -d ' ' -f 5 /proc/self/mountinfo | grep -cx /)\" = 1 ] || umount -l /\n\
         # everything else but / and /proc\n\
         cut -d ' ' -f 5 /proc/self/mountinfo | while read -r point; do case $point in {patterns}/|/proc|/proc/*) ;; \
         *) umount -l \"$(printf %b \"$point\")\" 2>/dev/null || : ;; esac; done\n\
         # a proc below the fresh one\n\
         [ \"$(cut -d ' ' -f 5 /proc/self/mountinfo | grep -cx /proc)\" = 1 ] || \
         {{ umount -l /proc; umount -l /proc; {mount_proc}; }}\n}}\nunmount_all_but_root_and_proc"
    )
}
