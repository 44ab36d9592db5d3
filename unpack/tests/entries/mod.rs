//! Entries in few words, and trees as lists of lines.
#![allow(dead_code)]

use std::fs;
use std::path::Path;

use crate::archive::{Block, END};
use crate::layout::layout;
use crate::scene::{Scene, text};

pub type Layer = Vec<Block>;

pub fn dir(name: &str) -> Block {
    Block::new(name, b'5').mode(0o755)
}

pub fn file(name: &str, data: &str) -> Block {
    Block::file(name, data.as_bytes())
}

pub fn symlink(name: &str, target: &str) -> Block {
    Block::new(name, b'2').link(target)
}

pub fn hard_link(name: &str, target: &str) -> Block {
    Block::new(name, b'1').link(target)
}

pub fn packed(blocks: &[Block]) -> Vec<u8> {
    let mut bytes: Vec<u8> = blocks.iter().flat_map(Block::bytes).collect();
    bytes.extend(END);
    bytes
}

/// Extracts the layers; what is there then.
pub fn tree(scene: &Scene, layers: &[Layer]) -> Vec<String> {
    let bytes: Vec<_> = layers.iter().map(|layer| packed(layer)).collect();
    layout(scene, &bytes);
    let output = scene.unpack(&["--replace", "oci", "root"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    scene.nothing_staged();
    listed(&scene.path("root"))
}

/// Names, with the content of files and the targets of links.
pub fn listed(root: &Path) -> Vec<String> {
    let mut names = Vec::new();
    list(root, root, &mut names);
    names
}

fn list(root: &Path, at: &Path, names: &mut Vec<String>) {
    let mut below: Vec<_> = fs::read_dir(at).unwrap().map(|entry| entry.unwrap().path()).collect();
    below.sort();
    for path in below {
        let name = path.strip_prefix(root).unwrap().display();
        let metadata = fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            names.push(format!("{name}/"));
            list(root, &path, names);
        } else if metadata.is_symlink() {
            names.push(format!("{name} -> {}", fs::read_link(&path).unwrap().display()));
        } else {
            names.push(format!("{name}={}", fs::read_to_string(&path).unwrap()));
        }
    }
}
