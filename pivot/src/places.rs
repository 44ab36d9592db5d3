//! All places inside the root that volumes and files are mounted on, made before the root becomes read-only.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use chain::shell::quote;

use crate::args::{Bind, EtcFile, Volume};
use crate::place::{self, Kind, ensure, inside};
use crate::tree::{Tree, Wanted};
use crate::{cover, etc};

/// Makes every place that a volume, a file or COMMAND's start needs, except those that an earlier volume brings with it.
pub fn ensure_all(tree: &mut Tree, volumes: &[Volume], files: &[EtcFile], start: Option<&Path>) -> Result<()> {
    let mut brought = Brought::default();
    for volume in volumes {
        let Some((path, kind)) = place_of(volume).filter(|(path, _)| !brought.contains(path)) else { continue };
        match volume {
            Volume::Symlink { target, path } => place::link(tree, target, path)?,
            Volume::Directory { .. } => ensure(tree, &path, kind, Wanted::Itself)?,
            _ => ensure(tree, &path, kind, Wanted::AsPlace)?,
        }
        brought.add(volume, path);
    }
    if !files.is_empty() {
        ensure(tree, Path::new("/proc"), Kind::Directory, Wanted::AsPlace)?;
    }
    for &file in files.iter().filter(|file| !brought.contains(Path::new(file.path()))) {
        etc::place(file, tree)?;
    }
    match start.map(|start| Path::new("/").join(start)).filter(|start| !brought.contains(start)) {
        Some(start) => ensure(tree, &start, Kind::Directory, Wanted::Itself),
        None => Ok(()),
    }
}

/// Where volumes are mounted, and so what is below is theirs.
#[derive(Default)]
struct Brought(Vec<PathBuf>);

impl Brought {
    fn contains(&self, path: &Path) -> bool {
        self.0.iter().any(|above| path.starts_with(above))
    }

    fn add(&mut self, volume: &Volume, path: PathBuf) {
        if !matches!(volume, Volume::Directory { .. } | Volume::Symlink { .. }) {
            self.0.push(path);
        }
    }
}

fn place_of(volume: &Volume) -> Option<(PathBuf, Kind)> {
    let (path, kind) = match volume {
        Volume::Bind(Bind { source, optional: true, .. }) if !source.exists() => return None,
        Volume::Bind(Bind { source, target, .. }) if source.is_dir() => (target.as_path(), Kind::Directory),
        Volume::Bind(Bind { target, .. }) => (target.as_path(), Kind::File),
        Volume::Tmpfs { target, .. } | Volume::Directory { path: target } => (target.as_path(), Kind::Directory),
        Volume::Symlink { path, .. } => (path.as_path(), Kind::File),
        Volume::Dev => (Path::new("dev"), Kind::Directory),
        Volume::Hide { .. } => return None,
    };
    Some((Path::new("/").join(path), kind))
}

/// The same in shell; `root` is quoted already.
pub fn shell(
    root: &str,
    volumes: &[Volume],
    files: &[EtcFile],
    start: Option<&Path>,
    in_memory: bool,
    f: &mut fmt::Formatter,
) -> fmt::Result {
    if in_memory {
        writeln!(f, "{}", cover::SHELL)?;
    }
    let covered = |path: &Path, f: &mut fmt::Formatter| match in_memory {
        true => writeln!(f, "cover {}", inside(root, path)),
        false => Ok(()),
    };
    let mut brought = Brought::default();
    for volume in volumes {
        let Some((path, _)) = place_of(volume).filter(|(path, _)| !brought.contains(path)) else { continue };
        covered(&path, f)?;
        shell_for(volume, root, f)?;
        brought.add(volume, path);
    }
    for path in files.iter().map(|file| file.path()).filter(|path| !brought.contains(Path::new(path))) {
        covered(Path::new(path), f)?;
        writeln!(f, "[ -e {root}{path} ] || [ -L {root}{path} ] || install -D -m 644 /dev/null {root}{path}")?;
    }
    if let Some(start) = start {
        covered(start, f)?;
        writeln!(f, "mkdir -p {}", inside(root, start))?;
    }
    covered(Path::new("/proc"), f)?;
    write!(f, "mkdir -p {root}/proc")
}

/// The line that makes the place for one volume.
pub fn shell_for(volume: &Volume, root: &str, f: &mut fmt::Formatter) -> fmt::Result {
    match volume {
        Volume::Bind(Bind { source, target, optional, .. }) => {
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
        Volume::Hide { .. } => Ok(()),
    }
}
