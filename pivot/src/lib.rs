//! pivot: make a directory the root of a new mount namespace, and run a command in it. A library only for its fuzzers.

mod advice;
pub mod args;
mod bind;
mod changes;
mod cover;
mod descriptors;
mod dev;
mod etc;
mod flags;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod hide;
mod id_map;
mod image;
mod initramfs;
mod lock;
mod merge;
mod overlay;
mod place;
mod places;
mod receives;
mod root;
mod stack;
mod step;
mod switch;
mod tree;
mod volume;
mod why_failed;

use std::ffi::OsString;
use std::path::PathBuf;

use args::{Args, Bind, Changes, EtcFile, Flags, Volume};
use chain::{Command, HostTree, Link, Tool, warn};
use clap::ValueEnum;
use receives::Receives;
use step::{State, Step};

/// All of pivot after its arguments are parsed.
pub fn run(args: Args) -> anyhow::Result<()> {
    let mut link = Link::new(Tool::Pivot, &args.common);
    let mut args = args;
    take_old_spellings(&mut args);
    args.root = descriptors::named(&args.root)?;
    let mut command = Command::new(std::mem::take(&mut args.command), || "/bin/sh".into());
    let image = args.as_image.then(|| as_image(&mut args, &mut link, &mut command)).transpose()?;
    let (env, tree) = image.unzip();
    let mut env: Env = env.unwrap_or_default();
    for (name, value) in &args.env {
        command.env.set(name, value)?;
        env.push((name.clone(), value.clone()));
    }
    let host = host_tree(&args, &command);
    let files = etc_files(&args);
    let stack = stack::is_one(&args.root);
    if stack {
        stack::no_id_map(args.idmap.as_ref())?;
    }
    let shown = stack && (link.explains() || args.common.verbose);
    let layers = shown.then(|| stack::paths(&args.root)).transpose()?;
    let layers = stack.then(|| layers.unwrap_or_default());
    let mut steps = plan(&args, &files, tree, layers, &link, &command, host);
    if !env.is_empty() {
        steps.push(Step::Environment { env: &env });
    }
    if link.explains() {
        // As the next link would find it if this were performed.
        link.carry.mount_namespace = chain::mount_namespace_id();
        link.carry.host_tree = Some(host);
    }
    let followed = command.tool().is_some();
    link.run(&steps, |carry| State::new(carry, args.root.clone(), host, followed), &command)
}

type Env = Vec<(OsString, OsString)>;

/// The root must exist before it can say what to run, so the wait for it comes first.
fn as_image(args: &mut Args, link: &mut Link, command: &mut Command) -> anyhow::Result<(Env, (u64, u64))> {
    if !link.explains() && (!args.no_handoff || args.root.as_os_str() == "-") {
        let known = link.carry.writer.take();
        if let Some(named) = step::await_root(&args.root, known)? {
            args.root = named;
        }
        args.no_handoff = true;
    }
    let config = image::read(&args.root)?;
    for (name, value) in &config.env {
        command.env.set(name, value)?;
    }
    args.chdir = args.chdir.take().or(config.working_dir);
    link.carry.image = Some(config.image);
    Ok((config.env, config.tree))
}

fn plan<'a>(
    args: &'a Args,
    files: &'a [EtcFile],
    tree: Option<(u64, u64)>,
    layers: Option<Vec<PathBuf>>,
    link: &Link,
    command: &Command,
    host: HostTree,
) -> Vec<Step<'a>> {
    let root = &args.root;
    let volumes = &args.volumes.0;
    let overlaid = args.ephemeral || args.overlay.is_some();
    let is_stack = layers.is_some();
    let mut steps = vec![Step::CheckDescriptors { keep: &args.keep_fd }];
    if !args.no_handoff || root.as_os_str() == "-" {
        let shown = link.explains() || args.common.verbose;
        let finds = if shown { step::what_it_awaits(root) } else { String::new() };
        steps.push(Step::AwaitRoot { root, finds });
    }
    let inherits = chain::in_own_mount_namespace(&link.carry);
    let receives = match volumes.iter().any(|volume| matches!(volume, Volume::Bind(Bind { receives: true, .. }))) {
        true if inherits => Receives::Never,
        true => Receives::Now,
        false => Receives::No,
    };
    if !inherits {
        steps.push(Step::OwnMounts { receives });
    }
    // A later link changes to the image's user.
    let by_tool = link.carry.image.as_ref().is_some_and(|image| image.user.is_some());
    if command.tool().is_some() || by_tool {
        steps.push(Step::HoldTools);
    }
    steps.extend([Step::OpenRoot { root }, Step::Lock { expected: tree }]);
    let Args { read_only, nosuid, nodev, noexec, .. } = *args;
    let flags = Flags { read_only, nosuid, nodev, noexec };
    let id_map = args.idmap.as_ref();
    if overlaid {
        if id_map.is_some() {
            steps.push(Step::Bind { root, in_memory: false, id_map, receives });
        }
        let changes = args.overlay.clone().map_or(Changes::Memory, Changes::Directory);
        steps.push(Step::Overlay { changes, root, layers, receives });
        if flags != Flags::default() {
            steps.push(Step::Bind { root, in_memory: false, id_map: None, receives });
        }
    } else if layers.is_some() {
        steps.push(Step::Overlay { changes: Changes::Source, root, layers, receives });
    } else {
        steps.push(Step::Bind { root, in_memory: read_only, id_map, receives });
    }
    if read_only || (is_stack && !overlaid) {
        let start = args.chdir.as_deref().filter(|_| args.as_image);
        steps.push(Step::MakePlaces { volumes, files, start, in_memory: !overlaid, root });
    }
    if flags != Flags::default() {
        steps.push(Step::SetFlags { flags, root });
    }
    steps.extend(volumes.iter().map(|volume| Step::Mount { volume, root, receives }));
    if !files.is_empty() {
        let sets_home =
            files.contains(&EtcFile::Passwd) && !args.as_image && !args.env.iter().any(|(name, _)| name == "HOME");
        steps.push(Step::CopyFiles { files, sets_home, root });
    }
    steps.push(Step::Enter {
        root,
        chdir: args.chdir.as_deref(),
        make: args.as_image,
        put_old: args.put_old.as_deref(),
    });
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
        steps.push(Step::ChangeDirectory { dir });
    }
    steps
}

/// Options of version 0.1 that are words of --etc now.
fn take_old_spellings(args: &mut Args) {
    for (given, name, file) in [
        (args.resolv, "resolv", EtcFile::Resolv),
        (args.hosts, "hosts", EtcFile::Hosts),
        (args.hostname, "hostname", EtcFile::Hostname),
    ] {
        if given {
            warn(Tool::Pivot, format_args!("--{name} will go: type --etc {name}"));
            args.etc.push(file);
        }
    }
}

/// Each once.
fn etc_files(args: &Args) -> Vec<EtcFile> {
    EtcFile::value_variants().iter().copied().filter(|file| args.etc.contains(file)).collect()
}

/// Nothing from the root may run while the host's tree can be reached. Only mountclean may find it: without the host's
/// proc the kernel would not let it mount its own.
fn host_tree(args: &Args, command: &Command) -> HostTree {
    if args.keep_host || args.put_old.is_some() {
        HostTree::Kept
    } else if command.tool() == Some(Tool::Mountclean) {
        HostTree::Stacked
    } else {
        HostTree::Gone
    }
}
