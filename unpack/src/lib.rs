//! An image, file or stream, becomes a root directory, all or nothing.

pub mod args;
pub mod budget;
pub mod confine;
pub mod digest;
mod explain;
mod extract;
pub mod frame;
pub mod image;
mod interrupt;
pub mod layer;
pub mod ledger;
mod plain;
mod publish;
mod receipt;
pub mod source;
mod stage;
pub mod stream;
pub mod tree;
pub mod writers;

use std::process::ExitCode;

use anyhow::Result;
use args::Args;
use chain::handoff::{Promise, absolute};
use chain::{Carry, Command, Link, Tool};
use explain::Extract;

/// The whole of unpack after its arguments are parsed.
pub fn run(args: Args) -> Result<ExitCode> {
    let link = Link::new(Tool::Unpack, &args.common);
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
