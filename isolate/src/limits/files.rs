//! The directory of a group and the files in it.

use std::fs::{DirBuilder, write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use anyhow::{Error, Result};
use chain::hinted;

use crate::limits::why_refused;

/// Those that limits need.
pub const CONTROLLERS: [&str; 3] = ["memory", "cpu", "pids"];

pub fn make(dir: &Path, mode: u32) -> Result<()> {
    DirBuilder::new().mode(mode).create(dir).map_err(|error| {
        let hint = why_refused::group(&error, dir);
        hinted(Error::new(error).context(dir.display().to_string()), hint)
    })
}

pub fn enable(dir: &Path, controllers: &[&str]) -> Result<()> {
    let file = dir.join("cgroup.subtree_control");
    controllers.iter().try_for_each(|controller| put(&file, &format!("+{controller}")))
}

/// For other kinds of limits inside this one, which can get their controllers only from here.
pub fn enable_others(dir: &Path) {
    for controller in CONTROLLERS {
        let _ = enable(dir, &[controller]);
    }
}

pub fn put(file: &Path, value: &str) -> Result<()> {
    write(file, value).map_err(|error| {
        let hint = why_refused::value(&error, file);
        hinted(Error::new(error).context(format!("{}: {value}", file.display())), hint)
    })
}
