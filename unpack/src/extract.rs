//! From an image to a root: stage, populate, publish. Or nothing, if that was done before.

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::{Context, Result, anyhow};
use chain::capabilities::{CapabilitySet, are_effective};
use chain::{Tool, message, warn};
use serde_json::{Value, json};

use crate::args::{Args, Budget};
use crate::budget::Limits;
use crate::confine::Confinement;
use crate::expected_root::{ExpectedRoot, Known};
use crate::image::{Image, Request, passed_for_root_fs};
use crate::interrupt::Interrupts;
use crate::ledger::Ledger;
use crate::notice::{self, Timer, tell};
use crate::populate::Filling;
use crate::progress::{self, Progress};
use crate::publish::{Old, Published, publish, replaceable};
use crate::receipt;
use crate::source::Source;
use crate::stage::{self, Stage};
use crate::stream::hinted;
use crate::tree::{Owners, Policy};

/// Makes sure that `root` is the image, complete.
pub fn ensure(args: &Args, root: &Path) -> Result<()> {
    crate::descriptors::reserve()?;
    let interrupts = Interrupts::watch()?;
    let owners = Owners::new(args.owner)?;
    let epoch = epoch()?;
    let request = request(args, root)?;
    let mut source = Some(Source::open(&args.image)?);
    let identity = source.as_ref().map(Source::identity).transpose()?.flatten();
    let mut wanted = ExpectedRoot {
        replaces: Value::Null,
        args,
        root,
        source: identity.map_or(Ok(Value::Null), serde_json::to_value)?,
        options: receipt::options(args, owners.how, epoch),
    };
    if args.replace {
        match replaceable(root)? {
            Old::Nothing => receipt::may_be_written(root)?,
            Old::Empty => {}
            Old::Root(old) => wanted.replaces = chain::receipt::identity(old)?,
        }
    } else if wanted.is_at_root(&mut source, &request).map_err(hinted)? {
        stage::sweep_beside(root);
        return Ok(());
    }
    let Some(source) = source else { return Ok(()) };
    let policy = Arc::new(Policy {
        owners,
        ledger: Ledger::default(),
        devices: args.devices,
        privileged: are_effective(CapabilitySet::DAC_OVERRIDE),
        setuid: 0.into(),
    });
    let stage = Stage::new(root)?;
    let remover = stage.remover().inspect_err(|_| {
        let _ = stage.remove();
    })?;
    interrupts.half_done(Some(remover));
    let made = make(&wanted, source, &request, &stage, &policy, epoch, &interrupts);
    let _inside = interrupts.gate.pass();
    interrupts.half_done(None);
    // After a replacement the old tree is in the staging directory.
    let removed = stage.remove();
    let (published, known) = made.map_err(hinted)?;
    if published == Published::Lost {
        wanted.came_first(&known)?;
    }
    if let Err(error) = removed {
        // ROOT is as asked for; 125 would say that it is not.
        let error = anyhow::Error::from(error).context(format!("{}: remove it", stage.path().display()));
        warn(Tool::Unpack, format_args!("{}; a later run tries again", message(&error)));
    }
    if published == Published::Here && !args.quiet {
        tell(&policy, root);
    }
    Ok(())
}

/// Fills the staging directory and puts it in place.
fn make(
    wanted: &ExpectedRoot,
    source: Source,
    request: &Request,
    stage: &Stage,
    policy: &Arc<Policy>,
    epoch: i64,
    interrupts: &Interrupts,
) -> Result<(Published, Known)> {
    let args = wanted.args;
    let named = || args.image.display().to_string();
    let mut timer = Timer::new(args.common.verbose);
    let mut image = Image::open(source, request).with_context(named)?;
    timer.step_done(format_args!("found the image in {}: {}, layers: {}", named(), image.kind, image.layers.len()));
    let root = stage.open_tree()?;
    let bytes = Arc::new(AtomicU64::new(0));
    let progress = Progress::is_wanted(args.quiet).then(|| Progress::show(bytes.clone(), progress::total(&image)));
    let filling = Filling {
        root,
        image: &mut image,
        policy: policy.clone(),
        limits: &request.limits,
        threads: args.threads.map_or_else(processors, usize::from),
        epoch,
        confinement: Arc::new(Confinement::new(&stage.path())?),
        gate: &interrupts.gate,
        progress: &bytes,
    };
    let verified = filling.run().with_context(named)?;
    let tree = stage.open_tree()?;
    passed_for_root_fs(tree.as_fd(), &image, request).with_context(named)?;
    if !args.quiet {
        notice::odd(&image, tree.as_fd(), wanted.root)?;
    }
    drop(progress);
    timer.step_done(format_args!("extracted it into {}", stage.path().display()));
    // A layered image is known by its configuration's digest, a root file system by that of the bytes that were written.
    let known = Known::of(&image, &verified, None);
    let receipt = json!({
        "version": 1,
        "root": chain::receipt::identity(stage.find_tree()?)?,
        // A kill between a replacement's renames leaves this receipt beside the old tree.
        "replaces": wanted.replaces,
        "source": wanted.source,
        "digest": known.digest.as_ref().map(crate::digest::Digest::as_str),
        "image": known.image,
        "options": wanted.options,
        "skipped": policy.ledger.receipt(),
        "config": image.config,
    });
    let text = serde_json::to_vec_pretty(&receipt)?;
    let _inside = interrupts.gate.pass();
    let published = publish(stage, wanted.root, &text, args.replace, args.sync)?;
    timer.step_done(format_args!("put it in place as {}", wanted.root.display()));
    Ok((published, known))
}

/// How to read the image.
pub fn request(args: &Args, root: &Path) -> Result<Request> {
    Ok(Request {
        format: args.format,
        platform: args.platform.as_deref().map(str::parse).transpose().context("--platform")?,
        reference: args.reference.clone(),
        limits: limits(args),
        spool: root.parent().unwrap_or(Path::new("/")).to_owned(),
    })
}

fn limits(args: &Args) -> Limits {
    let mut limits = Limits { strict: args.strict, ..Limits::default() };
    for &(budget, value) in &args.limit {
        match budget {
            Budget::Bytes => limits.bytes = value,
            Budget::Entries => limits.entries = Some(value),
            Budget::Depth => limits.depth = value,
            Budget::Name => limits.name = value,
            Budget::Pax => limits.pax = value,
            Budget::Sparse => limits.segments = value,
            Budget::Ratio => limits.ratio = value,
            Budget::Window => limits.window = value,
        }
    }
    limits
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(8)
}

/// The time of directories without an entry: reproducible-builds.org's variable, or 0.
fn epoch() -> Result<i64> {
    match std::env::var_os("SOURCE_DATE_EPOCH") {
        None => Ok(0),
        Some(text) => text
            .to_str()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| anyhow!("SOURCE_DATE_EPOCH: {}: not a number of seconds", text.display())),
    }
}
