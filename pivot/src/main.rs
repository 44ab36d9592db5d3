//! pivot: make a directory the root of a mount namespace of its own, and run a command in it.

mod args;
mod descriptors;
mod lock;
mod root;
mod step;

use std::process::ExitCode;

use args::Args;
use chain::{Command, HostTree, Link, Tool};
use step::{State, Step};

fn main() -> ExitCode {
    chain::main(Tool::Pivot, run)
}

fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut link = Link::new(Tool::Pivot, &args.common);
    let command = Command::new(args.command.clone(), || "/bin/sh".into());
    let host = host_tree(&args, &command);

    let mut steps = vec![Step::CheckDescriptors { keep: &args.keep_fd }];
    if !args.no_handoff || args.root.as_os_str() == "-" {
        steps.push(Step::AwaitRoot { root: &args.root });
    }
    if !chain::in_own_mount_namespace(&link.carry) {
        steps.push(Step::OwnMounts);
    }
    if command.tool().is_some() {
        steps.push(Step::HoldTools);
    }
    steps.push(Step::Bind { root: &args.root });
    if args.read_only {
        steps.push(Step::ReadOnly { root: &args.root });
    }
    steps.extend([Step::Enter { root: &args.root }, Step::Lock]);
    if host == HostTree::Gone && link.explains() {
        steps.push(Step::LendProc);
    }
    steps.push(Step::PivotRoot);
    match (&args.put_old, host) {
        (Some(dir), _) => steps.push(Step::PutOld { dir }),
        (None, HostTree::Gone) => steps.push(Step::DetachHost),
        (None, _) => {}
    }
    if let Some(dir) = &args.chdir {
        steps.push(Step::Chdir { dir });
    }
    if link.explains() {
        // What the next link would be told if this were performed.
        link.carry.mount_namespace = chain::mount_namespace_id();
        link.carry.host_tree = Some(host);
    }
    link.run(&steps, |carry| State::new(carry, args.root.clone(), host), &command)
}

/// Nothing from the root runs while the host's tree can be reached. Only mountclean may find it,
/// which needs the host's proc to be allowed to mount its own.
fn host_tree(args: &Args, command: &Command) -> HostTree {
    if args.keep_host || args.put_old.is_some() {
        HostTree::Kept
    } else if command.tool() == Some(Tool::Mountclean) {
        HostTree::Stacked
    } else {
        HostTree::Gone
    }
}
