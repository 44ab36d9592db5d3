//! What must hold before ROOT is replaced: unpack made it, and no mount would be harmed.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use chain::WithHint;
use chain::mountinfo::{self, unescaped};
use chain::shell::quote;
use rustix::fs::{Mode, OFlags};

use crate::expected_root::foreign;
use crate::receipt::{Standing, standing};

/// How many mounts a message names.
const NAMED: usize = 5;

/// What a replacement replaces.
pub enum Old {
    Nothing,
    /// An empty directory that unpack did not make.
    Empty,
    /// A root of unpack's.
    Root(OwnedFd),
}

/// What a replacement would replace, or why it is refused.
pub fn replaceable(root: &Path) -> Result<Old> {
    let made = match standing(root)? {
        Standing::Absent => return Ok(Old::Nothing),
        Standing::Root(_) | Standing::BeingReplaced => true,
        Standing::Foreign(_) if is_empty(root) => false,
        // unpack deletes only what it made.
        Standing::Foreign(doubt) => return Err(foreign(root, &doubt)),
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = crate::retry_eintr::open(root, flags, Mode::empty()).with_context(|| root.display().to_string())?;
    nothing_mounted(root)?;
    if let Some(mount) = overlay_over(root)? {
        let error: Result<()> = Err(anyhow!("{}: a lower directory of the overlay on {mount}", root.display()));
        error.hint(format!("umount {mount} first: an overlay's lower directory must not change"))?;
    }
    Ok(if made { Old::Root(open) } else { Old::Empty })
}

/// False for a link: rename(2) would replace the link itself.
fn is_empty(dir: &Path) -> bool {
    !dir.is_symlink() && std::fs::read_dir(dir).is_ok_and(|mut names| names.next().is_none())
}

/// Refuses if anything is mounted at or below ROOT: it is in use.
fn nothing_mounted(root: &Path) -> Result<()> {
    let at: Vec<_> = chain::mounts::table()?.into_iter().map(|mount| mount.point).collect();
    let below: Vec<_> = at.iter().filter(|point| point.starts_with(root)).collect();
    let mut named: Vec<_> = below.iter().take(NAMED).map(quote).collect();
    let hint = match below[..] {
        [] => return Ok(()),
        [one] => format!("umount {} first, or name another ROOT", quote(one)),
        _ => "umount them first, or name another ROOT".to_owned(),
    };
    if below.len() > NAMED {
        named.push(format!("{} more", below.len() - NAMED));
    }
    Err(anyhow!("{}: mounted at or below it: {}", root.display(), named.join(", "))).hint(hint)
}

/// The overlay of this mount namespace that has the directory as a lower one (proc_pid_mountinfo(5)).
fn overlay_over(root: &Path) -> Result<Option<String>> {
    let Ok(table) = mountinfo::read() else { return Ok(None) };
    let ours = rustix::fs::stat(root)?;
    for mount in table.iter().filter(|mount| mount.kind == "overlay") {
        let lower = |option| {
            let option: &[u8] = option;
            option.strip_prefix(b"lowerdir=").or_else(|| option.strip_prefix(b"lowerdir+="))
        };
        for path in mount.options().filter_map(lower).flat_map(|paths| paths.split(|&b| b == b':')) {
            let same = rustix::fs::stat(OsString::from_vec(unescaped(path)))
                .is_ok_and(|stat| (stat.st_dev, stat.st_ino) == (ours.st_dev, ours.st_ino));
            if same {
                return Ok(Some(quote(&mount.point)));
            }
        }
    }
    Ok(None)
}
