//! Every archive of the fuzz corpus, and those that are too large for it, by the program itself: taken whole, or
//! refused with one line and nothing left, and a canary beside the root untouched either way (`Scene` looks).

mod archive;
mod scene;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use archive::{Block, END, extended, long, long_link, record};
use scene::{Scene, is_root, text};

/// Which of `tests/corpus` and `fuzz/seeds/layers` are refused, and in what words. All others are taken.
const REFUSED: &[(&str, &str)] = &[
    ("L-empty", "a long name is empty"),
    ("L-end", "ends after an extended header"),
    ("M", "began in another volume"),
    ("b256-big8", "the size is impossible"),
    ("b256-c0", "the size is not a number"),
    ("b256-neg-size", "the size is negative"),
    ("b256-over-size", "the size is impossible"),
    ("b256-uid-neg", "the owner is negative"),
    ("bad-len-long", "record is malformed"),
    ("bad-len-short", "record is malformed"),
    ("bad-mtime", "mtime is malformed"),
    ("badsum-first", "at byte 0: the header's checksum is wrong"),
    ("badsum-mid", "at byte 1024: the header's checksum is wrong"),
    ("empty-link", "the link's target is empty"),
    ("empty-mtime", "mtime is malformed"),
    ("empty-name", "the name is empty"),
    ("empty-path", "the name is empty"),
    ("empty-size", "size is malformed"),
    ("escape", "../x: the name contains '..'"),
    ("exp-mtime", "mtime is malformed"),
    ("g-g-clear", "uid is malformed"),
    ("junk-mode", "the mode is not a number"),
    ("junk-size", "the size is not a number"),
    ("junk2-size", "the size is not a number"),
    ("len-space", "record is malformed"),
    ("len0", "record is malformed"),
    ("links", "Too many levels of symbolic links"),
    ("minus-size", "the size is not a number"),
    ("names", "the header's checksum is wrong"),
    ("neg-size", "size is malformed"),
    ("neg-uid", "uid is malformed"),
    ("nine-size", "the size is not a number"),
    ("no-end", "truncated: the archive ends at byte 2048 without its end marker"),
    ("no-eq", "record is malformed"),
    ("no-nl", "record is malformed"),
    ("nul-lead-size", "the header's checksum is wrong"),
    ("nul-path", "a name with a NUL byte in it"),
    ("plus-size", "size is malformed"),
    ("sparse-order", "out of order or overlap"),
    ("sparse-over", "out of order or overlap"),
    ("sparse-past", "past its end"),
    ("sparse-short", "less data than its map says"),
    ("trunc-data", "truncated"),
    ("trunc-hdr", "truncated"),
    ("trunc-pad", "truncated"),
    ("x-end", "ends after an extended header"),
    ("x-eof", "ends after an extended header"),
];

#[test]
fn every_seed_is_taken_whole_or_refused_whole() {
    let mut refused: BTreeMap<&str, &str> = REFUSED.iter().copied().collect();
    let mut taken = 0;
    for kind in ["tests/corpus", "../fuzz/seeds/layers"] {
        let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join(kind);
        for seed in seeds.read_dir().unwrap().map(|entry| entry.unwrap().path()) {
            let name = seed.file_stem().unwrap().to_str().unwrap();
            let bytes = std::fs::read(&seed).unwrap();
            let scene = Scene::new();
            match refused.remove(name) {
                Some(why) => {
                    let message = scene.refused(&bytes, &[]);
                    assert!(message.contains(why), "{name}: {message}, not {why}");
                    let message = scene.failed(&scene.unpack_bytes(&bytes, &["-", "root"]));
                    assert!(message.contains(why), "{name} from a pipe: {message}, not {why}");
                }
                None => {
                    taken += 1;
                    scene.extracted(&bytes, &["--quiet"]);
                    let output = scene.unpack_bytes(&bytes, &["--quiet", "--digest", "-", "piped"]);
                    let stderr = text(&output.stderr);
                    if name == "blank-mode" && !is_root() {
                        // It holds a file that nobody may read, for which there is a hint.
                        assert!(stderr.contains("hint: ") && scene.path("piped").exists(), "{stderr}");
                        continue;
                    }
                    assert!(output.status.success(), "{name} from a pipe: {stderr}");
                    // From a file and from a pipe it is the same tree.
                    assert_eq!(
                        output.stdout,
                        scene.unpack(&["--quiet", "--digest", "img.tar", "root"]).stdout,
                        "{name}"
                    );
                }
            }
        }
    }
    assert!(refused.is_empty() && taken > 50, "{taken} taken, not seen: {refused:?}");
}

#[test]
fn what_is_too_large_is_refused_with_the_option_that_would_allow_it() {
    let million = "n".repeat((1 << 20) + 1);
    let file = || Block::file("x", b"x").bytes();
    // Its first four segments are in the header, without content.
    let segments = "00000000000\x0000000000000\0";
    let sparse = Block::new("sparse", b'S').magic(b"ustar  \0").field(386, segments.repeat(4).as_bytes());
    let header = sparse.field(482, b"\x01").field(483, b"77777777777\0").header();
    let mut block = segments.repeat(21).into_bytes();
    block.resize(512, 0);
    block[504] = 1;
    let cases: [(Vec<u8>, &str, &str); 5] = [
        ([long(&million), file()].concat(), "bytes of a name", "--limit name"),
        ([long_link(&million), Block::new("l", b'2').bytes()].concat(), "bytes of a name", "--limit name"),
        ([extended(&[record("path", &million)]), file()].concat(), "extended header", "--limit pax"),
        ([extended(&[record("SCHILY.xattr.user.x", &million)]), file()].concat(), "extended header", "--limit pax"),
        ([header, block.repeat(60_000)].concat(), "segments of a sparse file", "--limit sparse"),
    ];
    for (bytes, what, option) in cases {
        let message = Scene::new().refused(&[bytes, END.to_vec()].concat(), &[]);
        let hint = message.lines().nth(1).unwrap_or_default();
        assert!(message.contains(what) && hint.contains(option), "{message}");
    }
}

/// Archives of one file of zeros, in members of 32 MiB, and more of them than is free. Each is a gibibyte on the disk
/// before it is known, so that half are read from a file and half from a pipe.
#[test]
fn bombs_are_refused_in_every_compression_from_a_file_and_from_a_pipe() {
    type Compress = fn(&[u8]) -> Vec<u8>;
    let all: [(&str, Compress); 4] = [
        ("gzip", |bytes| {
            let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            writer.write_all(bytes).unwrap();
            writer.finish().unwrap()
        }),
        ("xz", |bytes| {
            let mut writer = xz2::write::XzEncoder::new(Vec::new(), 0);
            writer.write_all(bytes).unwrap();
            writer.finish().unwrap()
        }),
        ("zstd", |bytes| zstd::stream::encode_all(bytes, 1).unwrap()),
        ("bzip2", |bytes| {
            let mut writer = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
            writer.write_all(bytes).unwrap();
            writer.finish().unwrap()
        }),
    ];
    let header = Block::new("zeros", b'0').size(40 << 25).header();
    let zeros = vec![0; 32 << 20];
    for (i, (name, compress)) in all.into_iter().enumerate() {
        let bomb = [compress(&header), compress(&zeros).repeat(40), compress(&END)].concat();
        let scene = Scene::new();
        let said = format!("the {name} data unpacks to more than 100 times its size");
        let message = match i % 2 {
            0 => scene.refused(&bomb, &[]),
            _ => scene.failed(&scene.unpack_bytes(&bomb, &["-", "root"])),
        };
        assert!(message.contains(&said) && message.contains("--limit ratio"), "{message}");
        let message = scene.refused(&bomb, &["--limit", "bytes=1M"]);
        assert!(message.contains("more than 1048576") && message.contains("--limit bytes"), "{message}");
    }
}
