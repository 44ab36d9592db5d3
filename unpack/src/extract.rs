//! From an image to a root: stage, populate, publish. Or nothing, if that was done before.

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use chain::WithHint;
use serde_json::{Value, json};

use crate::args::{Args, Budget};
use crate::budget::Limits;
use crate::expected_root::{ExpectedRoot, Known};
use crate::image::{Image, Kind, Layer, Request, Verified, passed_for_root_fs};
use crate::interrupt::Interrupts;
use crate::layers::{Stack, Store};
use crate::notice::{Notices, Timer};
use crate::populate::{Counted, What};
use crate::progress::{self, Lines, Work};
use crate::publish::{Old, Published, publish, replaceable};
use crate::receipt;
use crate::setting::Setting;
use crate::source::Source;
use crate::stage::{self, Stage};
use crate::status::Status;
use crate::stream::hinted;
use crate::tree::{Owners, Policy};

/// A root that is there.
pub struct Ensured {
    pub receipt: Value,
    /// It was there before.
    pub reused: bool,
    pub warnings: Vec<String>,
}

/// Makes sure that `root` is the image, complete.
pub fn ensure(args: &Args, root: &Path, status: Status) -> Result<Ensured> {
    crate::descriptors::reserve()?;
    let interrupts = Interrupts::watch(status)?;
    let policy = Arc::new(Policy::new(Owners::new(args.owner)?, args));
    let epoch = epoch()?;
    let request = request(args, root)?;
    let source = Source::open(&args.image)?;
    let work = Work::begin(&source, &request.limits.image);
    let _lines = Lines::show(args, status, &work);
    let identity = source.identity()?;
    let setting = Setting { args, limits: &request.limits, interrupts: &interrupts, work: &work, epoch };
    let mut source = Some(source);
    let mut wanted = ExpectedRoot {
        replaces: Value::Null,
        args,
        root,
        source: identity.map_or(Ok(Value::Null), serde_json::to_value)?,
        options: receipt::options(args, policy.owners.how, epoch)?,
    };
    if args.replace {
        match replaceable(root)? {
            Old::Nothing => receipt::may_be_written(root)?,
            Old::Empty => {}
            Old::Root(old) => wanted.replaces = chain::receipt::identity(old)?,
        }
    } else if let Some(receipt) = wanted.is_at_root(&mut source, &request).map_err(hinted)? {
        if let Some(store) = &args.layers
            && !Stack::is_whole(&receipt, &Store::open(store, &setting, &policy)?)?
        {
            return Err(anyhow!("{}: a layer of it is gone from {}", root.display(), store.display()))
                .hint("--replace puts it together again, with what is missing");
        }
        stage::sweep_beside(root);
        return Ok(Ensured { receipt, reused: true, warnings: Vec::new() });
    }
    let source = source.context("the image was read already")?;
    let mut notices = Notices { quiet: args.quiet, told: Vec::new() };
    let made = interrupts.with_stage(root, |stage| {
        Extraction { wanted: &wanted, request: &request, stage, policy: &policy, setting: &setting }
            .run(source, &mut notices)
    });
    let (published, known, mut receipt) = made.map_err(hinted)?;
    let _inside = interrupts.gate.pass();
    if published == Published::Lost {
        receipt = wanted.came_first(&known)?;
    }
    if published == Published::Here {
        notices.changes(&policy, root);
    }
    Ok(Ensured { receipt, reused: published == Published::Lost, warnings: notices.told })
}

struct Extraction<'a> {
    wanted: &'a ExpectedRoot<'a>,
    request: &'a Request,
    stage: &'a Stage,
    policy: &'a Arc<Policy>,
    setting: &'a Setting<'a>,
}

impl Extraction<'_> {
    /// Fills the staging directory and puts it in place.
    fn run(self, source: Source, notices: &mut Notices) -> Result<(Published, Known, Value)> {
        let Extraction { wanted, request, stage, policy, setting } = self;
        let Setting { args, interrupts, work, .. } = setting;
        let named = || args.image.display().to_string();
        let mut timer = Timer::new(args.common.verbose);
        let mut image = Image::open(source, request).with_context(named)?;
        timer.step_done(format_args!("found the image in {}: {}, layers: {}", named(), image.kind, image.layers.len()));
        work.found(&image);
        let bar = progress::bar(args, work);
        let mut store = match &args.layers {
            Some(store) => Some(Store::open(store, setting, policy)?),
            None => None,
        };
        let (verified, stack) = match &mut store {
            Some(store) => {
                let stack = Stack::of(&mut image, store).with_context(named)?;
                stack.tell(policy);
                let vouched = |layer: &Layer| Verified { diff_id: layer.diff_id.clone(), ..Verified::default() };
                (image.layers.iter().map(vouched).collect(), stack.write(stage, store)?)
            }
            None => {
                let what = if image.kind == Kind::RootFs { What::RootFs } else { What::Flat };
                let counted = Counted::default();
                let filling = setting.filling(stage, &mut image.layers, what, counted, policy.clone())?;
                (filling.run().with_context(named)?.verified, Value::Null)
            }
        };
        let tree = stage.open_tree()?;
        if stack["counted"] == false {
            let store = args.layers.as_deref().unwrap_or(Path::new("")).display();
            notices.tell(format_args!(
                "{}: not counted in {store}, which is on another filesystem or another user's: --prune may remove its layers",
                wanted.root.display()
            ));
        }
        if stack.is_null() {
            passed_for_root_fs(tree.as_fd(), &image, request).with_context(named)?;
        }
        drop(bar);
        notices.oddities(&image, tree.as_fd(), wanted.root)?;
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
            "stack": stack,
        });
        let text = serde_json::to_vec_pretty(&receipt)?;
        let _inside = interrupts.gate.pass();
        let published = publish(stage, wanted.root, &text, args.replace, args.sync)?;
        timer.step_done(format_args!("put it in place as {}", wanted.root.display()));
        Ok((published, known, receipt))
    }
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
