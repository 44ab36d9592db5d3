//! The most memory that the program ever has, for images that are large in each of three ways. Alone in its file:
//! getrusage(2) has one number for all children. `UNPACK_TEST_MEMORY=all` is the long form (scripts/soak memory):
//! gigabytes of disk, millions of inodes.

mod archive;
mod scene;

use std::io::{self, Write};
use std::process::Stdio;

use archive::layout::config;
use archive::{Block, END};
use nix::sys::resource::{UsageWho, getrusage};
use scene::Scene;
use serde_json::{Value, json};
use unpack::digest::{Algorithm, Digest, Hasher};

/// What the issue allows, in KiB.
const MOST: i64 = 64 << 10;
const PIECE: usize = 1 << 20;

/// A file of so many mebibytes, in pieces: this process must stay small as well, since a child begins as its copy.
fn write_file(out: &mut impl Write, name: &str, mebibytes: u64) -> io::Result<()> {
    out.write_all(&Block::new(name, b'0').size(mebibytes << 20).header())?;
    let piece: Vec<u8> = (0..PIECE).map(|i| (i / 512) as u8 ^ name.len() as u8).collect();
    (0..mebibytes).try_for_each(|_| out.write_all(&piece))
}

fn write_layer(out: &mut impl Write, number: u64, mebibytes: u64) -> io::Result<()> {
    write_file(out, &format!("f{}", "x".repeat(number as usize)), mebibytes)?;
    out.write_all(&END)
}

struct Hash(Hasher);

impl Write for Hash {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What docker save writes, the manifest last: all of it has to be kept meanwhile, and not in memory.
fn write_docker(out: &mut impl Write, layers: u64, mebibytes: u64) -> io::Result<()> {
    let diff_id = |number| -> io::Result<Digest> {
        let mut hash = Hash(Hasher::new(Algorithm::Sha256));
        write_layer(&mut hash, number, mebibytes)?;
        Ok(hash.0.finish())
    };
    let diff_ids: Vec<String> = (0..layers).map(|n| diff_id(n).map(|id| id.to_string())).collect::<Result<_, _>>()?;
    let names: Vec<String> = (0..layers).map(|number| format!("{number}/layer.tar")).collect();
    for (number, name) in names.iter().enumerate() {
        out.write_all(&Block::new(name, b'0').size((mebibytes << 20) + 512 + 1024).header())?;
        write_layer(out, number as u64, mebibytes)?;
    }
    let mut config: Value = serde_json::from_str(&config("linux/amd64", &[])).unwrap();
    config["rootfs"]["diff_ids"] = json!(diff_ids);
    let manifest = json!([{"Config": "config.json", "RepoTags": null, "Layers": names}]);
    for (name, text) in [("config.json", config.to_string()), ("manifest.json", manifest.to_string())] {
        out.write_all(&Block::file(name, text.as_bytes()).bytes())?;
    }
    out.write_all(&END)
}

fn write_entries(out: &mut impl Write, count: u64) -> io::Result<()> {
    for number in 0..count {
        out.write_all(&Block::file(&format!("d{}/f{number}", number / 1000), b"").header())?;
    }
    out.write_all(&END)
}

fn unpack(what: &str, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) {
    let scene = Scene::new();
    let mut child = scene.command(&["-q", "-", "root"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut stdin = io::BufWriter::with_capacity(PIECE, child.stdin.take().unwrap());
    write(&mut stdin).and_then(|()| stdin.flush()).unwrap();
    drop(stdin);
    assert!(child.wait().unwrap().success(), "{what}");
    scene.nothing_staged();
    let peak = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss();
    eprintln!("{what}: the peak is {peak} KiB until now");
    assert!(peak < MOST, "{what}: {peak} KiB");
    std::fs::remove_dir_all(scene.path("root")).unwrap();
}

#[test]
fn the_peak_stays_below_64_mebibytes_for_large_files_many_layers_and_many_entries() {
    let all = std::env::var("UNPACK_TEST_MEMORY").is_ok_and(|value| value == "all");
    let (large, each, entries) = if all { (4096, 40, 2_000_000) } else { (256, 2, 50_000) };
    unpack(&format!("{large} MiB from a pipe"), |mut out| {
        write_file(&mut out, "large", large)?;
        out.write_all(&END)
    });
    unpack(&format!("100 layers of {each} MiB from a pipe"), |mut out| write_docker(&mut out, 100, each));
    unpack(&format!("{entries} entries from a pipe"), |mut out| write_entries(&mut out, entries));
}
