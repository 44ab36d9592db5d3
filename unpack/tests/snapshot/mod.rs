//! Everything about a tree that two extractors could do differently, as lines to compare.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

#[derive(Clone, Copy, Default)]
pub struct What {
    pub holes: bool,
    pub no_times: bool,
    pub no_link_counts: bool,
}

pub fn of(root: &Path, what: What) -> BTreeMap<String, String> {
    let mut lines = BTreeMap::new();
    let mut groups = BTreeMap::new();
    walk(root, root, what, &mut lines, &mut groups);
    lines
}

/// Fails naming the first paths that differ.
pub fn same(ours: &BTreeMap<String, String>, theirs: &BTreeMap<String, String>) {
    let all: std::collections::BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
    let differing: Vec<String> = all
        .into_iter()
        .filter(|path| ours.get(*path) != theirs.get(*path))
        .take(10)
        .map(|path| format!("{path}\n  ours:   {:?}\n  theirs: {:?}", ours.get(path), theirs.get(path)))
        .collect();
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

fn walk(root: &Path, at: &Path, what: What, lines: &mut BTreeMap<String, String>, groups: &mut BTreeMap<u64, String>) {
    let metadata = fs::symlink_metadata(at).unwrap();
    let name = at.strip_prefix(root).unwrap().as_os_str().as_bytes().escape_ascii().to_string();
    let kind = metadata.file_type();
    let mut line = format!("{:o} {}:{}", metadata.mode(), metadata.uid(), metadata.gid());
    if !what.no_times {
        line += &format!(" mtime {}.{:09}", metadata.mtime(), metadata.mtime_nsec());
    }
    if !kind.is_dir() {
        line += &format!(" size {}", metadata.len());
        if !what.no_link_counts {
            line += &format!(" links {}", metadata.nlink());
        }
        if metadata.nlink() > 1 {
            line += &format!(" with {}", groups.entry(metadata.ino()).or_insert(name.clone()));
        }
    }
    if kind.is_symlink() {
        line += &format!(" -> {}", fs::read_link(at).unwrap().as_os_str().as_bytes().escape_ascii());
    }
    if kind.is_char_device() || kind.is_block_device() {
        line += &format!(" device {:x}", metadata.rdev());
    }
    if kind.is_file() {
        let content = fs::read(at).unwrap();
        line += &format!(" {}", unpack::digest::Digest::of(unpack::digest::Algorithm::Sha256, &content).as_str());
        if what.holes {
            line += &format!(" data {:?}", segments(at, metadata.len()));
        }
    }
    line += &attributes(at);
    lines.insert(name, line);
    if kind.is_dir() {
        let mut below: Vec<_> = fs::read_dir(at).unwrap().map(|entry| entry.unwrap().path()).collect();
        below.sort();
        for path in below {
            walk(root, &path, what, lines, groups);
        }
    }
}

fn segments(path: &Path, size: u64) -> Vec<(u64, u64)> {
    let file = fs::File::open(path).unwrap();
    let (mut found, mut at) = (Vec::new(), 0);
    while at < size {
        let begin = match seek(&file, SeekFrom::Data(at)) {
            Ok(begin) => begin,
            Err(Errno::NXIO) => break,
            Err(error) => panic!("{error}"),
        };
        at = seek(&file, SeekFrom::Hole(begin)).unwrap();
        found.push((begin, at));
    }
    found
}

fn attributes(path: &Path) -> String {
    let mut names = vec![0; 65536];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap_or(0);
    let mut names: Vec<_> = names[..length].split(|&b| b == 0).filter(|name| !name.is_empty()).collect();
    names.sort();
    let mut text = String::new();
    for name in names {
        let mut value = vec![0; 65536];
        let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
        text += &format!(" {}={}", name.escape_ascii(), value[..length].escape_ascii());
    }
    text
}
