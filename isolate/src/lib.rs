//! isolate: run a command in new namespaces, with other ids, limits and privileges. A library for its fuzzers alone.

pub mod args;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod ids;
mod limits;
mod namespaces;
mod plan;
mod privileges;
mod state;
mod step;
mod supervise;

use anyhow::Result;
use chain::{Command, Link, Tool};

use crate::state::State;
use crate::supervise::init;

/// The whole of isolate after its arguments are parsed.
pub fn run(args: args::Args) -> Result<()> {
    let mut command = Command::new(args.command.clone(), plan::shell);
    let mut link = Link::new(Tool::Isolate, &args.common);
    // A program that was started by a descriptor is to ps(1) what that is called.
    let _ = rustix::thread::set_name(c"isolate");
    // Who is inside sees our program at PID 1, and in each of ours that comes in.
    if args.init || args.join.is_some() {
        link = init::sealed(link)?;
    }
    // The last link is who becomes the image's user.
    let image = link.carry.image.as_mut().filter(|_| command.tool().is_none());
    let plan = plan::of(&args, image.and_then(|image| image.user.take()), &mut command)?;
    if command.tool().is_some() && !link.explains() {
        plan::note_writer(&args, &mut link.carry);
    }
    link.run(&plan, State::from, &command)
}
