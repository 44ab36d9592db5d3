//! isolate: run a command in new namespaces, with other ids, limits and privileges.

mod args;
mod disposition;
mod ending;
mod guard;
mod ids;
mod loopback;
mod namespaces;
mod plan;
mod process;
mod refusal;
mod step;
mod terminal;
mod unshare;
mod waiting;

use std::process::ExitCode;

use anyhow::Result;
use chain::{Command, Link, Tool};

fn main() -> ExitCode {
    chain::main(Tool::Isolate, isolate)
}

fn isolate(args: args::Args) -> Result<ExitCode> {
    let plan = plan::of(&args)?;
    let command = Command::new(args.command, plan::shell);
    Link::new(Tool::Isolate, &args.common).run(&plan, |carry| carry, &command)
}
