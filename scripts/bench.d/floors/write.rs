//! The tree of an archive written from memory, with as few system calls as give the same tree:
//! directories first, then files by directory on several threads, then links and directory times.

use std::ffi::OsStr;
use std::io::Cursor;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use tar::EntryType;

struct Meta {
    mode: Mode,
    owner: Option<(Uid, Gid)>,
    mtime: i64,
}

struct Directory<'a> {
    path: PathBuf,
    meta: Option<Meta>,
    files: Vec<(PathBuf, Meta, &'a [u8])>,
    symlinks: Vec<(PathBuf, Meta, PathBuf)>,
}

pub(crate) struct Tree<'a> {
    directories: Vec<Directory<'a>>,
    hard_links: Vec<(PathBuf, PathBuf)>,
    devices: Vec<(PathBuf, Meta, FileType, u64)>,
}

impl<'a> Tree<'a> {
    pub(crate) fn of(tar: &'a [u8]) -> Result<Tree<'a>> {
        let mut tree = Tree { directories: Vec::new(), hard_links: Vec::new(), devices: Vec::new() };
        let mut index = std::collections::HashMap::new();
        let mut archive = tar::Archive::new(Cursor::new(tar));
        for entry in archive.entries()? {
            let entry = entry?;
            let path: PathBuf = Path::new(OsStr::from_bytes(&entry.path_bytes()))
                .components()
                .filter(|part| matches!(part, std::path::Component::Normal(_)))
                .collect();
            let header = entry.header();
            let (uid, gid) = (header.uid()? as u32, header.gid()? as u32);
            let meta = Meta {
                mode: Mode::from_raw_mode(header.mode()? & 0o7777),
                owner: (uid != 0 || gid != 0).then(|| (Uid::from_raw(uid), Gid::from_raw(gid))),
                mtime: header.mtime()? as i64,
            };
            let link = entry.link_name_bytes().map(|name| PathBuf::from(OsStr::from_bytes(&name)));
            if entry.header().entry_type() == EntryType::Directory {
                tree.at(&mut index, &path).meta = Some(meta);
                continue;
            }
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { continue };
            let name = PathBuf::from(name);
            match (entry.header().entry_type(), link) {
                (EntryType::Regular | EntryType::Continuous, _) => {
                    let start = entry.raw_file_position() as usize;
                    let bytes = tar.get(start..start + entry.size() as usize).context("truncated")?;
                    tree.at(&mut index, parent).files.push((name, meta, bytes));
                }
                (EntryType::Symlink, Some(target)) => {
                    tree.at(&mut index, parent).symlinks.push((name, meta, target));
                }
                (EntryType::Link, Some(target)) => {
                    let target =
                        target.strip_prefix("./").or(target.strip_prefix("/")).map(PathBuf::from).unwrap_or(target);
                    tree.hard_links.push((target, path));
                }
                (EntryType::Char, _) => {
                    let (major, minor) = (header.device_major()?, header.device_minor()?);
                    let number = rustix::fs::makedev(major.unwrap_or(0), minor.unwrap_or(0));
                    tree.devices.push((path, meta, FileType::CharacterDevice, number));
                }
                (EntryType::Fifo, _) => tree.devices.push((path, meta, FileType::Fifo, 0)),
                _ => {}
            }
        }
        // Parents before their children.
        tree.directories.sort_by_key(|directory| directory.path.components().count());
        Ok(tree)
    }

    fn at(&mut self, index: &mut std::collections::HashMap<PathBuf, usize>, path: &Path) -> &mut Directory<'a> {
        let directories = &mut self.directories;
        let at = *index.entry(path.to_owned()).or_insert_with(|| {
            let files = Vec::new();
            directories.push(Directory { path: path.to_owned(), meta: None, files, symlinks: Vec::new() });
            directories.len() - 1
        });
        &mut self.directories[at]
    }

    pub(crate) fn write(&self, root: &Path, threads: usize) -> Result<()> {
        rustix::process::umask(Mode::empty());
        std::fs::create_dir_all(root)?;
        let root = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
        for directory in self.directories.iter().filter(|directory| !directory.path.as_os_str().is_empty()) {
            let mode = directory.meta.as_ref().map_or(Mode::from_raw_mode(0o755), |meta| meta.mode);
            rustix::fs::mkdirat(&root, &directory.path, mode).with_context(|| directory.path.display().to_string())?;
        }
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let worker = || -> Result<()> {
                while let Some(directory) = self.directories.get(next.fetch_add(1, Ordering::Relaxed)) {
                    directory.write(&root)?;
                }
                Ok(())
            };
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
            workers
                .into_iter()
                .try_for_each(|worker| worker.join().unwrap_or_else(|_| anyhow::bail!("a worker panicked")))
        })?;
        for (target, path) in &self.hard_links {
            rustix::fs::linkat(&root, target, &root, path, AtFlags::empty())?;
        }
        for (path, meta, kind, number) in &self.devices {
            rustix::fs::mknodat(&root, path, *kind, meta.mode, *number)?;
            meta.finish(&root, path)?;
        }
        for directory in self.directories.iter().rev() {
            if let Some(meta) = directory.meta.as_ref().filter(|_| !directory.path.as_os_str().is_empty()) {
                meta.finish(&root, &directory.path)?;
            }
        }
        Ok(())
    }
}

impl Directory<'_> {
    fn write(&self, root: &OwnedFd) -> Result<()> {
        let path = if self.path.as_os_str().is_empty() { Path::new(".") } else { &self.path };
        let here = rustix::fs::openat(root, path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
        for (name, meta, bytes) in &self.files {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = rustix::fs::openat(&here, name, flags, meta.mode)
                .with_context(|| self.path.join(name).display().to_string())?;
            let mut rest = *bytes;
            while !rest.is_empty() {
                rest = &rest[rustix::io::write(&file, &rest[..rest.len().min(1 << 20)])?..];
            }
            if let Some((uid, gid)) = meta.owner {
                rustix::fs::fchown(&file, Some(uid), Some(gid))?;
                rustix::fs::fchmod(&file, meta.mode)?;
            }
            rustix::fs::futimens(&file, &times(meta.mtime))?;
        }
        for (name, meta, target) in &self.symlinks {
            rustix::fs::symlinkat(target, &here, name)?;
            if let Some((uid, gid)) = meta.owner {
                rustix::fs::chownat(&here, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
            }
            rustix::fs::utimensat(&here, name, &times(meta.mtime), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(())
    }
}

impl Meta {
    fn finish(&self, root: &OwnedFd, path: &Path) -> Result<()> {
        if let Some((uid, gid)) = self.owner {
            rustix::fs::chownat(root, path, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
            rustix::fs::chmodat(root, path, self.mode, AtFlags::empty())?;
        }
        rustix::fs::utimensat(root, path, &times(self.mtime), AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(())
    }
}

fn times(seconds: i64) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}
