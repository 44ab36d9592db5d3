//! All that a tree has, entry by entry, to compare with the same of another.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// An entry's facts, one a line, by its path.
pub type Snapshot = BTreeMap<PathBuf, String>;

pub fn snapshot(root: &Path) -> Snapshot {
    let mut found = Snapshot::new();
    let mut first = HashMap::new();
    look(root, Path::new("."), &mut found, &mut first);
    found
}

fn look(root: &Path, name: &Path, found: &mut Snapshot, first: &mut HashMap<u64, PathBuf>) {
    let path = root.join(name);
    let stat = path.symlink_metadata().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut facts = String::new();
    let kind = stat.file_type();
    let mut fact = |text: std::fmt::Arguments| writeln!(facts, "{text}").expect("a string");
    fact(format_args!("mode {:o}", stat.mode()));
    fact(format_args!("owner {}:{}", stat.uid(), stat.gid()));
    fact(format_args!("time {}.{:09}", stat.mtime(), stat.mtime_nsec()));
    if kind.is_symlink() {
        fact(format_args!("target {:?}", fs::read_link(&path).expect("readlink")));
    } else if kind.is_file() {
        fact(format_args!("size {}", stat.size()));
        let content = fs::read(&path).expect("read");
        // FNV-1a is enough to tell two files of one tree's place apart.
        let hash =
            content.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &b| (hash ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
        fact(format_args!("content {hash:016x}"));
    } else if kind.is_block_device() || kind.is_char_device() {
        fact(format_args!("device {:x}", stat.rdev()));
    }
    if !stat.is_dir() && stat.nlink() > 1 {
        // Which of the group comes first in order of names: the same in both trees.
        let leader = first.entry(stat.ino()).or_insert_with(|| name.to_owned());
        fact(format_args!("links {} with {}", stat.nlink(), leader.display()));
    }
    for (key, value) in attributes(&path) {
        fact(format_args!("{key} {value:?}"));
    }
    found.insert(name.to_owned(), facts);
    if stat.is_dir() {
        let mut names: Vec<_> =
            fs::read_dir(&path).expect("read the directory").map(|e| e.expect("an entry").file_name()).collect();
        names.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
        for below in names {
            look(root, &name.join(below), found, first);
        }
    }
}

fn attributes(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut names = vec![0; 65536];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap_or(0);
    let mut found = BTreeMap::new();
    for name in names[..length].split(|&b| b == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 65536];
        let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap_or(0);
        found.insert(String::from_utf8_lossy(name).into_owned(), value[..length].to_owned());
    }
    found
}

/// What differs: the path, and the facts of both.
pub fn differences(ours: &Snapshot, theirs: &Snapshot) -> Vec<String> {
    let mut found = Vec::new();
    for path in ours.keys().chain(theirs.keys().filter(|path| !ours.contains_key(*path))) {
        let of = |tree: &Snapshot| tree.get(path).map_or_else(|| "nothing\n".to_owned(), String::clone);
        let (ours, theirs) = (of(ours), of(theirs));
        let only = |a: &str, b: &str| {
            a.lines().filter(|line| !b.lines().any(|other| other == *line)).collect::<Vec<_>>().join(", ")
        };
        if ours != theirs {
            found.push(format!("{}: ours {}; theirs {}", path.display(), only(&ours, &theirs), only(&theirs, &ours)));
        }
    }
    found
}
