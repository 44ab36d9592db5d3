//! `ROOT.image.json`: what a root was made from, and the mark by which it is known to be complete. It
//! names the root's device, inode and birth time, so a receipt that a kill left behind vouches for nothing.

use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::{AtFlags, StatxFlags};
use serde_json::{Value, json};

use crate::args::Args;

/// Larger is no receipt of ours: an image's configuration has its own budget far below.
const LARGEST: u64 = 64 << 20;

/// What stands at ROOT.
pub enum Standing {
    Absent,
    /// Complete, and this is its receipt.
    Root(Value),
    /// Something that no receipt vouches for; whether there is a receipt, of whatever else.
    Foreign {
        receipt: bool,
    },
}

pub fn standing(root: &Path) -> Result<Standing> {
    match root.symlink_metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Standing::Absent),
        Err(error) => return Err(error).with_context(|| root.display().to_string()),
        Ok(_) => {}
    }
    let Some(receipt) = read(&chain::handoff::receipt_path(root)) else {
        return Ok(Standing::Foreign { receipt: false });
    };
    let vouches = crate::patient::open(
        root,
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .is_ok_and(|fd| identity(&fd).is_ok_and(|identity| receipt.get("root") == Some(&identity)));
    Ok(if vouches { Standing::Root(receipt) } else { Standing::Foreign { receipt: true } })
}

fn read(path: &Path) -> Option<Value> {
    let metadata = path.symlink_metadata().ok()?;
    if !metadata.is_file() || metadata.len() > LARGEST {
        return None;
    }
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// Which directory this is, for good: an inode's number is used again, its birth time is not.
pub fn identity(root: impl AsFd) -> Result<Value> {
    let flags = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    let statx = rustix::fs::statx(root, c"", AtFlags::EMPTY_PATH, flags).context("statx")?;
    let birth = StatxFlags::from_bits_retain(statx.stx_mask).contains(StatxFlags::BTIME);
    Ok(json!({
        "device": format!("{}:{}", statx.stx_dev_major, statx.stx_dev_minor),
        "inode": statx.stx_ino,
        "birth": birth.then(|| [statx.stx_btime.tv_sec, statx.stx_btime.tv_nsec.into()]),
    }))
}

/// The options that the tree depends on.
pub fn options(args: &Args, owner: crate::args::Owner, epoch: i64) -> Value {
    use clap::ValueEnum;
    let name = |value: Option<clap::builder::PossibleValue>| value.map(|value| value.get_name().to_owned());
    json!({
        "format": name(args.format.to_possible_value()),
        "platform": args.platform,
        "ref": args.reference,
        "owner": name(owner.to_possible_value()),
        "uid": rustix::process::geteuid().as_raw(),
        "gid": rustix::process::getegid().as_raw(),
        "devices": args.devices,
        "source_date_epoch": epoch,
    })
}
