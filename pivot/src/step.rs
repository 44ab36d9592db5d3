//! What pivot does, one step at a time: its shell line and its deed.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use chain::handoff::{self, Expect, Writer};
use chain::shell::quote;
use chain::{Carry, HasCarry, HostTree, Tool, WithHint, mounts, why_denied};
use nix::mount::MsFlags;
use nix::unistd::fchdir;

use crate::args::{Changes, EtcFile, Flags, IdMap, Volume};
use crate::etc;
use crate::flags::{self, REMOUNT_BELOW};
use crate::receives::Receives;
use crate::tree::Tree;
use crate::{advice, descriptors, lock, merge, overlay, place, places, root, stack, switch, volume};

pub enum Step<'a> {
    CheckDescriptors {
        keep: &'a [u32],
    },
    AwaitRoot {
        root: &'a Path,
        /// What standard input is, for the script.
        finds: String,
    },
    OwnMounts {
        receives: Receives,
    },
    HoldTools,
    OpenRoot {
        root: &'a Path,
    },
    Lock {
        /// The tree whose receipt was read.
        expected: Option<(u64, u64)>,
    },
    Overlay {
        changes: Changes,
        root: &'a Path,
        /// What the script has below the changes, if ROOT is a stack.
        layers: Option<Vec<PathBuf>>,
        receives: Receives,
    },
    Bind {
        root: &'a Path,
        /// Where missing places are made.
        in_memory: bool,
        id_map: Option<&'a IdMap>,
        receives: Receives,
    },
    /// Once the root is read-only none can be made.
    MakePlaces {
        volumes: &'a [Volume],
        files: &'a [EtcFile],
        start: Option<&'a Path>,
        in_memory: bool,
        root: &'a Path,
    },
    SetFlags {
        flags: Flags,
        root: &'a Path,
    },
    Mount {
        volume: &'a Volume,
        root: &'a Path,
        receives: Receives,
    },
    CopyFiles {
        files: &'a [EtcFile],
        /// HOME becomes what passwd says of the caller.
        sets_home: bool,
        root: &'a Path,
    },
    /// Finds the directories that are needed once the host's tree is stacked on `/`.
    Enter {
        root: &'a Path,
        chdir: Option<&'a Path>,
        make: bool,
        put_old: Option<&'a Path>,
    },
    /// For the root's own umount, which fails without a /proc before it gets to the kernel.
    LendProc,
    PivotRoot,
    DetachHost,
    PutOld {
        dir: &'a Path,
    },
    ChangeDirectory {
        dir: &'a Path,
    },
    Environment {
        env: &'a [(OsString, OsString)],
    },
}

pub struct State {
    carry: Carry,
    /// ROOT, or what unpack's line named if ROOT is `-`.
    path: PathBuf,
    /// What becomes the root: ROOT as the host has it, or the overlay over it.
    source: Option<OwnedFd>,
    /// The new root mount, once it is there.
    tree: Option<Tree>,
    /// Where COMMAND starts, and where the host's tree goes, if not where they do by default.
    start: Option<OwnedFd>,
    put_old: Option<OwnedFd>,
    host: HostTree,
    /// Whether a link follows, which has to know the mounts.
    followed: bool,
}

impl State {
    pub fn new(carry: Carry, path: PathBuf, host: HostTree, followed: bool) -> State {
        State { carry, path, source: None, tree: None, start: None, put_old: None, host, followed }
    }

    /// The root becomes an overlay.
    fn overlay(&mut self, changes: &Changes, receives: Receives) -> Result<()> {
        let source = self.source.take().ok_or_else(|| anyhow!("ROOT is not open yet"))?;
        let merged = merge::merge(&source, &self.path, changes, &mut self.carry)?;
        // Without changes no place can be made in it.
        self.tree = Some(Tree::new(merged.try_clone()?, *changes == Changes::Source, receives));
        self.source = Some(merged);
        Ok(())
    }

    fn source(&self) -> Result<&OwnedFd> {
        self.source.as_ref().ok_or_else(|| anyhow!("ROOT is not open yet"))
    }

    fn tree(&mut self) -> Result<&mut Tree> {
        self.tree.as_mut().ok_or_else(|| anyhow!("the root is not mounted yet"))
    }
}

fn found(directory: &Option<OwnedFd>) -> Result<&OwnedFd> {
    directory.as_ref().ok_or_else(|| anyhow!("the directory was not looked for"))
}

impl HasCarry for State {
    fn carry(&mut self) -> &mut Carry {
        &mut self.carry
    }
}

impl fmt::Display for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Step::CheckDescriptors { .. } => f.write_str("# descriptors: 0 to 2 are no directories, others are closed"),
            Step::AwaitRoot { root, finds } if root.as_os_str() == "-" => {
                write!(f, "# {finds}\nIFS= read -r root; export root")
            }
            Step::AwaitRoot { finds, .. } => write!(f, "# {finds}"),
            Step::OwnMounts { receives: Receives::Now } => f.write_str("unshare --mount --propagation slave"),
            Step::OwnMounts { .. } => f.write_str("unshare --mount --propagation private"),
            Step::HoldTools => f.write_str("# open the links that follow, which the root does not hold"),
            Step::OpenRoot { root } => write!(f, "test -d {}", word(root)),
            Step::Lock { .. } => {
                f.write_str("# lock ROOT's receipt against unpack --replace, through a mount that is attached nowhere")
            }
            Step::Overlay { changes, root, layers: None, .. } => {
                overlay::shell(changes, &[word(root)], false, &word(root), f)
            }
            Step::Overlay { changes, root, layers: Some(layers), .. } => {
                let lower: Vec<String> = match layers.is_empty() {
                    // In an error.
                    true => vec![format!("{}/layer@*", word(root)), "...".into()],
                    false => layers.iter().map(quote).collect(),
                };
                overlay::shell(changes, &lower, true, &word(root), f)
            }
            Step::Bind { root, id_map, receives, .. } => root::shell(&word(root), *id_map, *receives, f),
            Step::MakePlaces { volumes, files, start, in_memory, root } => {
                places::shell(&word(root), volumes, files, *start, *in_memory, f)
            }
            Step::SetFlags { flags, root } => {
                write!(f, "{REMOUNT_BELOW}\nremount_below {} {}", word(root), flags::words(*flags))
            }
            Step::Mount { volume, root, receives } => volume::shell(volume, &word(root), *receives == Receives::Now, f),
            Step::CopyFiles { files, sets_home, root } => etc::shell(files, *sets_home, &word(root), f),
            Step::Enter { root, chdir, make, .. } => {
                if let Some(dir) = chdir.filter(|_| *make) {
                    writeln!(f, "mkdir -p {}", place::inside(&word(root), dir))?;
                }
                write!(f, "cd {}", word(root))
            }
            Step::LendProc => f.write_str("# for the umount below, which is the root's own\nmount --rbind /proc proc"),
            Step::PivotRoot => f.write_str("PATH=$PATH:/usr/sbin:/sbin pivot_root . ."),
            Step::DetachHost => f.write_str("umount -l .\numount -l /proc"),
            Step::PutOld { dir } => write!(f, "mount --move /.. {}", quote(Path::new("/").join(dir))),
            Step::ChangeDirectory { dir } => write!(f, "cd {}", quote(Path::new("/").join(dir))),
            Step::Environment { env } => {
                let pairs: Vec<String> = env.iter().map(|(name, value)| assignment(name, value)).collect();
                write!(f, "export {}", pairs.join(" "))
            }
        }
    }
}

fn word(root: &Path) -> String {
    if root.as_os_str() == "-" { "\"$root\"".into() } else { quote(root) }
}

/// An image's Env may use any names; a shell can export only its own kind.
fn assignment(name: &OsStr, value: &OsStr) -> String {
    let nameable = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    let bytes = name.as_bytes();
    if bytes.iter().all(nameable) && !bytes.first().is_none_or(u8::is_ascii_digit) {
        format!("{}={}", name.display(), quote(value))
    } else {
        String::new()
    }
}

impl chain::Step for Step<'_> {
    type State = State;

    fn nests(&self) -> bool {
        matches!(self, Step::OwnMounts { .. })
    }

    fn perform(&self, state: &mut State) -> Result<()> {
        match self {
            Step::CheckDescriptors { keep } => descriptors::check(keep)?,
            Step::AwaitRoot { root, .. } => {
                let known = state.carry.writer.take();
                state.path = await_root(root, known)?.unwrap_or_else(|| root.to_path_buf());
            }
            Step::OwnMounts { receives } => {
                let propagation = if *receives == Receives::Now { MsFlags::MS_SLAVE } else { MsFlags::MS_PRIVATE };
                chain::own_mount_namespace(&mut state.carry, propagation)?;
            }
            Step::HoldTools => {
                state.carry.hold_tools()?;
                state.carry.left_host = true;
            }
            Step::OpenRoot { .. } => state.source = Some(root::open_root(&state.path)?),
            Step::Lock { expected } => {
                let shown = || state.path.display().to_string();
                let root = state.source.take().ok_or_else(|| anyhow!("ROOT is not open yet"))?;
                let (root, through) = lock::shared(root, &state.path)
                    .map_err(|error| why_denied::explained(error.context(shown()), &state.path))?;
                if let Some((mount, receipt)) = through {
                    state.carry.opened_through(mount, receipt);
                }
                if expected.is_some_and(|expected| root::identity(&root).ok() != Some(expected)) {
                    return Err(anyhow!("it was replaced after its receipt was read"))
                        .with_context(shown)
                        .hint("start again");
                }
                state.source = Some(root);
            }
            Step::Overlay { changes, receives, .. } => state.overlay(changes, *receives)?,
            Step::Bind { id_map, receives, .. } if state.tree.is_none() && stack::is_one(&state.path) => {
                stack::no_id_map(*id_map)?;
                state.overlay(&Changes::Source, *receives)?;
            }
            Step::Bind { in_memory, id_map, receives, .. } => {
                let bound = root::bind(state.source()?, *id_map, *receives)?;
                state.source = Some(bound.try_clone()?);
                state.tree = Some(Tree::new(bound, *in_memory, *receives));
            }
            Step::MakePlaces { volumes, files, start, .. } => {
                places::ensure_all(state.tree()?, volumes, files, *start)?;
            }
            Step::SetFlags { flags, .. } => state.tree()?.set(flags::attributes(*flags))?,
            Step::Mount { volume, .. } => {
                let lock = volume::mount(volume, state.tree()?)?;
                lock.map(|mount| state.carry.lock_through(mount)).transpose()?;
            }
            Step::CopyFiles { files, sets_home, .. } => {
                let home = etc::mount(files, state.tree()?)?.filter(|_| *sets_home);
                state.carry.env.extend(home.map(|home| ("HOME".into(), home)));
            }
            Step::Enter { chdir, make, put_old, .. } => {
                let followed = state.followed;
                let tree = state.tree()?;
                let start = chdir.map(|dir| switch::find_start(tree, dir, *make)).transpose()?;
                let put_old = put_old.map(|dir| switch::find_put_old(tree, dir)).transpose()?;
                tree.seal()?;
                // Everything mounted now and nothing later: nobody asked for a mount on one of these.
                let mounts = if followed { mounts::ids_below(&tree)? } else { Vec::new() };
                switch::enter(tree.root())?;
                advice::give(tree.root());
                (state.start, state.put_old, state.carry.mounts) = (start, put_old, mounts);
            }
            Step::LendProc => {}
            Step::PivotRoot => {
                let wanted = state.host;
                let host_tree = switch::pivot(state.tree()?, wanted)?;
                if host_tree == HostTree::Stacked {
                    state.carry.leave_copies_to_host_tree();
                }
                state.carry.host_tree = Some(host_tree);
                // The namespace goes by the mount of /, which has changed.
                state.carry.mount_namespace = chain::mount_namespace_id();
            }
            // The fallback of the initial ramfs leaves nothing to detach.
            Step::DetachHost if state.carry.host_tree == Some(HostTree::Gone) => {}
            Step::DetachHost => {
                switch::detach_host()?;
                state.carry.host_tree = Some(HostTree::Gone);
            }
            Step::PutOld { dir } => switch::put_old(found(&state.put_old)?, dir)?,
            Step::ChangeDirectory { dir } => {
                fchdir(found(&state.start)?).with_context(|| dir.display().to_string())?;
            }
            // The command got it when it was made.
            Step::Environment { .. } => {}
        }
        Ok(())
    }
}

/// Waits for unpack, if it is at the other end of standard input. Returns the root that its line named.
pub fn await_root(root: &Path, known: Option<Writer>) -> Result<Option<PathBuf>> {
    if root.as_os_str() == "-" {
        return handoff::receive(Tool::Pivot, Expect::Any, known);
    }
    // If even ROOT's parent is missing, no unpack is about to make ROOT in it.
    if handoff::may_come()
        && let Ok(absolute) = handoff::absolute(root)
    {
        handoff::receive(Tool::Pivot, Expect::Root(&absolute), known)?;
    }
    Ok(None)
}

/// What [`await_root`] would find.
pub fn what_it_awaits(root: &Path) -> String {
    match handoff::absolute(root) {
        _ if root.as_os_str() == "-" => handoff::described(Expect::Any),
        Ok(absolute) => handoff::described(Expect::Root(&absolute)),
        Err(_) => "ROOT's parent is missing: no line of unpack's is awaited".into(),
    }
}
