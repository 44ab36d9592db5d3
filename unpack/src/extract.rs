//! From an image to a root: stage, apply, publish; or nothing, where that was done before.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use anyhow::{Context, Result, anyhow, bail};
use chain::{Tool, WithHint, warn};
use rustix::thread::CapabilitySet;
use serde_json::{Value, json};

use crate::args::Args;
use crate::budget::Limits;
use crate::confine::{Confinement, own_umask};
use crate::frame::Archive;
use crate::interrupt::Interrupts;
use crate::layer::Layers;
use crate::ledger::Ledger;
use crate::publish::{Published, publish};
use crate::receipt::{self, Standing, standing};
use crate::stage::Stage;
use crate::tree::{Owners, Policy, Tree, capable};
use crate::writers::Writers;

/// Sees to it that `root` is the image, completely.
pub fn ensure(args: &Args, root: &Path) -> Result<()> {
    let interrupts = Interrupts::watch()?;
    let owners = Owners::new(args.owner)?;
    let epoch = epoch()?;
    let options = receipt::options(args, owners.how, epoch);
    let image = args.image.display();
    let file = File::open(&args.image).with_context(|| image.to_string())?;
    let source = receipt::file_identity(&file.metadata().with_context(|| image.to_string())?);
    if !args.replace && is_done(args, root, &source, &options)? {
        return Ok(());
    }
    if args.replace && !matches!(standing(root)?, Standing::Absent) {
        crate::stage::replaceable(root)?;
    }
    let policy = Arc::new(Policy {
        owners,
        ledger: Ledger::default(),
        devices: args.devices,
        privileged: capable(CapabilitySet::DAC_OVERRIDE),
        setuid: 0.into(),
    });
    let stage = Stage::new(root)?;
    interrupts.half_done(Some(stage.remover()?));
    let result = fill(args, file, &stage, &policy, epoch, &interrupts).and_then(|identity| {
        let receipt = json!({
            "version": 1,
            "root": identity,
            "source": source,
            "options": options,
            "skipped": policy.ledger.receipt(),
        });
        let _gate = interrupts.gate.lock().unwrap_or_else(PoisonError::into_inner);
        let text = serde_json::to_vec_pretty(&receipt)?;
        let published = publish(&stage, root, &text, args.replace, args.sync)?;
        interrupts.half_done(None);
        Ok(published)
    });
    let _gate = interrupts.gate.lock().unwrap_or_else(PoisonError::into_inner);
    interrupts.half_done(None);
    // After a replacement the old tree is in there.
    let removed = stage.remove();
    if result? == Published::Lost && !is_done(args, root, &source, &options)? {
        bail!("{}: another run made it meanwhile", root.display());
    }
    removed.with_context(|| format!("{}: remove it", stage.path().display()))?;
    if !args.quiet {
        tell(&policy, root);
    }
    Ok(())
}

/// Whether ROOT is this image already; an error where it is something else.
fn is_done(args: &Args, root: &Path, source: &Value, options: &Value) -> Result<bool> {
    let shown = root.display();
    match standing(root)? {
        Standing::Absent => Ok(false),
        Standing::Root(receipt) if receipt.get("source") == Some(source) && receipt.get("options") == Some(options) => {
            if !args.quiet {
                warn(
                    Tool::Unpack,
                    format_args!(
                        "{shown}: complete already, though perhaps changed since (--replace makes it anew, pivot --ephemeral keeps it as it is)"
                    ),
                );
            }
            Ok(true)
        }
        Standing::Root(receipt) if receipt.get("source") == Some(source) => {
            Err(anyhow!("{shown}: made from this image with other options"))
                .hint("--replace makes it anew; another ROOT leaves it alone")
        }
        Standing::Root(_) => Err(anyhow!("{shown}: made from another image"))
            .hint("--replace makes it anew from this one; another ROOT leaves it alone"),
        Standing::Foreign { receipt: true } => Err(anyhow!("{shown}: its receipt is another directory's"))
            .hint("--replace makes it anew; another ROOT leaves it alone"),
        Standing::Foreign { receipt: false } => Err(anyhow!("{shown}: is there already and unpack did not make it"))
            .hint("move it away or name another ROOT"),
    }
}

/// Extracts into the staging directory and says which directory the tree is.
fn fill(
    args: &Args,
    file: File,
    stage: &Stage,
    policy: &Arc<Policy>,
    epoch: i64,
    interrupts: &Interrupts,
) -> Result<Value> {
    let confinement = Arc::new(Confinement::new(&stage.path())?);
    let root = stage.open_tree()?;
    let identity = receipt::identity(&root)?;
    let limits = limits(args);
    let threads = args.threads.map_or_else(processors, usize::from);
    let work = || -> Result<()> {
        own_umask()?;
        confinement.enter()?;
        let mut layers = Layers {
            tree: Tree::new(root, policy.clone(), epoch)?,
            writers: Writers::start(threads, &confinement)?,
            policy,
            limits: &limits,
            gate: &interrupts.gate,
            layered: false,
            entries: 0,
            bytes: 0,
        };
        let mut archive = Archive::new(BufReader::with_capacity(256 << 10, file), limits.clone());
        layers.apply(&mut archive).with_context(|| args.image.display().to_string())?;
        archive.finish()?;
        layers.tree.close()
    };
    std::thread::scope(|scope| {
        let worker = std::thread::Builder::new().name("extract".into()).spawn_scoped(scope, work);
        worker.context("start a thread")?.join().unwrap_or_else(|_| Err(anyhow!("the extracting thread died")))
    })?;
    Ok(identity)
}

fn limits(args: &Args) -> Limits {
    let limits = &args.limits;
    Limits {
        strict: args.strict,
        bytes: limits.max_bytes,
        entries: limits.max_entries,
        depth: limits.max_depth,
        name: limits.max_name,
        pax: limits.max_pax,
        segments: limits.max_sparse,
        ratio: limits.max_ratio,
    }
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(8)
}

/// The time of directories that the image does not speak of: reproducible-builds.org's variable, or 0.
fn epoch() -> Result<i64> {
    match std::env::var_os("SOURCE_DATE_EPOCH") {
        None => Ok(0),
        Some(text) => text
            .to_str()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| anyhow!("SOURCE_DATE_EPOCH: {}: no number of seconds", text.display())),
    }
}

/// What is otherwise than the image asked, and what is dangerous about it.
fn tell(policy: &Policy, root: &Path) {
    if let Some(told) = policy.ledger.told() {
        let receipt = chain::handoff::receipt_path(root);
        warn(Tool::Unpack, format_args!("{}: {told} (listed in {})", root.display(), receipt.display()));
    }
    let setuid = policy.setuid.load(Ordering::Relaxed);
    if setuid > 0 && searchable(root) {
        warn(
            Tool::Unpack,
            format_args!("{}: {setuid} setuid files that other users of this machine can run", root.display()),
        );
        warn(Tool::Unpack, "hint: keep roots below a directory of mode 0700");
    }
}

/// Whether anybody can get into the root, and its filesystem honours setuid bits.
fn searchable(root: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let open = |dir: &Path| dir.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o001 != 0);
    let nosuid = rustix::fs::statvfs(root).is_ok_and(|fs| fs.f_flag.contains(rustix::fs::StatVfsMountFlags::NOSUID));
    !nosuid && root.ancestors().all(open)
}
