//! What the image wants to run, from the receipt that unpack left beside the root.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use chain::account::in_root;
use chain::handoff::absolute;
use chain::receipt::{self, Doubt};
use chain::{Image, WithHint};
use serde_json::Value;

use crate::{root, stack};

pub struct Config {
    /// The tree that the receipt vouches for.
    pub tree: (u64, u64),
    pub image: Image,
    pub env: Vec<(OsString, OsString)>,
    pub working_dir: Option<PathBuf>,
}

pub fn read(path: &Path) -> Result<Config> {
    let root = root::open_root(path)?;
    let receipt = receipt(path, &root)?;
    let config = &receipt["config"]["config"];
    if !config.is_object() {
        return Err(anyhow!("{}: the image has no configuration", path.display()))
            .hint("a plain archive does not say what to run: leave out --as-image and name a COMMAND");
    }
    let mut env: Vec<(OsString, OsString)> = strings(&config["Env"])
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    let stacked = stack::is_one(path).then(|| stack::merged(&root, path)).transpose()?;
    let user = in_root(config["User"].as_str().unwrap_or_default(), stacked.as_ref().unwrap_or(&root))
        .hint("leave out --as-image and name a COMMAND")?;
    if !env.iter().any(|(name, _)| name == "HOME") {
        env.push(("HOME".into(), user.home.into()));
    }
    let words = |value: &Value| strings(value).map(OsString::from).collect();
    Ok(Config {
        tree: root::identity(&root)?,
        image: Image {
            entrypoint: words(&config["Entrypoint"]),
            cmd: words(&config["Cmd"]),
            user: Some(user.ids).filter(|ids| (ids.uid, ids.gid) != (0, 0)),
        },
        env,
        working_dir: config["WorkingDir"].as_str().filter(|dir| !dir.is_empty()).map(PathBuf::from),
    })
}

fn strings(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// The receipt beside ROOT, or beside the target if ROOT is a link, if it vouches for the tree that is there.
fn receipt(path: &Path, root: &OwnedFd) -> Result<Value> {
    let beside = [absolute(path)?, path.canonicalize()?].map(|root| receipt::path(&root));
    let found =
        beside.iter().map(|receipt| receipt::vouching(receipt, root)).find(|found| *found != Err(Doubt::Missing));
    let shown = beside[0].display();
    match found {
        Some(Ok(receipt)) => Ok(receipt),
        None | Some(Err(Doubt::Missing)) => Err(anyhow!("{shown}: not there, so what the image says is not known"))
            .hint("unpack writes it beside the root: unpack IMAGE ROOT"),
        // Also the case between the two renames of unpack --replace.
        Some(Err(Doubt::OtherTree)) => {
            Err(anyhow!("{shown}: the receipt of another tree than the one that is there now"))
                .hint("unpack IMAGE into a new ROOT makes both")
        }
        Some(Err(doubt)) => Err(anyhow!("{}: what its image says cannot be trusted: {doubt}", path.display()))
            .hint("leave out --as-image and name a COMMAND, or unpack IMAGE into a ROOT of your own"),
    }
}
