//! Memory does not grow with the image. Alone in its file: the peak is the whole process's.

mod archive;

use std::io::{self, Read};

use archive::layout::{config, digest};
use archive::reading::request;
use archive::{Block, END};
use serde_json::{Value, json};
use unpack::budget::Limits;
use unpack::image::Image;
use unpack::source::Source;

/// A stream that is made while it is read.
struct Made<I: Iterator<Item = Vec<u8>>> {
    pieces: I,
    current: io::Cursor<Vec<u8>>,
}

impl<I: Iterator<Item = Vec<u8>>> Read for Made<I> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.current.read(buffer)? {
                0 => match self.pieces.next() {
                    Some(piece) => self.current = io::Cursor::new(piece),
                    None => return Ok(0),
                },
                n => return Ok(n),
            }
        }
    }
}

fn read_through(pieces: impl Iterator<Item = Vec<u8>> + Send + 'static) -> u64 {
    let spool = tempfile::tempdir().unwrap();
    let limits = Limits::default();
    let source = Source::Stream(Box::new(Made { pieces, current: io::Cursor::default() }));
    let mut image = Image::open(source, &request(spool.path())).unwrap();
    let mut entries = 0;
    for layer in &mut image.layers {
        let mut archive = layer.open(&limits, None).unwrap().entries(&limits);
        while archive.next().unwrap().is_some() {
            entries += 1;
        }
        archive.finish().unwrap().finish().unwrap();
    }
    entries
}

/// The most memory that this process ever had, in KiB: VmHWM of proc_pid_status(5).
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn the_peak_is_flat_for_large_files_many_entries_and_many_layers() {
    let before = peak();
    let large = 1_u64 << 30;
    let piece = vec![b'x'; 1 << 20];
    let file = std::iter::once(Block::new("large", b'0').size(large).header())
        .chain(std::iter::repeat_n(piece, (large >> 20) as usize))
        .chain([END.to_vec()]);
    assert_eq!(read_through(file), 1);

    let many = (0..300_000).map(|i| Block::file(&format!("d{}/f{i}", i / 1000), b"").header()).chain([END.to_vec()]);
    assert_eq!(read_through(many), 300_000);

    let layer = |i: u64| [Block::file(&format!("f{i}"), &vec![i as u8; 1 << 20]).bytes(), END.to_vec()].concat();
    let names: Vec<String> = (0..100).map(|i| format!("{i}/layer.tar")).collect();
    let diff_ids: Vec<String> = (0..100).map(|i| digest(&layer(i))).collect();
    let mut config: Value = serde_json::from_str(&config("linux/amd64", &[])).unwrap();
    config["rootfs"]["diff_ids"] = json!(diff_ids);
    let manifest = json!([{"Config": "config.json", "RepoTags": null, "Layers": names}]);
    let member = |name: &str, bytes: &[u8]| Block::file(name, bytes).bytes();
    let documents = [
        member("config.json", config.to_string().as_bytes()),
        member("manifest.json", manifest.to_string().as_bytes()),
    ];
    let layers = (0..100).map(move |i| Block::file(&format!("{i}/layer.tar"), &layer(i)).bytes());
    assert_eq!(read_through(layers.chain(documents).chain([END.to_vec()])), 100);

    let grown = peak() - before;
    assert!(grown < 32 << 10, "the peak grew by {grown} KiB");
}
