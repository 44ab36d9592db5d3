//! mountclean: a fresh /proc, then the host's tree goes, then the proof, then the command.

pub mod args;
mod fresh;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod hold;
mod mask;
mod procfs;
mod proof;
mod step;
mod sysfs;
mod unmount;

use std::path::{Component, Path, PathBuf};

use anyhow::anyhow;
use args::Args;
use chain::{Command, HostTree, Link, Tool, WithHint};
use step::{State, Step};

/// What --hold is in shell.
const HOLD: [&str; 3] = ["sh", "-c", "echo ready; exec cat >/dev/null"];

/// All of mountclean after its arguments are parsed.
pub fn run(args: Args) -> anyhow::Result<()> {
    let link = Link::new(Tool::Mountclean, &args.common);
    let words = if args.hold { HOLD.map(Into::into).to_vec() } else { args.command.clone() };
    let command = Command::new(words, || "/bin/sh".into());
    if command.tool() == Some(Tool::Pivot) && link.carry.host_tree.is_none() {
        return Err(anyhow!("mountclean comes behind pivot: it detaches what pivot leaves of the host's tree"))
            .hint("turn them round: pivot ROOT -- mountclean -- COMMAND");
    }
    let keep = kept(&args)?;
    if args.proc.is_some() && link.carry.host_tree != Some(HostTree::Stacked) && !link.explains() {
        return Err(anyhow!("--proc=bind takes the /proc that pivot has left above the root, and there is none"))
            .hint("isolate … -- pivot ROOT -- mountclean --proc=bind -- COMMAND");
    }
    let ours = chain::in_own_mount_namespace(&link.carry);
    let steps = plan(&args, &keep, ours, link.carry.host_tree);
    link.run(&steps, State::new, &command)
}

fn kept(args: &Args) -> anyhow::Result<Vec<PathBuf>> {
    let keep: Vec<PathBuf> = args.keep_mount.iter().map(|dst| normal(dst)).collect();
    if keep.iter().any(|dst| dst == Path::new("/")) {
        return Err(anyhow!("--keep-mount /: that would keep everything")).hint("name the places that are to stay");
    }
    Ok(keep)
}

/// `ours`: an earlier link made this mount namespace, and left the host's mounts as `host` says.
fn plan<'a>(args: &'a Args, keep: &'a [PathBuf], ours: bool, host: Option<HostTree>) -> Vec<Step<'a>> {
    let mut steps = Vec::new();
    if !ours {
        steps.push(Step::OwnMounts);
    }
    steps.push(match args.proc {
        Some(args::From::Bind) => Step::HostsProc,
        None => Step::Proc { options: &args.proc_opts },
    });
    if let Some(how) = args.sys {
        steps.push(Step::Sys { how });
    }
    match host.filter(|_| ours) {
        Some(HostTree::Stacked) => steps.push(Step::DetachHost),
        Some(HostTree::Gone) => {}
        Some(HostTree::Kept) | None => {
            steps.push(Step::UnmountAll { keep, options: &args.proc_opts, sys: args.sys.is_some() })
        }
    }
    if args.mask {
        steps.push(Step::Mask);
    }
    steps.push(Step::Prove { keep, keep_fd: &args.keep_fd });
    if args.hold {
        steps.push(Step::Hold);
    }
    steps
}

/// As the mount table writes it.
fn normal(path: &Path) -> PathBuf {
    let names = path.components().filter(|part| matches!(part, Component::Normal(_)));
    Path::new("/").join(names.collect::<PathBuf>())
}
