//! What stands at ROOT, by the receipt beside it, and what goes into a receipt.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use chain::WithHint;
use chain::receipt::{Doubt, names, path, read, vouching};
use rustix::fs::{Mode, OFlags};
use serde_json::{Value, json};

use crate::args::Args;

/// What stands at ROOT.
pub enum Standing {
    Absent,
    /// Complete, and this is its receipt.
    Root(Value),
    /// A root whose replacement was killed between receipt and tree: unpack made it, but from what is no longer recorded.
    BeingReplaced,
    /// Something that no receipt vouches for.
    Foreign(Doubt),
}

pub fn standing(root: &Path) -> Result<Standing> {
    let what = || root.display().to_string();
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = match crate::retry_eintr::open(root, flags, Mode::empty()) {
        Err(rustix::io::Errno::NOENT) => return Ok(Standing::Absent),
        open => open.with_context(what)?,
    };
    let receipt = path(root);
    Ok(match vouching(&receipt, &open) {
        Ok(value) => Standing::Root(value),
        Err(Doubt::OtherTree) if read(&receipt).is_ok_and(|value| names(&value["replaces"], &open)) => {
            Standing::BeingReplaced
        }
        Err(doubt) => Standing::Foreign(doubt),
    })
}

/// If ROOT does not exist yet, its receipt's name must be free, or our receipt of a root that is gone.
pub fn may_be_written(root: &Path) -> Result<()> {
    let receipt = path(root);
    let why = match read(&receipt) {
        Err(Doubt::Missing) => return Ok(()),
        Ok(value) if value["root"].is_object() => return Ok(()),
        Ok(_) => format!("{} exists and is not a receipt of unpack's", receipt.display()),
        Err(doubt) => format!("{doubt}, where the receipt has to go"),
    };
    Err(anyhow!("{}: {why}", root.display())).hint("move it away or name another ROOT")
}

/// Where a directory is or will be, whatever links lead there.
fn place(path: &Path) -> Result<PathBuf> {
    let path = std::path::absolute(path).with_context(|| path.display().to_string())?;
    for above in path.ancestors() {
        let there = match above.canonicalize() {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            there => there.with_context(|| above.display().to_string())?,
        };
        let missing = path.strip_prefix(above).unwrap_or(Path::new(""));
        return Ok(there.components().chain(missing.components()).collect());
    }
    Ok(path)
}

/// The options that the tree depends on.
pub fn options(args: &Args, owner: crate::args::Owner, epoch: i64) -> Result<Value> {
    use clap::ValueEnum;
    let name = |value: Option<clap::builder::PossibleValue>| value.map(|value| value.get_name().to_owned());
    let store = args.layers.as_deref().map(place).transpose()?;
    Ok(json!({
        "format": name(args.format.to_possible_value()),
        "platform": args.platform,
        "ref": args.reference,
        "owner": name(owner.to_possible_value()),
        "uid": rustix::process::geteuid().as_raw(),
        "gid": rustix::process::getegid().as_raw(),
        "devices": args.devices,
        "source_date_epoch": epoch,
        "layers": store.map(|store| store.to_string_lossy().into_owned()),
    }))
}
