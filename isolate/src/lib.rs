//! isolate: run a command in new namespaces, with other ids, limits and privileges. A library only for its fuzzers.

pub mod args;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod ids;
mod limits;
mod namespaces;
mod plan;
mod privileges;
mod process;
mod signals;
mod step;
mod supervise;
mod why_no_process;

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use anyhow::{Context, Result, bail};
use chain::{Command, Link, Tool};

use crate::namespaces::join;
use crate::privileges::seccomp;
use crate::step::{State, Step};
use crate::supervise::{reaper, status};

/// All of isolate after its arguments are parsed.
pub fn run(args: args::Args) -> Result<()> {
    let status = args.status_fd;
    perform(args).inspect_err(|error| {
        // A child's failure is told by its parent, which knows how it ends.
        if let Some(fd) = status.filter(|_| !chain::failures::are_told()) {
            status::failed(fd, chain::status_of(error));
        }
    })
}

fn perform(mut args: args::Args) -> Result<()> {
    let mut command = Command::new(args.command.clone(), plan::shell);
    let mut link = Link::new(Tool::Isolate, &args.common);
    // ps(1) shows a program that was started by descriptor under the descriptor's name.
    let _ = nix::sys::prctl::set_name(c"isolate");
    // Processes inside can see this program: at PID 1, and in every isolate that joins.
    if args.init || args.join.is_some() {
        link = sealed(link)?;
    }
    if let Some(file) = args.seccomp.as_ref().filter(|_| link.carry.left_host) {
        seccomp::refuse_path_of_image(file)?;
    }
    // The last link becomes the image's user.
    let image = link.carry.image.as_mut().filter(|_| command.tool().is_none());
    let user = image.and_then(|image| image.user.take());
    if let Some(join) = args.join.as_mut().filter(|_| !link.explains()) {
        join::await_process(join)?;
    }
    let plan = plan::of(&args, user, &mut command, &mut link.carry)?;
    if command.tool().is_some() && !link.explains() {
        plan::note_writer(&args, &mut link.carry);
    }
    link.run(&plan, State::from, &command)
}

/// Starts this program again from a read-only clone of itself, unless it runs from one: the reaper stays in the
/// container, where root could otherwise change the host's file through /proc/1/exe.
fn sealed(mut link: Link) -> Result<Link> {
    if link.explains() || reaper::is_sealed().context("/proc/self/exe")? {
        return Ok(link);
    }
    let mut line = std::fs::read("/proc/self/cmdline").context("/proc/self/cmdline")?;
    line.pop();
    let words = line.split(|&byte| byte == 0).skip(1).map(|word| OsString::from_vec(word.to_vec()));
    let words = std::iter::once(Tool::Isolate.name().into()).chain(words).collect();
    let again = Command::new(words, || Tool::Isolate.name().into());
    link.carry.hold_tools()?;
    link.run::<Step>(&[], State::from, &again)?;
    bail!("it was to start again from a read-only clone of itself")
}
