//! From an image to a root: stage, apply, publish; or nothing, where that was done before.

use std::fs::File;
use std::os::fd::AsFd;
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
use crate::digest::Digest;
use crate::frame::Archive;
use crate::interrupt::Interrupts;
use crate::layer::Layers;
use crate::ledger::Ledger;
use crate::plain::Stream;
use crate::publish::{Published, publish};
use crate::receipt::{self, Standing, standing};
use crate::stage::Stage;
use crate::stream::hinted;
use crate::tree::{Owners, Policy, Tree, capable};
use crate::writers::Writers;

/// Sees to it that `root` is the image, completely.
pub fn ensure(args: &Args, root: &Path) -> Result<()> {
    let interrupts = Interrupts::watch()?;
    let owners = Owners::new(args.owner)?;
    let epoch = epoch()?;
    let options = receipt::options(args, owners.how, epoch);
    let image = args.image.display();
    let piped = args.image.as_os_str() == "-";
    let file = match piped {
        true => File::from(std::io::stdin().as_fd().try_clone_to_owned()?),
        false => File::open(&args.image).with_context(|| image.to_string())?,
    };
    let metadata = file.metadata().with_context(|| image.to_string())?;
    let source = if metadata.is_file() { receipt::file_identity(&metadata) } else { Value::Null };
    let wanted = Wanted { source, options };
    if !args.replace && wanted.is_at(root, args, &file)? {
        return Ok(());
    }
    if args.replace {
        match standing(root)? {
            Standing::Absent => {}
            // What unpack did not make it does not delete.
            Standing::Foreign { receipt: false } if !is_empty(root) => return Err(foreign(root, false)),
            _ => crate::stage::replaceable(root)?,
        }
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
    let mut made = None;
    let result = fill(args, file, &stage, &policy, epoch, &interrupts).and_then(|(identity, digest)| {
        let receipt = json!({
            "version": 1,
            "root": identity,
            "source": wanted.source,
            "digest": digest.as_str(),
            "options": wanted.options,
            "skipped": policy.ledger.receipt(),
        });
        made = Some(digest);
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
    if result? == Published::Lost {
        wanted.came_first(root, args, made.as_ref())?;
    }
    removed.with_context(|| format!("{}: remove it", stage.path().display()))?;
    if !args.quiet {
        tell(&policy, root);
    }
    Ok(())
}

/// What ROOT is to be, as receipts tell it.
struct Wanted {
    /// The file, where the image is one.
    source: Value,
    options: Value,
}

impl Wanted {
    /// Whether ROOT is this image already; an error where it is something else.
    fn is_at(&self, root: &Path, args: &Args, file: &File) -> Result<bool> {
        let receipt = match standing(root)? {
            Standing::Absent => return Ok(false),
            Standing::Root(receipt) => receipt,
            Standing::Foreign { receipt } => return Err(foreign(root, receipt)),
        };
        let same_file = !self.source.is_null() && receipt.get("source") == Some(&self.source);
        let same = same_file || {
            let digest = crate::plain::digest(file.try_clone()?).with_context(|| args.image.display().to_string())?;
            receipt.get("digest").and_then(Value::as_str) == Some(digest.as_str())
        };
        self.matches(root, args, &receipt, same).map(|()| true)
    }

    /// Another run's ROOT was there first: whether it will do.
    fn came_first(&self, root: &Path, args: &Args, digest: Option<&Digest>) -> Result<()> {
        match standing(root)? {
            Standing::Root(receipt) => {
                let same = receipt.get("digest").and_then(Value::as_str) == digest.map(Digest::as_str);
                self.matches(root, args, &receipt, same)
            }
            Standing::Absent => bail!("{}: another run made it meanwhile, and it is gone", root.display()),
            Standing::Foreign { receipt } => Err(foreign(root, receipt)),
        }
    }

    fn matches(&self, root: &Path, args: &Args, receipt: &Value, same: bool) -> Result<()> {
        let shown = root.display();
        let other = "--replace makes it anew; another ROOT leaves it alone";
        if !same {
            return Err(anyhow!("{shown}: made from another image")).hint(other);
        }
        if receipt.get("options") != Some(&self.options) {
            return Err(anyhow!("{shown}: made from this image with other options")).hint(other);
        }
        if !args.quiet {
            let note =
                "complete already, which is not unmodified: --replace makes it anew, pivot --ephemeral keeps it so";
            warn(Tool::Unpack, format_args!("{shown}: {note}"));
        }
        Ok(())
    }
}

fn is_empty(dir: &Path) -> bool {
    std::fs::read_dir(dir).is_ok_and(|mut names| names.next().is_none())
}

fn foreign(root: &Path, receipt: bool) -> anyhow::Error {
    let shown = root.display();
    let (what, hint) = match receipt {
        true => {
            ("the receipt beside it is another directory's", "--replace makes it anew; another ROOT leaves it alone")
        }
        false => ("is there already and unpack did not make it", "move it away or name another ROOT"),
    };
    anyhow!("{shown}: {what}").context(chain::Hint(hint.into()))
}

/// Extracts into the staging directory and says which directory the tree is.
fn fill(
    args: &Args,
    file: File,
    stage: &Stage,
    policy: &Arc<Policy>,
    epoch: i64,
    interrupts: &Interrupts,
) -> Result<(Value, Digest)> {
    let confinement = Arc::new(Confinement::new(&stage.path())?);
    let root = stage.open_tree()?;
    let identity = receipt::identity(&root)?;
    let limits = limits(args);
    let threads = args.threads.map_or_else(processors, usize::from);
    let work = || -> Result<Digest> {
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
        let mut archive = Archive::new(Stream::open(file, &limits)?, limits.clone());
        layers.apply(&mut archive)?;
        let digest = archive.finish()?.finish()?;
        layers.tree.close()?;
        Ok(digest)
    };
    let digest = std::thread::scope(|scope| {
        let worker = std::thread::Builder::new().name("extract".into()).spawn_scoped(scope, work);
        worker.context("start a thread")?.join().unwrap_or_else(|_| Err(anyhow!("the extracting thread died")))
    });
    Ok((identity, digest.with_context(|| args.image.display().to_string()).map_err(hinted)?))
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
