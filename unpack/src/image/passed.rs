//! A second look at a stream that was extracted as a root filesystem, now that all of its names are known.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, anyhow};
use chain::WithHint;
use rustix::fs::{FileType, Mode, OFlags};

use super::evidence::Evidence;
use super::members::Members;
use super::{Image, Kind, Request, recognise};
use crate::args::Format;
use crate::retry_eintr;

/// Deeper than this nobody packs an image or a root.
const DEEPEST: usize = 8;

/// Fails where the tree that a stream became is a layered image: its first names did not show it.
pub fn passed_for_root_fs(root: BorrowedFd, image: &Image, request: &Request) -> Result<()> {
    if image.kind != Kind::RootFs || request.format != Format::Auto {
        return Ok(());
    }
    let evidence = Evidence::in_directory(root)?;
    if evidence.may_be_image() {
        let any = Request { platform: None, reference: None, ..request.clone() };
        let members = Members::tree(root.try_clone_to_owned()?, request);
        if let Some(image) = recognise::layered(&members, &evidence, &any)? {
            return Err(anyhow!("is {}, which its beginning does not show", image.kind))
                .hint("--format docker (or oci) reads it as one; --format rootfs extracts it as it is");
        }
    }
    let Some((path, directory)) = only_directory(root)? else { return Ok(()) };
    recognise::not_below(&path, &Evidence::in_directory(directory.as_fd())?)
}

/// The directory that a whole root filesystem is in, where the root has nothing of one itself.
pub fn below_one_directory(root: BorrowedFd) -> Result<Option<Vec<u8>>> {
    if looks_like_root(root) {
        return Ok(None);
    }
    let mut only = None;
    for entry in crate::retry_eintr::names(root)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if entry.file_type() == FileType::Directory
            && !matches!(name, b"." | b"..")
            && only.replace(name.to_vec()).is_some()
        {
            return Ok(None);
        }
    }
    let Some(name) = only else { return Ok(None) };
    Ok(Some(name.clone()).filter(|name| open(root, name).is_ok_and(|directory| looks_like_root(directory.as_fd()))))
}

fn looks_like_root(directory: BorrowedFd) -> bool {
    let has = |name: &str| rustix::fs::statat(directory, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).is_ok();
    has("usr") || has("bin") || (has("etc") && has("lib"))
}

/// The innermost of directories that have nothing but one directory each, from the root on.
fn only_directory(root: BorrowedFd) -> Result<Option<(Vec<u8>, OwnedFd)>> {
    let mut found: Option<(Vec<u8>, OwnedFd)> = None;
    for _ in 0..DEEPEST {
        let directory = found.as_ref().map_or(root, |(_, directory)| directory.as_fd());
        let mut names = Vec::new();
        for entry in crate::retry_eintr::names(directory)? {
            let entry = entry?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                names.push((entry.file_name().to_bytes().to_vec(), entry.file_type() == FileType::Directory));
            }
            if names.len() > 1 {
                return Ok(found);
            }
        }
        let Some((name, true)) = names.pop() else { return Ok(found) };
        let inner = open(directory, &name).context("openat")?;
        let path = found.map_or(name.clone(), |(path, _)| [&path[..], b"/", &name].concat());
        found = Some((path, inner));
    }
    Ok(found)
}

fn open(directory: BorrowedFd, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    retry_eintr::openat(directory, name, flags, Mode::empty())
}
