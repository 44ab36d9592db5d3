//! What an archive is by its names: the parts of a layered image, or a root filesystem. It looks at all names and keeps
//! none, so that neither the archive's order nor its size decides.

use std::io::Read;
use std::os::fd::AsFd;

use anyhow::Result;
use rustix::fs::{AtFlags, FileType};

use super::members::normal;
use crate::budget::Limits;
use crate::frame::{Archive, Kind};
use crate::source::read_full;
use crate::stream::Compression;

#[derive(Debug, Default)]
pub(super) struct Evidence {
    /// `oci-layout`, which nothing else has at its top.
    pub marker: bool,
    pub index: bool,
    pub manifest: bool,
    repositories: bool,
    pub blobs: bool,
    /// Names that only layers and configurations have.
    parts: bool,
    /// Files that no layered image has.
    others: bool,
    /// The directory that every file is in, where they are all in one.
    common: Option<Vec<u8>>,
    files: u64,
}

impl Evidence {
    /// Reads an archive's headers to the end, or as far as they can be read. `skip` passes over content.
    pub fn of<R: Read>(archive: R, limits: &Limits, skip: fn(&mut R, u64) -> std::io::Result<()>) -> Evidence {
        Evidence::below(b"", archive, limits, skip)
    }

    /// The same of what is below a directory.
    pub fn below<R: Read>(
        directory: &[u8],
        archive: R,
        limits: &Limits,
        skip: fn(&mut R, u64) -> std::io::Result<()>,
    ) -> Evidence {
        let mut evidence = Evidence::default();
        let mut entries = Archive::new(archive, limits.clone());
        // Damage is reported where the content is read.
        while let Ok(Some(entry)) = entries.next() {
            let name = normal(&entry.path);
            if entry.kind != Kind::Directory
                && let Some(name) = inside(directory, &name)
            {
                evidence.see(name);
            }
            if entries.pass_over(skip).is_err() {
                break;
            }
        }
        evidence
    }

    /// From a directory's own names, and from what is below them where that takes no long search.
    pub fn in_directory(directory: impl AsFd) -> Result<Evidence> {
        let directory = directory.as_fd();
        let mut evidence = Evidence::default();
        for entry in crate::retry_eintr::names(directory)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            let inner = |below: &str| [name, b"/", below.as_bytes()].concat();
            let has = |below: &str| rustix::fs::statat(directory, inner(below), AtFlags::empty()).is_ok();
            match entry.file_type() {
                _ if matches!(name, b"." | b"..") => {}
                FileType::Directory if name == b"blobs" && has("sha256") => evidence.see(b"blobs/sha256/x"),
                FileType::Directory if has("layer.tar") => evidence.see(&inner("layer.tar")),
                FileType::Directory => evidence.see(&inner("x")),
                _ => evidence.see(name),
            }
        }
        Ok(evidence)
    }

    fn see(&mut self, name: &[u8]) {
        self.files += 1;
        let parent = name.iter().rposition(|&b| b == b'/').map_or(&b""[..], |at| &name[..at]);
        match &mut self.common {
            None => self.common = Some(parent.to_vec()),
            Some(common) => {
                while !common.is_empty() && inside(common, name).is_none() {
                    let end = common.iter().rposition(|&b| b == b'/').unwrap_or(0);
                    common.truncate(end);
                }
            }
        }
        let mut parts = name.splitn(3, |&b| b == b'/');
        let top = parts.next().unwrap_or_default();
        match (top, parts.next()) {
            (b"oci-layout", None) => self.marker = true,
            (b"index.json", None) => self.index = true,
            (b"manifest.json", None) => self.manifest = true,
            (b"repositories", None) => self.repositories = true,
            (b"blobs", Some(b"sha256" | b"sha512")) => self.blobs = true,
            (_, Some(b"layer.tar")) => self.parts = true,
            (id, Some(b"json" | b"VERSION")) if is_hex(id) => self.parts = true,
            (file, None) if is_hex(stem(file)) => self.parts = true,
            // What people call a configuration and layers.
            (file, None) if is_called_like_a_part(file) => {}
            _ => self.others = true,
        }
    }

    /// Whether it may be a layered image. Its documents decide.
    pub fn may_be_image(&self) -> bool {
        self.marker || self.index || self.manifest || self.repositories || self.blobs || self.parts
    }

    /// Whether it can be nothing but one, whole or damaged.
    pub fn is_image(&self) -> bool {
        self.marker || (self.may_be_image() && !self.others)
    }

    /// The directory that all of it is in, if there is one.
    pub fn common(&self) -> Option<&[u8]> {
        self.common.as_deref().filter(|common| !common.is_empty())
    }
}

/// A name below a directory.
fn inside<'a>(directory: &[u8], name: &'a [u8]) -> Option<&'a [u8]> {
    if directory.is_empty() {
        return Some(name);
    }
    name.strip_prefix(directory)?.strip_prefix(b"/")
}

fn is_hex(name: &[u8]) -> bool {
    name.len() == 64 && name.iter().all(u8::is_ascii_hexdigit)
}

/// `HEX`, of `HEX.tar.gz` or `sha256:HEX`.
fn stem(name: &[u8]) -> &[u8] {
    let name = name.strip_prefix(b"sha256:").unwrap_or(name);
    name.split(|&b| b == b'.').next().unwrap_or_default()
}

fn is_called_like_a_part(name: &[u8]) -> bool {
    // In skopeo's dir: beside the blobs.
    let skopeo = name == b"version" || name.starts_with(b"signature-");
    let ends = [".json", ".tar", ".tgz", ".tar.gz", ".tar.xz", ".tar.zst", ".tar.bz2"];
    skopeo || ends.iter().any(|end| name.len() > end.len() && name.ends_with(end.as_bytes()))
}

/// Whether the beginning of a stream may be a layered image's: by a name, or because it begins with files that are
/// archives or JSON themselves, whatever they are called. A false positive costs time and room, nothing else.
pub(super) fn begins_like_an_image(head: &[u8], limits: &Limits) -> bool {
    let mut evidence = Evidence::default();
    let mut entries = Archive::new(head, limits.clone());
    let mut only_parts = true;
    // The head ends inside an entry, most often, which is an error and no evidence.
    while let Ok(Some(entry)) = entries.next() {
        let name = normal(&entry.path);
        if entry.kind == Kind::Directory {
            continue;
        }
        evidence.see(&name);
        let mut content = [0; 512];
        let filled = read_full(&mut entries.content(), &mut content).unwrap_or(0);
        only_parts &= entry.kind == Kind::File && !name.contains(&b'/') && is_part(&content[..filled]);
    }
    let below = evidence.common().map(|common| {
        Evidence::below(common, head, limits, |head, bytes| {
            *head = head.get(bytes as usize..).unwrap_or_default();
            Ok(())
        })
    });
    evidence.may_be_image() || below.is_some_and(|below| below.is_image()) || (evidence.files > 0 && only_parts)
}

/// Whether a stream's beginning reaches into its first file, or holds all of it.
pub(super) fn shows_a_file(head: &[u8], limits: &Limits) -> bool {
    let mut entries = Archive::new(head, limits.clone());
    while let Ok(Some(entry)) = entries.next() {
        if entry.kind != Kind::Directory && (head.len() as u64) >= entries.position() + entry.size.min(512) {
            return true;
        }
    }
    false
}

/// Whether a file is what an image is made of: an archive, perhaps compressed, or JSON.
fn is_part(content: &[u8]) -> bool {
    Compression::of(content) != Compression::Plain
        || content.get(257..262) == Some(b"ustar")
        || matches!(content.trim_ascii_start().first(), Some(b'{' | b'['))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str]) -> Evidence {
        let mut evidence = Evidence::default();
        names.iter().for_each(|name| evidence.see(name.as_bytes()));
        evidence
    }

    #[test]
    fn an_image_is_known_by_its_names_in_any_order() {
        let hex = "0123456789abcdef".repeat(4);
        for names in [
            &["config.json", "layer.tar", "manifest.json"][..],
            &["oci-layout", "README"],
            &["blobs/sha256/x", "index.json"],
            &[&format!("{hex}/VERSION")],
            &[&format!("{hex}.tar.gz")],
            &[&format!("sha256:{hex}"), "manifest.json"],
            &["nix/layer.tar"],
        ] {
            assert!(of(names).is_image(), "{names:?}");
        }
    }

    #[test]
    fn a_root_filesystem_may_have_some_of_an_images_names() {
        for names in [&["manifest.json", "etc/passwd"][..], &["index.json", "bin"], &["blobs/sha256/x", "bin/sh"]] {
            assert!(of(names).may_be_image() && !of(names).is_image(), "{names:?}");
        }
        for names in [&["bin/sh", "etc/manifest.json"][..], &["blobs/x", "usr/x"], &["abc.json"], &["index.html"], &[]]
        {
            assert!(!of(names).may_be_image(), "{names:?}");
        }
    }

    #[test]
    fn the_directory_that_all_is_in_is_found() {
        assert_eq!(of(&["a/b/c", "a/b/d/e"]).common(), Some(&b"a/b"[..]));
        assert_eq!(of(&["a/b", "ab/b"]).common(), None);
        assert_eq!(of(&["a/b", "c"]).common(), None);
        assert_eq!(of(&["img/oci-layout", "img/blobs/sha256/x"]).common(), Some(&b"img"[..]));
    }
}
