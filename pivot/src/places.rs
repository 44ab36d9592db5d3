//! All places inside the root that volumes and files are mounted on, made before the root becomes read-only.

use std::fmt;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::Result;
use chain::shell::quote;

use crate::args::Volume;
use crate::files::Copied;
use crate::place::{Kind, ensure, inside};

/// Makes every place that a volume or file needs, except those that an earlier volume brings with it.
pub fn ensure_all(root: impl AsFd, volumes: &[Volume], files: &[Copied]) -> Result<()> {
    let mut covered: Vec<PathBuf> = Vec::new();
    for volume in volumes {
        let (target, kind) = match volume {
            Volume::Bind { source, target, .. } if source.is_dir() => (target.as_path(), Kind::Directory),
            Volume::Bind { target, .. } => (target.as_path(), Kind::File),
            Volume::Tmpfs { target, .. } => (target.as_path(), Kind::Directory),
            Volume::Dev => (Path::new("dev"), Kind::Directory),
        };
        let target = Path::new("/").join(target);
        if !covered.iter().any(|above| target.starts_with(above)) {
            ensure(&root, &target, kind)?;
        }
        covered.push(target);
    }
    let scratch = files.first().map(|_| (Path::new("/proc"), Kind::Directory));
    let files = files.iter().map(|file| (Path::new(file.path()), Kind::File));
    for (target, kind) in scratch.into_iter().chain(files) {
        if !covered.iter().any(|above| target.starts_with(above)) {
            ensure(&root, target, kind)?;
        }
    }
    Ok(())
}

/// The same in shell; `root` is quoted already.
pub fn shell(root: &str, volumes: &[Volume], files: &[Copied], f: &mut fmt::Formatter) -> fmt::Result {
    for volume in volumes {
        shell_for(volume, root, f)?;
    }
    for file in files {
        writeln!(f, "[ -e {root}{0} ] || install -D -m 644 /dev/null {root}{0}", file.path())?;
    }
    write!(f, "mkdir -p {root}/proc")
}

/// The line that makes the place for one volume.
pub fn shell_for(volume: &Volume, root: &str, f: &mut fmt::Formatter) -> fmt::Result {
    match volume {
        Volume::Bind { source, target, .. } => {
            let (source, target) = (quote(source), inside(root, target));
            writeln!(
                f,
                "[ -e {target} ] || if [ -d {source} ]; then mkdir -p {target}; \
                 else install -D -m 644 /dev/null {target}; fi"
            )
        }
        Volume::Tmpfs { target, .. } => writeln!(f, "mkdir -p {}", inside(root, target)),
        Volume::Dev => writeln!(f, "mkdir -p {root}/dev"),
    }
}
