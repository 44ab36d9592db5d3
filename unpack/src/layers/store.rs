//! A directory of layers, each whole or not there, read-only from then on.

use std::fs::DirBuilder;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use chain::WithHint;
use chain::receipt::{Doubt, others, path as receipt_path, vouching};
use chain::store::Locks;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use serde_json::{Value, json};

use super::needs::{from_json, to_json};
use crate::digest::{Algorithm, Digest};
use crate::expected_root::foreign;
use crate::image::Layer;
use crate::notice::Timer;
use crate::populate::{Counted, Filled, What};
use crate::publish::publish;
use crate::setting::Setting;
use crate::stage::sweep_beside;
use crate::tree::remove::names;
use crate::tree::{Needs, Owners, Policy};

/// Of a layer's form on disk. Another version takes none of these.
const FORMAT: u64 = 1;

pub struct Store<'a> {
    pub path: PathBuf,
    pub dir: OwnedFd,
    locks: Option<Locks>,
    setting: &'a Setting<'a>,
    options: Value,
    key: String,
    counted: Counted,
}

/// A layer that is in the store, in use until the store is closed.
pub struct Stored {
    pub name: String,
    pub needs: Needs,
    pub receipt: Value,
}

impl<'a> Store<'a> {
    /// Opens the store, or makes it for this user alone.
    pub fn open(path: &Path, setting: &'a Setting<'a>, policy: &Policy) -> Result<Store<'a>> {
        let what = || path.display().to_string();
        DirBuilder::new().recursive(true).mode(0o700).create(path).with_context(what)?;
        let path = path.canonicalize().with_context(what)?;
        let dir = crate::retry_eintr::open(&path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let dir = dir.with_context(what)?;
        let stat = rustix::fs::fstat(&dir)?;
        if let Some(who) = others(stat.st_uid, stat.st_mode) {
            return Err(anyhow!("{}: {who}: a store of layers must be its user's own", path.display()))
                .hint("name another STORE, which is made with mode 0700");
        }
        has_attributes(&dir).with_context(what)?;
        // What decides how a layer looks on disk: one that was made otherwise has another name.
        let options = json!({
            "format": FORMAT,
            "owner": policy.owners.described(),
            "devices": policy.devices,
            "privileged": policy.privileged,
            "source_date_epoch": setting.epoch,
        });
        let key = Digest::of(Algorithm::Sha256, options.to_string().as_bytes()).hex()[..8].to_owned();
        // Of layers that were made in the end, too: nobody stages those again.
        names(dir.as_fd())?.iter().filter_map(|name| staged(name)).for_each(|name| sweep_beside(&path.join(name)));
        let locks = Locks::open(&dir);
        Ok(Store { path, dir, locks, setting, options, key, counted: Counted::default() })
    }

    /// One layer by itself.
    pub fn alone(&mut self, layer: &mut Layer) -> Result<Stored> {
        let diff_id = layer.diff_id.clone().with_context(|| format!("{}: has no diff id", layer.name))?;
        let name = self.name("", &diff_id);
        self.ensure(name, json!({ "diff_id": diff_id.as_str() }), What::Alone, std::slice::from_mut(layer))
    }

    /// Layers from the base up, as one.
    pub fn flattened(&mut self, layers: &mut [Layer]) -> Result<Stored> {
        let chain_id = chain_id(layers).context("its layers have no diff ids")?;
        let name = self.name("chain-", &chain_id);
        self.ensure(name, json!({ "chain_id": chain_id.as_str() }), What::Flat, layers)
    }

    fn name(&self, prefix: &str, digest: &Digest) -> String {
        format!("{prefix}{}-{}", digest.as_str().replace(':', "-"), self.key)
    }

    fn ensure(&mut self, name: String, said: Value, what: What, layers: &mut [Layer]) -> Result<Stored> {
        if let Some(locks) = &self.locks {
            locks.in_use(&name).with_context(|| format!("{}: lock it", self.path.join(&name).display()))?;
        }
        if let Some(stored) = self.known(&name)? {
            return Ok(stored);
        }
        if let Some(locks) = &self.locks {
            locks.making(&name).with_context(|| format!("{}: lock it", self.path.join(&name).display()))?;
        }
        let made = match self.known(&name)? {
            Some(stored) => Ok(stored),
            None => self.make(&name, said, what, layers),
        };
        if let Some(locks) = &self.locks {
            let _ = locks.made(&name);
        }
        made
    }

    /// The layer, if it is there.
    pub fn known(&self, name: &str) -> Result<Option<Stored>> {
        let path = self.path.join(name);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = match crate::retry_eintr::open(&path, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            root => root.with_context(|| path.display().to_string())?,
        };
        let receipt = vouching(&receipt_path(&path), &root).map_err(|doubt| foreign(&path, &doubt))?;
        match from_json(&receipt["layer"]["needs"]) {
            Some(needs) if receipt["options"] == self.options => {
                Ok(Some(Stored { name: name.to_owned(), needs, receipt }))
            }
            _ => Err(foreign(&path, &Doubt::Damaged("its receipt is not that of a layer".into()))),
        }
    }

    fn make(&mut self, name: &str, said: Value, what: What, layers: &mut [Layer]) -> Result<Stored> {
        let root = self.path.join(name);
        let mut timer = Timer::new(self.setting.args.common.verbose);
        let policy = Arc::new(Policy::new(Owners::new(self.setting.args.owner)?, self.setting.args));
        let Setting { interrupts, .. } = self.setting;
        interrupts.with_stage(&root, |stage| {
            let filling = self.setting.filling(stage, layers, what, self.counted, policy.clone())?;
            let Filled { needs, counted, .. } = filling.run()?;
            self.counted = counted;
            let mut said = said;
            said["needs"] = to_json(&needs);
            said["setuid"] = policy.setuid.load(std::sync::atomic::Ordering::Relaxed).into();
            said["capable"] = policy.capable.load(std::sync::atomic::Ordering::Relaxed).into();
            let receipt = json!({
                "version": 1,
                "root": chain::receipt::identity(stage.find_tree()?)?,
                "options": self.options,
                "skipped": policy.ledger.receipt(),
                "layer": said,
            });
            let _inside = interrupts.gate.pass();
            // It is trusted for years, after a power cut as well.
            publish(stage, &root, &serde_json::to_vec_pretty(&receipt)?, false, true).map(drop)
        })?;
        timer.step_done(format_args!("made layer {name}"));
        self.known(name)?.with_context(|| format!("{}: is gone again", root.display()))
    }
}

/// The layer that was to be made in a staging directory of this name.
pub fn staged(name: &[u8]) -> Option<&str> {
    let name = std::str::from_utf8(name).ok()?.strip_prefix('.')?;
    Some(name.rsplit_once(".unpack-")?.0)
}

/// OCI image specification, "Layer ChainID".
fn chain_id(layers: &[Layer]) -> Option<Digest> {
    let mut diff_ids = layers.iter().map(|layer| layer.diff_id.clone());
    let first = diff_ids.next()??;
    diff_ids.try_fold(first, |below, diff_id| {
        Some(Digest::of(Algorithm::Sha256, format!("{below} {}", diff_id?).as_bytes()))
    })
}

/// Overlayfs's marks are attributes.
fn has_attributes(store: &OwnedFd) -> Result<()> {
    let mut value = [0; 16];
    match rustix::fs::fgetxattr(store, "user.overlay.opaque", &mut value[..]) {
        //: STORE | getxattr: EOPNOTSUPP | its filesystem has no user attributes (FAT, tmpfs before Linux 6.6) |
        //: the only cause | unpack/apart_hostile::a_store_on_a_filesystem_without_attributes_is_refused
        Err(error @ Errno::OPNOTSUPP) => Err(error)
            .context("a store of layers needs user.* attributes")
            .hint("this filesystem has none: keep STORE on ext4, xfs, btrfs, or tmpfs since Linux 6.6"),
        _ => Ok(()),
    }
}
