//! An image, file or stream, becomes a root directory, all or nothing.

pub mod args;
pub mod budget;
pub mod confine;
pub mod digest;
mod explain;
mod extract;
mod fill;
pub mod frame;
pub mod image;
mod interrupt;
pub mod layer;
pub mod ledger;
mod notice;
mod publish;
mod receipt;
pub mod source;
mod stage;
pub mod stream;
pub mod tree;
mod wanted;
pub mod writers;

use std::process::ExitCode;

use anyhow::{Context, Result};
use args::Args;
use chain::handoff::{Promise, absolute};
use chain::{Carry, Command, Link, Tool};
use explain::Extract;
use image::{Image, print_config};
use source::Source;
use stream::hinted;

/// The whole of unpack after its arguments are parsed.
pub fn run(args: Args) -> Result<ExitCode> {
    let link = Link::new(Tool::Unpack, &args.common);
    if args.inspect {
        return inspect(&args);
    }
    let root = absolute(&args.root)?;
    if link.explains() {
        return explain::print(link, &args, &root);
    }
    // The first thing that whoever reads our output sees, so that it knows whom it waits for.
    let promise = args.command.is_empty().then(|| Promise::begin(&root)).transpose()?;
    extract::ensure(&args, &root)?;
    match promise {
        Some(promise) => promise.keep().map(|()| ExitCode::SUCCESS),
        None => {
            let command = Command::new(args.command, Default::default);
            link.run(&[] as &[Extract], |carry: Carry| carry, &command)
        }
    }
}

/// Prints the image's configuration and extracts nothing.
fn inspect(args: &Args) -> Result<ExitCode> {
    let request = extract::request(args, &std::env::temp_dir().join("root"))?;
    let named = || args.image.display().to_string();
    let image = Image::open(Source::open(&args.image)?, &request).with_context(named).map_err(hinted)?;
    print_config(&image, &mut std::io::stdout()).with_context(named)?;
    Ok(ExitCode::SUCCESS)
}
