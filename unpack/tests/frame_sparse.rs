//! Sparse files in their four encodings: as tars write them, and as nobody should.

mod archive;
mod scene;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::Command;

use archive::{Block, END, extended, padded, record};
use scene::Scene;
use unpack::budget::Limits;
use unpack::frame::{Archive, Entry, Segment};

fn first(bytes: &[u8], strict: bool) -> anyhow::Result<(Entry, Vec<u8>)> {
    let mut archive = Archive::new(bytes, Limits { strict, ..Limits::default() });
    let entry = archive.next()?.unwrap();
    let mut data = Vec::new();
    archive.content().read_to_end(&mut data)?;
    archive.next()?;
    Ok((entry, data))
}

/// By the program as well, which must leave nothing.
fn refusal(bytes: &[u8]) -> String {
    let why = format!("{:#}", first(bytes, false).unwrap_err());
    let message = Scene::new().refused(bytes, &["--format", "rootfs"]);
    assert!(message.contains(&why), "{message}, not {why}");
    why
}

fn segments(pairs: &[(u64, u64)]) -> Vec<Segment> {
    pairs.iter().map(|&(offset, length)| Segment { offset, length }).collect()
}

/// An entry of GNU's own type; segments beyond the fourth go to blocks of their own.
fn old_gnu(size: u64, map: &[(u64, u64)], data: &[u8]) -> Vec<u8> {
    let field = |&(offset, length): &(u64, u64)| format!("{offset:011o}\0{length:011o}\0").into_bytes();
    let mut header = Block::new("sparse", b'S').magic(b"ustar  \0").size(data.len() as u64);
    for (i, segment) in map.iter().take(4).enumerate() {
        header = header.field(386 + 24 * i, &field(segment));
    }
    header = header.field(482, &[u8::from(map.len() > 4)]).field(483, format!("{size:011o}\0").as_bytes());
    let mut bytes = header.header();
    let rest = map.get(4..).unwrap_or_default();
    for (i, group) in rest.chunks(21).enumerate() {
        let mut block = group.iter().flat_map(field).collect::<Vec<u8>>();
        block.resize(512, 0);
        block[504] = u8::from(rest.len() > (i + 1) * 21);
        bytes.extend(block);
    }
    [bytes, padded(data), Block::file("next", b"").bytes(), END.to_vec()].concat()
}

fn pax(records: &[String], data: &[u8]) -> Vec<u8> {
    [
        extended(records),
        Block::file("GNUSparseFile.0/sparse", data).bytes(),
        Block::file("next", b"").bytes(),
        END.to_vec(),
    ]
    .concat()
}

fn v0_0(size: u64, map: &[(u64, u64)], data: &[u8]) -> Vec<u8> {
    let mut records = vec![record("GNU.sparse.size", &size.to_string())];
    for (offset, length) in map {
        records.push(record("GNU.sparse.offset", &offset.to_string()));
        records.push(record("GNU.sparse.numbytes", &length.to_string()));
    }
    pax(&records, data)
}

fn v0_1(size: u64, map: &[(u64, u64)], data: &[u8]) -> Vec<u8> {
    let map: Vec<String> = map.iter().map(|(offset, length)| format!("{offset},{length}")).collect();
    pax(&[record("GNU.sparse.size", &size.to_string()), record("GNU.sparse.map", &map.join(","))], data)
}

fn v1_0(size: u64, map: &[(u64, u64)], data: &[u8]) -> Vec<u8> {
    let lines: String = map.iter().map(|(offset, length)| format!("{offset}\n{length}\n")).collect();
    let stored = padded(format!("{}\n{lines}", map.len()).as_bytes());
    let records = [
        record("GNU.sparse.major", "1"),
        record("GNU.sparse.minor", "0"),
        record("GNU.sparse.name", "sparse"),
        record("GNU.sparse.realsize", &size.to_string()),
    ];
    pax(&records, &[&stored, data].concat())
}

type Encode = fn(u64, &[(u64, u64)], &[u8]) -> Vec<u8>;
const ALL: [(&str, Encode); 4] = [("old GNU", old_gnu), ("0.0", v0_0), ("0.1", v0_1), ("1.0", v1_0)];

#[test]
fn every_encoding_says_the_same() {
    let many: Vec<(u64, u64)> = (0..100).map(|i| (i * 4096, 512)).collect();
    let cases: [(u64, &[(u64, u64)]); 4] =
        [(5000, &[(512, 512), (2048, 100)]), (5000, &[]), (1 << 32, &[(0, 512), ((1 << 32) - 7, 7)]), (1 << 20, &many)];
    for (size, map) in cases {
        let stored: u64 = map.iter().map(|(_, length)| length).sum();
        let data: Vec<u8> = (0..stored).map(|i| i as u8).collect();
        for (name, encode) in ALL {
            // With strict the map has to end where the file does, as GNU tar writes it.
            assert!(first(&encode(size, map, &data), true).is_err() || map.last().is_some_and(|l| l.0 + l.1 == size));
            let (entry, content) = first(&encode(size, map, &data), false).unwrap();
            assert_eq!(entry.size, size, "{name}");
            assert_eq!(entry.sparse, Some(segments(map)), "{name}");
            assert!(content == data, "{name}");
        }
    }
    let (entry, _) = first(&v1_0(0, &[], b""), false).unwrap();
    assert_eq!(entry.path, b"sparse");
}

#[test]
fn maps_out_of_order_overlapping_or_past_the_end_are_refused() {
    for (name, encode) in ALL {
        let message = |map: &[(u64, u64)], data: usize| refusal(&encode(4096, map, &vec![1; data]));
        for map in [&[(1024, 512), (0, 512)], &[(0, 512), (256, 512)], &[(0, 512), (0, 512)]] {
            let message = message(map, 1024);
            assert!(message.contains("out of order or overlap"), "{name}: {message}");
        }
        for map in [&[(0, 512), (3585, 512)], &[(0, 512), (1 << 32, 512)]] {
            let message = message(map, 1024);
            assert!(message.contains("past its end"), "{name}: {message}");
        }
        let message = message(&[(0, 512), (1024, 512)], 512);
        assert!(message.contains("less data than its map says"), "{name}: {message}");
    }
    let huge = i64::MAX as u64;
    assert!(refusal(&v0_1(4096, &[(huge, huge)], b"")).contains("past its end"));
}

#[test]
fn maps_that_are_malformed_are_refused() {
    let sparse = |records: &[(&str, &str)]| {
        let records: Vec<String> =
            records.iter().map(|(key, value)| record(&format!("GNU.sparse.{key}"), value)).collect();
        refusal(&pax(&records, b"x"))
    };
    assert!(sparse(&[("map", "0,1")]).contains("without its real size"));
    assert!(sparse(&[("size", "9"), ("map", "0,1,2")]).contains("GNU.sparse.map is malformed"));
    assert!(sparse(&[("size", "9"), ("map", "0,-1")]).contains("GNU.sparse.map is malformed"));
    assert!(sparse(&[("size", "9"), ("offset", "0"), ("offset", "1")]).contains("GNU.sparse.offset is malformed"));
    assert!(sparse(&[("size", "9"), ("numbytes", "0")]).contains("GNU.sparse.numbytes is malformed"));
    assert!(sparse(&[("size", "9"), ("offset", "0")]).contains("sparse map is malformed"));
    assert!(sparse(&[("major", "2"), ("minor", "0"), ("realsize", "9")]).contains("unknown version"));
    assert!(sparse(&[("major", "1"), ("minor", "0")]).contains("without its real size"));
    let stored = |map: &[u8]| {
        let records =
            [record("GNU.sparse.major", "1"), record("GNU.sparse.minor", "0"), record("GNU.sparse.realsize", "9")];
        refusal(&pax(&records, &padded(map)))
    };
    assert!(stored(b"x\n").contains("sparse map is malformed"));
    assert!(stored(b"\n").contains("sparse map is malformed"));
    assert!(stored(b"2\n0\n1\n").contains("sparse map is malformed"));
    assert!(stored(&[b'1'; 512]).contains("sparse map is malformed"));
    assert!(stored(b"").contains("sparse map is longer than the entry"));
    assert!(stored(b"1048577\n").contains("segments of a sparse file: more than 1048576"));
    assert!(stored(b"99999999999999999999\n").contains("sparse map is malformed"));
}

#[test]
fn millions_of_segments_are_over_the_budget() {
    let mut bytes = old_gnu(1 << 40, &[(0, 0); 5], b"")[..512].to_vec();
    let mut block = "00000000000\x0000000000000\0".repeat(21).into_bytes();
    block.resize(512, 0);
    block[504] = 1;
    bytes.extend(block.repeat(60_000));
    assert!(refusal(&bytes).contains("segments of a sparse file: more than 1048576"));
}

#[test]
fn data_that_the_map_does_not_name_is_skipped_and_disputed() {
    for (name, encode) in ALL {
        for (map, data) in [(&[(0, 512)][..], 1024), (&[(0, 100), (1000, 100)], 200)] {
            let bytes = encode(2000, map, &vec![1; data]);
            let (entry, _) = first(&bytes, false).unwrap();
            assert_eq!(entry.sparse, Some(segments(map)), "{name}");
            let error = format!("{:#}", first(&bytes, true).unwrap_err());
            assert!(error.contains("not every tar program"), "{name}: {error}");
        }
    }
}

/// Rebuilds the file that an archive made by `tar` holds.
fn read_back(path: &Path) -> Vec<(String, bool, Vec<u8>)> {
    let mut archive = Archive::new(File::open(path).unwrap(), Limits { strict: true, ..Limits::default() });
    let mut files = Vec::new();
    while let Some(entry) = archive.next().unwrap() {
        let mut file = std::io::Cursor::new(vec![0; entry.size as usize]);
        let whole = [Segment { offset: 0, length: entry.size }];
        for segment in entry.sparse.as_deref().unwrap_or(&whole) {
            file.seek(SeekFrom::Start(segment.offset)).unwrap();
            std::io::copy(&mut archive.content().take(segment.length), &mut file).unwrap();
        }
        files.push((String::from_utf8(entry.path).unwrap(), entry.sparse.is_some(), file.into_inner()));
    }
    files
}

#[test]
fn what_tars_write_is_read_back() {
    let directory = tempfile::tempdir().unwrap();
    let mut originals = Vec::new();
    for (name, length, pieces) in [("many", 4_000_001_u64, 60), ("start", 1 << 20, 1), ("none", 1 << 20, 0)] {
        let mut file = File::create(directory.path().join(name)).unwrap();
        for i in 0..pieces {
            file.seek(SeekFrom::Start(i * 65_536)).unwrap();
            file.write_all(format!("{i:08}").repeat(600).as_bytes()).unwrap();
        }
        file.set_len(length).unwrap();
        originals.push((name.to_owned(), true, std::fs::read(directory.path().join(name)).unwrap()));
    }
    let tars = [
        ("tar", vec!["--format=gnu", "-S"]),
        ("tar", vec!["--format=pax", "--sparse-version=0.0", "-S"]),
        ("tar", vec!["--format=pax", "--sparse-version=0.1", "-S"]),
        ("tar", vec!["--format=pax", "--sparse-version=1.0", "-S"]),
        ("bsdtar", vec!["--format=pax"]),
    ];
    for (program, options) in tars {
        let out = directory.path().join("out.tar");
        let mut tar = Command::new(program);
        tar.args(options).arg("-cf").arg(&out).args(["many", "start", "none"]).current_dir(directory.path());
        match tar.status() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => println!("skipped: no {program}"),
            status => {
                assert!(status.unwrap().success());
                assert!(read_back(&out) == originals, "{tar:?}");
            }
        }
    }
}
