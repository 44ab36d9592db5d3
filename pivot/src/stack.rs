//! A stack of layers: ROOT is a directory NAME.mstack, whose entries are the lower directories of an overlay
//! (systemd.mstack(7)).

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, anyhow, bail};
use chain::retry_eintr::openat;
use chain::store::{MOST, is_stack_name};
use chain::{Carry, Hint, Tool, WithHint, attach, names_in, receipt, warn};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{FileStat, Mode, fstat, fstatat};
use nix::sys::utsname::uname;

use crate::args::IdMap;
use crate::overlay::{self, Lower};
use crate::{lock, root};

const LAYER: &str = "layer@";
/// What stat(2) shows of an owner who is not mapped in this user namespace (user_namespaces(7)).
const OVERFLOW: u32 = 65534;

/// Whether ROOT is one, by its name.
pub fn is_one(root: &Path) -> bool {
    let leads = || root.file_name().is_none() || root.is_symlink();
    is_stack_name(root) || (leads() && root.canonicalize().is_ok_and(|path| is_stack_name(&path)))
}

/// The paths of its layers, the uppermost first.
pub fn paths(root: &Path) -> Result<Vec<PathBuf>> {
    Ok(names(&root::open_root(root)?, root)?.into_iter().map(|name| root.join(name)).collect())
}

/// Opens its layers, the uppermost first, and keeps those of a store from being removed.
pub fn open(stack: &OwnedFd, path: &Path, carry: &mut Carry) -> Result<Vec<OwnedFd>> {
    let shown = || path.display().to_string();
    let names = names(stack, path)?;
    marks_are_known(path)?;
    let layers = names.iter().map(|name| layer(stack, name)).collect::<Result<Vec<_>>>().with_context(shown)?;
    for (mount, file) in lock::layers(&layers).with_context(shown)? {
        carry.opened_through(mount, file);
    }
    for (name, layer) in names.iter().zip(&layers) {
        let identity = |stat: FileStat| (stat.st_dev, stat.st_ino);
        let (now, opened) = (fstatat(stack, name.as_os_str(), AtFlags::empty()), fstat(layer)?);
        if opened.st_nlink == 0 || now.map(identity) != Ok(identity(opened)) {
            return Err(anyhow!("{}: {} was removed meanwhile", path.display(), name.display())).hint("start again");
        }
    }
    if let Some(owner) = layers.first().map(fstat).transpose()?.map(|stat| stat.st_uid)
        && owner == OVERFLOW
        && receipt::others(owner, 0).is_some()
    {
        warn(Tool::Pivot, format!("{}: another user's layers: their owners show as nobody", path.display()));
    }
    Ok(layers)
}

/// The tree that its layers make, for a look. Who may not mount gets the uppermost layer that has an /etc/passwd:
/// --explain asks for no privilege.
pub fn merged(stack: &OwnedFd, path: &Path) -> Result<OwnedFd> {
    let shown = || path.display().to_string();
    let names = names(stack, path)?;
    let dirs = names.iter().map(|name| layer(stack, name)).collect::<Result<Vec<_>>>().with_context(shown)?;
    let lower = Lower { dirs, stack: true };
    if lower.dirs.len() > 1
        && let Ok(merged) = overlay::unattached(&lower)
    {
        return Ok(merged);
    }
    let has_users = |layer: &OwnedFd| fstatat(layer, "etc/passwd", AtFlags::empty()).is_ok();
    let index = lower.dirs.iter().position(has_users).unwrap_or(0);
    lower.dirs.into_iter().nth(index).context("a stack without layers")
}

/// The names of its layers, the uppermost first. What else systemd knows in a stack is refused: without it the tree would
/// be another one.
fn names(stack: &OwnedFd, path: &Path) -> Result<Vec<OsString>> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let shown = || path.display().to_string();
    let listed = openat(stack, ".", flags, Mode::empty()).map_err(Error::new).and_then(|dir| Ok(names_in(dir)?));
    let mut numbered = Vec::new();
    for name in listed.with_context(shown)?.into_iter().filter(|name| !name.as_bytes().starts_with(b".")) {
        let digits = name.as_bytes().strip_prefix(LAYER.as_bytes()).map(<[u8]>::to_vec);
        match digits {
            Some(digits) if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) => {
                let zeros = digits.iter().take_while(|&&digit| digit == b'0').count();
                let number = digits[zeros..].to_vec();
                numbered.push(((number.len(), number), name));
            }
            _ => {
                return Err(anyhow!("{}: {} is not known in a stack", path.display(), name.display()))
                    .hint("pivot knows layer@NUMBER of systemd.mstack(7); changes go to --overlay DIR, and volumes are --bind");
            }
        }
    }
    numbered.sort_by(|one, other| other.0.cmp(&one.0));
    if let Some(pair) = numbered.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        bail!("{}: {} and {} have one number", path.display(), pair[1].1.display(), pair[0].1.display());
    }
    match numbered.len() {
        0 => Err(anyhow!("{}: a stack without layers", path.display())).hint(
            "a directory with this ending holds layer@0, layer@1 and so on: unpack --layers STORE IMAGE makes one",
        ),
        count if count > MOST => bail!("{}: {count} layers, and an overlay takes {MOST}", path.display()),
        _ => Ok(numbered.into_iter().map(|(_, name)| name).collect()),
    }
}

fn layer(stack: &OwnedFd, name: &OsStr) -> Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let opened = openat(stack, name, flags, Mode::empty()).map_err(|errno| {
        let error = Error::new(errno);
        match errno {
            //: NAME.mstack | open: ENOENT | a layer's link leads nowhere | the only cause |
            //: pivot/stacks::what_cannot_be_a_layer_is_named
            Errno::ENOENT => error.context(Hint("its layer is gone, or the stack was moved without its store".into())),
            //: NAME.mstack | open: ENOTDIR | a layer is no directory | the only cause |
            //: pivot/stacks::what_cannot_be_a_layer_is_named
            Errno::ENOTDIR => error.context(Hint("a layer is a directory; an image file is mounted beforehand".into())),
            _ => error,
        }
    });
    let opened = opened.with_context(|| name.display().to_string())?;
    trusted(&opened).with_context(|| name.display().to_string())?;
    Ok(opened)
}

/// Who can write a layer decides what runs in every stack that has it. The image itself may give its top directory away:
/// then the layer's receipt says so.
fn trusted(layer: &OwnedFd) -> Result<()> {
    let stat = fstat(layer)?;
    let Some(who) = receipt::others(stat.st_uid, stat.st_mode) else { return Ok(()) };
    // Who is not mapped here may be root, whose store is for everybody.
    let unmapped = stat.st_uid == OVERFLOW && receipt::others(OVERFLOW, 0).is_some();
    if unmapped && receipt::others(0, stat.st_mode).is_none() {
        return Ok(());
    }
    let beside = attach::path_of(layer).map(|path| receipt::path(&path));
    if beside.is_ok_and(|beside| receipt::vouching(&beside, layer).is_ok()) {
        return Ok(());
    }
    Err(anyhow!("the layer {who}"))
        .hint("who can write a layer decides what runs: chmod go-w it, or make a store of your own")
}

/// The owners of a stack are those of its layers.
pub fn no_id_map(id_map: Option<&IdMap>) -> Result<()> {
    match id_map {
        Some(_) => Err(anyhow!("--idmap: not for a stack of layers")).hint("unpack the image into a plain ROOT"),
        None => Ok(()),
    }
}

/// Before Linux 5.11 overlayfs has no marks in user attributes, and before 6.8 it takes a whiteout in the form of an
/// attribute for an empty file.
fn marks_are_known(path: &Path) -> Result<()> {
    let release = uname()?.release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version < (5, 11) {
        return Err(anyhow!("{}: a stack of layers takes Linux 5.11", path.display()))
            .hint("its marks are user attributes, which older overlays pass over: unpack into a plain ROOT");
    }
    let beside = [path.to_path_buf(), path.canonicalize()?].map(|path| receipt::path(&path));
    if version < (6, 8)
        && beside.iter().filter_map(|path| receipt::read(path).ok()).any(|said| said["stack"]["whiteouts"] == "xattr")
    {
        return Err(anyhow!("{}: its layers say in attributes what is removed", path.display())).hint(
            "that takes Linux 6.8; unpack --layers into a store outside of any container, or unpack into a plain ROOT",
        );
    }
    Ok(())
}
