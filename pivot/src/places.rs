//! All places inside the root that volumes and files are mounted on, made before the root becomes read-only.

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::Result;
use chain::shell::quote;

use crate::args::{EtcFile, Volume};
use crate::etc;
use crate::place::{self, Kind, ensure, inside};

/// Makes every place that a volume or file needs, except those that an earlier volume brings with it.
pub fn ensure_all(root: &OwnedFd, volumes: &[Volume], files: &[EtcFile]) -> Result<()> {
    let mut covered: Vec<PathBuf> = Vec::new();
    for volume in volumes {
        let (target, kind) = match volume {
            Volume::Bind { source, optional: true, .. } if !source.exists() => continue,
            Volume::Bind { source, target, .. } if source.is_dir() => (target.as_path(), Kind::Directory),
            Volume::Bind { target, .. } => (target.as_path(), Kind::File),
            Volume::Tmpfs { target, .. } | Volume::Directory { path: target } => (target.as_path(), Kind::Directory),
            Volume::Symlink { path, .. } => (path.as_path(), Kind::File),
            Volume::Dev => (Path::new("dev"), Kind::Directory),
        };
        let path = Path::new("/").join(target);
        let is_covered = covered.iter().any(|above| path.starts_with(above));
        match volume {
            _ if is_covered => {}
            Volume::Symlink { target, path } => place::link(root, target, path)?,
            _ => ensure(root, &path, kind)?,
        }
        if !matches!(volume, Volume::Directory { .. } | Volume::Symlink { .. }) {
            covered.push(path);
        }
    }
    if !files.is_empty() {
        ensure(root, Path::new("/proc"), Kind::Directory)?;
    }
    for &file in files {
        if !covered.iter().any(|above| Path::new(file.path()).starts_with(above)) {
            etc::place(file, root)?;
        }
    }
    Ok(())
}

/// The same in shell; `root` is quoted already.
pub fn shell(root: &str, volumes: &[Volume], files: &[EtcFile], f: &mut fmt::Formatter) -> fmt::Result {
    for volume in volumes {
        shell_for(volume, root, f)?;
    }
    for file in files {
        writeln!(f, "[ -e {root}{0} ] || [ -L {root}{0} ] || install -D -m 644 /dev/null {root}{0}", file.path())?;
    }
    write!(f, "mkdir -p {root}/proc")
}

/// The line that makes the place for one volume.
pub fn shell_for(volume: &Volume, root: &str, f: &mut fmt::Formatter) -> fmt::Result {
    match volume {
        Volume::Bind { source, target, optional, .. } => {
            let (source, target) = (quote(source), inside(root, target));
            let unless = if *optional { format!("[ ! -e {source} ] || ") } else { String::new() };
            writeln!(
                f,
                "{unless}[ -e {target} ] || if [ -d {source} ]; then mkdir -p {target}; \
                 else install -D -m 644 /dev/null {target}; fi"
            )
        }
        Volume::Tmpfs { target, .. } => writeln!(f, "mkdir -p {}", inside(root, target)),
        Volume::Directory { path } => writeln!(f, "mkdir -p {}", inside(root, path)),
        Volume::Symlink { target, path } => {
            let parent = Path::new("/").join(path);
            let (path, parent) = (inside(root, path), inside(root, parent.parent().unwrap_or(Path::new("/"))));
            let target = quote(target);
            writeln!(f, "mkdir -p {parent}\n[ \"$(readlink {path})\" = {target} ] || ln -s {target} {path}")
        }
        Volume::Dev => writeln!(f, "mkdir -p {root}/dev"),
    }
}
