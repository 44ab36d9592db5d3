//! Images of which each kind might cost more than its size lets one expect.

mod layered;
mod plain;

use std::io::Write as _;

use crate::archive::{Block, END, extended, long};

/// Images of one kind: `make` has the stored bytes of one with so many things in it.
pub struct Shape {
    pub what: &'static str,
    pub make: fn(usize) -> Vec<u8>,
}

pub fn all() -> Vec<Shape> {
    [plain::SHAPES, layered::SHAPES]
        .concat()
        .into_iter()
        .map(|(what, make): (_, fn(usize) -> _)| Shape { what, make })
        .collect()
}

/// As deep as the default budget goes, with `first` at the top and `last` at the bottom.
fn deep(first: &str, last: &str) -> String {
    format!("{first}/{}{last}", "d/".repeat(254))
}

/// An entry whose name may be longer than a header has room for.
fn named(name: &str, block: Block) -> Vec<u8> {
    [long(name), block.bytes()].concat()
}

fn file(name: &str) -> Vec<u8> {
    if name.len() < 100 { Block::file(name, b"").bytes() } else { named(name, Block::file("f", b"")) }
}

fn dir(name: &str) -> Vec<u8> {
    Block::new(name, b'5').mode(0o755).bytes()
}

fn symlink(name: &str, target: &str) -> Vec<u8> {
    [crate::archive::long_link(target), Block::new(name, b'2').bytes()].concat()
}

fn hard_link(name: &str, target: &str) -> Vec<u8> {
    [crate::archive::long_link(target), Block::new(name, b'1').bytes()].concat()
}

fn with_records(records: impl Iterator<Item = (String, String)>, entry: Vec<u8>) -> Vec<u8> {
    let records: Vec<String> = records.map(|(key, value)| crate::archive::record(&key, &value)).collect();
    [extended(&records), entry].concat()
}

fn tar(entries: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    entries.into_iter().chain([END.to_vec()]).flatten().collect()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}
