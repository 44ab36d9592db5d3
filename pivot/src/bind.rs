//! A file or directory of the host's in the root: as it is, under other owners, or below an overlay.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Error, Result, anyhow};
use chain::attach::{self, PRIVATE, Place};
use chain::retry_eintr::open;
use chain::shell::quote;
use chain::{Hint, WithHint, mountinfo, mounts, why_denied};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use crate::args::{Bind, Changes};
use crate::flags::{REMOUNT_BELOW, attributes, words};
use crate::overlay::{self, Lower};
use crate::place::{self, Kind, inside};
use crate::receives::Receives;
use crate::tree::{Tree, Wanted};
use crate::{changes, descriptors, id_map, why_failed};

/// Mounts it below `tree`. Returns the mount through which a directory that takes changes is locked.
pub fn mount(bind: &Bind, tree: &mut Tree) -> Result<Option<OwnedFd>> {
    let Bind { source, target, .. } = bind;
    if bind.optional && source.symlink_metadata().is_err_and(is_missing) {
        return Ok(None);
    }
    let opened = open_source(source)?;
    let kind = place::kind_of(&opened)
        .map_err(|error| why_denied::explained(error.context(source.display().to_string()), source))?;
    if bind.is_overlay() && kind == Kind::File {
        return Err(anyhow!("{}: an overlay is over a directory", source.display()));
    }
    place::ensure(tree, target, kind, Wanted::AsPlace)?;
    let place = Place { root: tree.as_fd(), path: target };
    if bind.is_overlay() {
        return overlaid(bind, opened, place);
    }
    let receives = tree.receives();
    let mounted = match &bind.id_map {
        _ if bind.receives && receives == Receives::Never => {
            Err(anyhow!("rslave: an earlier link has made every mount private"))
                //: --bind SRC:DST:rslave | – | isolate has made the mount namespace private | it hands that on |
                //: pivot/receiving::where_nothing_is_passed_on_that_is_said
                .hint("let pivot make the mount namespace, or isolate --mount --propagation slave")
        }
        Some(_) => return mapped(bind, &opened, place).map(|_| None),
        None if bind.receives => receiving(bind, &opened, place),
        None => {
            let attributes = attributes(bind.flags) | receives.attribute_of_others();
            match bind.alone {
                false => attach::bind(&opened, place, attributes),
                true => attach::bind_alone(&opened, place, attributes),
            }
        }
    };
    mounted.map(|_| None).map_err(|error| why_not_bound(error, bind, &opened, kind, place))
}

fn overlaid(bind: &Bind, source: OwnedFd, place: Place) -> Result<Option<OwnedFd>> {
    let source = match &bind.id_map {
        // An overlay is over attached mounts alone (Linux before 6.15): this one is attached below it.
        Some(_) => mapped(bind, &source, place)?,
        None => source,
    };
    let mut lower = Lower { dirs: vec![source], stack: false };
    for dir in &bind.lower {
        let opened = open_source(dir)?;
        if place::kind_of(&opened)? == Kind::File {
            return Err(anyhow!("{}: an overlay is over a directory", dir.display()));
        }
        lower.dirs.push(opened);
    }
    let layer = match &bind.changes {
        Changes::Source => None,
        Changes::Memory => Some(changes::in_memory_at(place, &lower.dirs[0])?),
        Changes::Directory(dir) => Some(changes::kept(dir, &lower.dirs, false)?),
    };
    overlay::mount_at(layer.as_ref(), &lower, attributes(bind.flags), place)?;
    Ok(layer.and_then(|layer| layer.lock))
}

fn mapped(bind: &Bind, source: &OwnedFd, place: Place) -> Result<OwnedFd> {
    let copy = if bind.alone { attach::copy_alone(source) } else { attach::copy(source) }?;
    if let Some(map) = &bind.id_map {
        id_map::apply(map, &copy, !bind.alone, source)?;
    }
    attach::set_unattached(&copy, attributes(bind.flags) | PRIVATE)?;
    attach::attach(&copy, place.open()?).map_err(attach::why_not_attached)?;
    Ok(copy)
}

fn receiving(bind: &Bind, source: &OwnedFd, place: Place) -> Result<OwnedFd> {
    let mounted = match bind.alone {
        false => attach::bind_receiving(source, place, attributes(bind.flags)),
        true => attach::bind_alone_receiving(source, place, attributes(bind.flags)),
    }?;
    let id = mounts::id_of(&mounted)?;
    if !mountinfo::read()?.iter().any(|mount| mount.id == id && mount.is_slave) {
        //: --bind SRC:DST:rslave | – | SRC's mount passes nothing on | mountinfo |
        //: pivot/receiving::where_nothing_is_passed_on_that_is_said
        return Err(anyhow!("rslave: the mount that SRC is on passes nothing on"))
            .hint("mount --make-rshared its mount point, outside; or leave rslave out");
    }
    Ok(mounted)
}

fn is_missing(error: std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::NotFound
}

fn open_source(source: &Path) -> Result<OwnedFd> {
    let source = &descriptors::named(source)?;
    open(source, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).map_err(|errno| {
        let error = Error::new(errno).context(source.display().to_string());
        let hint = match errno {
            //: --bind SRC | open: ENOENT | SRC is not there | the only cause |
            //: pivot/volumes::files_are_mounted_on_files_and_a_mismatch_is_explained
            Errno::ENOENT => "SRC is a path of the host's, and is never made".into(),
            Errno::EACCES => why_denied::explain(source),
            _ => return error,
        };
        error.context(Hint(hint))
    })
}

fn why_not_bound(error: Error, bind: &Bind, source: &OwnedFd, kind: Kind, place: Place) -> Error {
    let target = bind.target.display();
    let there = place.open().and_then(|there| place::kind_of(&there));
    match (kind, there, error.downcast_ref()) {
        (Kind::File, Ok(Kind::Directory), _) => anyhow!("{target} in the root is a directory, and SRC is a file"),
        (Kind::Directory, Ok(Kind::File), _) => anyhow!("{target} in the root is a file, and SRC is a directory"),
        _ if error.downcast_ref::<Hint>().is_some() => error,
        (_, _, Some(Errno::EINVAL)) if bind.alone => error.context(Hint(
            "in a user namespace SRC takes along what is mounted below it, which would show what that hides".into(),
        )),
        (_, _, Some(&errno @ (Errno::EPERM | Errno::EINVAL))) => why_failed::of_bind(errno, source),
        _ => error,
    }
}

/// The step's shell lines; `root` is quoted already. `private`: the namespace receives mounts, and others than this shall
/// not.
pub fn shell(bind: &Bind, root: &str, private: bool, f: &mut fmt::Formatter) -> fmt::Result {
    let (source, target, words) = (quote(&bind.source), inside(root, &bind.target), words(bind.flags));
    let (unless, end) = if bind.optional { (format!("[ ! -e {source} ] || {{ "), "; }") } else { Default::default() };
    let depth = if bind.alone { "--bind" } else { "--rbind" };
    if bind.id_map.is_some() {
        writeln!(f, "{}", id_map::SHELL)?;
    } else if !bind.is_overlay() && !words.is_empty() {
        writeln!(f, "{REMOUNT_BELOW}")?;
    }
    f.write_str(&unless)?;
    if let Some(map) = &bind.id_map {
        write!(f, "idmapped {} {depth} {source} {target}", quote(map.to_string()))?;
    }
    if bind.is_overlay() {
        let source = match bind.id_map {
            Some(_) => {
                f.write_str("\n")?;
                &target
            }
            None => &source,
        };
        let lower: Vec<String> = std::iter::once(source.clone()).chain(bind.lower.iter().map(quote)).collect();
        overlay::shell(&bind.changes, &lower, false, &target, f)?;
        if !words.is_empty() {
            write!(f, "\nmount -o remount,bind,{words} {target}")?;
        }
        return f.write_str(end);
    }
    if bind.id_map.is_none() {
        let propagation = match (bind.receives, private) {
            (true, _) => " --make-rslave",
            (false, true) => " --make-rprivate",
            (false, false) => "",
        };
        write!(f, "mount {depth}{propagation} {source} {target}")?;
    }
    if !words.is_empty() {
        write!(f, " && remount_below {target} {words}")?;
    }
    f.write_str(end)
}
