//! An image, file or stream, becomes a root directory, all or nothing.

pub mod args;
pub mod budget;
mod bundle;
pub mod confine;
mod descriptors;
pub mod digest;
mod expected_root;
mod explain;
mod extract;
pub mod frame;
#[cfg(feature = "fuzz")]
pub mod fuzz;
pub mod gate;
pub mod image;
mod interrupt;
pub mod layer;
mod layers;
pub mod ledger;
mod notice;
pub mod populate;
mod progress;
mod publish;
mod receipt;
mod retry_eintr;
mod setting;
mod signals;
pub mod source;
mod stage;
pub mod status;
pub mod stream;
mod ticker;
pub mod tree;
pub mod tree_digest;
mod unshared;
pub mod writers;

use std::fs::DirBuilder;
use std::io::IsTerminal;
use std::os::unix::fs::DirBuilderExt;

use anyhow::{Context, Result, anyhow};
use args::Args;
use chain::WithHint;
use chain::handoff::{Promise, absolute};
use chain::{Carry, Command, Link, Tool};
use explain::Extract;
use extract::Ensured;
use image::{Image, print_config};
use interrupt::Interrupts;
use signals::CallerSignals;
use source::Source;
use status::Status;
use stream::hinted;

/// The whole of unpack after its arguments are parsed.
pub fn run(args: Args) -> Result<()> {
    let status = Status::of(&args)?;
    perform(args, status).inspect_err(|error| status.failed(error))
}

fn perform(args: Args, status: Status) -> Result<()> {
    let link = Link::new(Tool::Unpack, &args.common);
    if args.inspect {
        return inspect(&args);
    }
    if args.prune {
        let said = match link.explains() {
            true => format!("unpack --prune {}", chain::shell::quote(&args.image)),
            false => {
                crate::descriptors::reserve()?;
                layers::prune(&args.image, &Interrupts::watch(status)?).map_err(hinted)?
            }
        };
        return chain::print(format!("{said}\n")).context("standard output");
    }
    if args.layers.is_some() && !chain::store::is_stack_name(&args.root) {
        return Err(anyhow!("{}: with --layers its name has to end in .mstack", args.root.display()))
            .hint(format!("name it {}.mstack", args.root.file_name().unwrap_or("root".as_ref()).display()));
    }
    let root = match &args.bundle {
        Some(bundle) => {
            let made = DirBuilder::new().recursive(true).mode(0o755).create(bundle);
            made.with_context(|| bundle.display().to_string())?;
            absolute(&bundle.join("rootfs"))?
        }
        None => absolute(&args.root).hint("make the directory for ROOT first: mkdir -p")?,
    };
    if link.explains() {
        return explain::print(link, &args, &root);
    }
    if let Some(bundle) = &args.bundle {
        bundle::may_be_written(bundle, &root)?;
    }
    let signals = CallerSignals::set_aside()?;
    status.started(&root);
    // The first thing the reader of our output sees, so that it knows which root it is waiting for.
    let promise = (args.command.is_empty() && !args.digest).then(|| Promise::begin(&root)).transpose()?;
    let Ensured { receipt, reused, warnings } = extract::ensure(&args, &root, status).inspect_err(|_| {
        if let Some(bundle) = &args.bundle {
            // Only an empty directory goes.
            let _ = std::fs::remove_dir(bundle);
        }
    })?;
    if let Some(bundle) = &args.bundle {
        bundle::write(bundle, &root, args.replace)?;
    }
    status.complete(&root, &receipt, reused, &warnings);
    if args.digest {
        let digest = tree_digest::of(&root)?;
        return chain::print(format!("{}\n", digest.as_str())).context("standard output");
    }
    match promise {
        Some(promise) => promise.keep(),
        None => {
            signals.put_back()?;
            let command = Command::new(args.command, Default::default);
            link.run(&[] as &[Extract], |carry: Carry| carry, &command)
        }
    }
}

/// Prints the image's configuration and extracts nothing.
fn inspect(args: &Args) -> Result<()> {
    let request = extract::request(args, &std::env::temp_dir().join("root"))?;
    let named = || args.image.display().to_string();
    let image = Image::open(Source::open(&args.image)?, &request).with_context(named).map_err(hinted)?;
    let mut text = Vec::new();
    print_config(&image, &mut text).with_context(named)?;
    if std::io::stdout().is_terminal() {
        text = for_terminal(&String::from_utf8_lossy(&text)).into();
    }
    chain::print(text).context("standard output")
}

/// The same JSON without what drives a terminal: outside of strings it has no such character but space.
fn for_terminal(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '\n' | '\t' => shown.push(c),
            '\r' => shown.push(' '),
            // All of them have four digits.
            c if chain::drives_terminal(c) => shown.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => shown.push(c),
        }
    }
    shown
}
