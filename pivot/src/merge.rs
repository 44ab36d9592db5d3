//! The root as an overlay: over ROOT, or over the layers of a stack.

use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::Result;
use chain::Carry;

use crate::args::Changes;
use crate::overlay::{self, Lower};
use crate::{changes, stack};

/// Mounts it on ROOT, which is open. Notes in `carry` what is locked.
pub fn merge(root: &OwnedFd, path: &Path, to: &Changes, carry: &mut Carry) -> Result<OwnedFd> {
    let is_stack = stack::is_one(path);
    let mut dirs = match is_stack {
        true => stack::open(root, path, carry)?,
        false => vec![root.try_clone()?],
    };
    if dirs.len() == 1 && *to == Changes::Source {
        // An overlay without changes is of two directories at least.
        dirs.push(changes::in_memory(root, root)?.upper);
    }
    let lower = Lower { dirs, stack: is_stack };
    let layer = match to {
        Changes::Directory(dir) => Some(changes::kept(dir, &lower.dirs, is_stack)?),
        Changes::Memory => Some(changes::in_memory(root, &lower.dirs[0])?),
        Changes::Source => None,
    };
    let merged = overlay::mount(layer.as_ref(), &lower, root)?;
    layer.and_then(|layer| layer.lock).map(|mount| carry.lock_through(mount)).transpose()?;
    Ok(merged)
}
