//! Compressed streams as gunzip, xz, zstd and bzip2 take them.

use std::io::{self, Read, Write};

use unpack::budget::Limits;
use unpack::digest::{Algorithm, Digest};
use unpack::stream::{Compression, Decoder, hinted, run_ahead};

/// Text that compresses, and not too well.
fn plain(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut byte = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        b"etaoin shrdlu\n\0"[(state >> 24) as usize % 15]
    };
    (0..length).map(|_| byte()).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut writer = xz2::write::XzEncoder::new(Vec::new(), 1);
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

fn xz_of_many_blocks(bytes: &[u8]) -> Vec<u8> {
    let mut builder = xz2::stream::MtStreamBuilder::new();
    let stream = builder.threads(2).preset(0).block_size(100_000).check(xz2::stream::Check::Crc32).encoder().unwrap();
    let mut writer = xz2::write::XzEncoder::new_stream(Vec::new(), stream);
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut writer = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    writer.include_checksum(true).unwrap();
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut writer = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

type Compress = fn(&[u8]) -> Vec<u8>;
const ALL: [(Compression, Compress); 5] = [
    (Compression::Gzip, gzip),
    (Compression::Xz, xz),
    (Compression::Xz, xz_of_many_blocks),
    (Compression::Zstd, zstd),
    (Compression::Bzip2, bzip2),
];

/// Gives a reader's bytes a few at a time.
struct Drip<'a>(&'a [u8], usize);

impl Read for Drip<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.1.min(self.0.len()).min(buffer.len());
        self.0.read(&mut buffer[..n])
    }
}

fn decode_with(bytes: &[u8], limits: &Limits) -> io::Result<Vec<u8>> {
    let mut decoder = Decoder::new(bytes, Compression::of(bytes), limits)?;
    let mut plain = Vec::new();
    decoder.read_to_end(&mut plain)?;
    assert!(decoder.into_inner().is_empty(), "the input was not read to its end");
    Ok(plain)
}

fn decode(bytes: &[u8]) -> io::Result<Vec<u8>> {
    decode_with(bytes, &Limits::default())
}

#[test]
fn content_tells_the_compression() {
    for (compression, compress) in ALL {
        assert_eq!(Compression::of(&compress(b"x")), compression);
        assert_eq!(Compression::of(&compress(b"")), compression);
    }
    for plain in [&b""[..], b"\x1f\x8b", b"BZh9xxxxxx", b"\xfd7zXY\0", b"./\0\0\0\0\0\0\0\0"] {
        assert_eq!(Compression::of(plain), Compression::Plain);
    }
}

#[test]
fn every_compression_gives_its_content_back() {
    let plain = plain(1_000_000);
    for (compression, compress) in ALL {
        let packed = compress(&plain);
        assert!(decode(&packed).unwrap() == plain, "{compression:?}");
        assert_eq!(decode(&compress(b"")).unwrap(), b"", "{compression:?}");
        for step in [1, 7, 4096] {
            let mut out = Vec::new();
            let few = &plain[..50_000];
            let packed = compress(few);
            Decoder::new(Drip(&packed, step), compression, &Limits::default()).unwrap().read_to_end(&mut out).unwrap();
            assert!(out == few, "{compression:?} by {step}");
        }
    }
}

#[test]
fn concatenated_members_are_one_stream() {
    let (one, two) = (plain(300_000), plain(123));
    for (compression, compress) in ALL {
        let packed = [compress(&one), compress(b""), compress(&two)].concat();
        assert!(decode(&packed).unwrap() == [&one[..], &two].concat(), "{compression:?}");
    }
}

#[test]
fn what_follows_the_last_member_is_ignored_where_the_tools_ignore_it() {
    for compress in [gzip as Compress, bzip2] {
        for tail in [&[0; 5000][..], b"garbage", b"\x1f"] {
            assert_eq!(decode(&[&compress(b"hello"), tail].concat()).unwrap(), b"hello");
        }
    }
    assert_eq!(decode(&[&xz(b"hello"), &[0; 8][..], &xz(b"!")].concat()).unwrap(), b"hello!");
    for (packed, name) in [(xz(b"hello"), "xz"), (zstd(b"hello"), "zstd")] {
        let error = decode(&[&packed[..], b"garbage"].concat()).unwrap_err().to_string();
        assert!(error.contains(&format!("the {name} data is damaged")), "{error}");
    }
    let odd = decode(&[&xz(b"hello")[..], &[0; 5]].concat()).unwrap_err().to_string();
    assert!(odd.contains("damaged"), "{odd}");
}

#[test]
fn skippable_frames_are_skipped() {
    let skippable = [&[0x53, 0x2a, 0x4d, 0x18, 5, 0, 0, 0][..], b"notes"].concat();
    let packed = [&skippable[..], &zstd(b"a"), &skippable, &skippable, &zstd(b"b"), &skippable].concat();
    assert_eq!(decode(&packed).unwrap(), b"ab");
}

#[test]
fn a_window_over_the_limit_is_refused_with_the_option_that_would_allow_it() {
    // A frame header that asks for a window of 256 MiB: window descriptor exponent 18, mantissa 0.
    let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 18 << 3, 1, 0, 0];
    let refused = |bytes: &[u8], limits: &Limits| {
        let error = hinted(decode_with(bytes, limits).unwrap_err().into());
        assert!(error.downcast_ref::<chain::Hint>().unwrap().0.contains("--limit window"), "{error:#}");
        format!("{error:#}")
    };
    let message = refused(&frame, &Limits::default());
    assert!(message.contains("the zstd data has a window of more than 134217728 bytes"), "{message}");
    assert_eq!(decode_with(&frame, &Limits { window: 256 << 20, ..Limits::default() }).unwrap(), b"");
    // The dictionaries of xz -6 and -9: 8 MiB and 64 MiB.
    let packed = |preset| {
        let mut writer = xz2::write::XzEncoder::new(Vec::new(), preset);
        writer.write_all(b"x").unwrap();
        writer.finish().unwrap()
    };
    assert_eq!(decode(&packed(9)).unwrap(), b"x");
    let limits = Limits { window: 32 << 20, ..Limits::default() };
    assert_eq!(decode_with(&packed(6), &limits).unwrap(), b"x");
    let message = refused(&packed(9), &limits);
    assert!(message.contains("the xz data has a dictionary of more than 33554432 bytes"), "{message}");
}

#[test]
fn every_truncation_is_an_error_that_says_so() {
    let plain = plain(3000);
    for (compression, compress) in ALL {
        let packed = compress(&plain);
        for cut in Compression::LOOK..packed.len() {
            let error = decode(&packed[..cut]).unwrap_err();
            assert!(error.to_string().contains("truncated"), "{compression:?} at {cut}: {error}");
        }
        let second = [&packed[..], &packed[..packed.len() - 1]].concat();
        assert!(decode(&second).unwrap_err().to_string().contains("truncated"), "{compression:?}");
    }
}

#[test]
fn damage_is_an_error_and_never_other_content() {
    let plain = plain(20_000);
    for (compression, compress) in ALL {
        let packed = compress(&plain);
        for at in (12..packed.len()).step_by(packed.len() / 60) {
            let mut bad = packed.clone();
            bad[at] ^= 0x55;
            if let Ok(content) = decode(&bad) {
                assert!(content == plain, "{compression:?} at {at}");
            }
        }
    }
}

#[test]
fn a_bomb_is_refused_with_the_option_that_would_allow_it() {
    // As many members as it takes to come beyond what is free: in one stream, and in all streams of one image together.
    let zeros = vec![0; 32 << 20];
    for (compression, compress) in ALL {
        let member = compress(&zeros);
        let limits = Limits { ratio: 10, ..Limits::default() };
        let drained = |members: usize| {
            let decoder = Decoder::new(io::Cursor::new(member.repeat(members)), compression, &limits).unwrap();
            io::copy(&mut { decoder }, &mut io::sink())
        };
        assert_eq!(drained(16).unwrap(), 16 * (32 << 20), "{compression:?}");
        let error = hinted(drained(24).unwrap_err().into());
        assert!(format!("{error:#}").contains("more than 10 times its size"), "{compression:?}: {error:#}");
        assert!(error.downcast_ref::<chain::Hint>().unwrap().0.contains("--limit ratio"));
        let packed = member.repeat(2);
        let limits = Limits { bytes: 1 << 20, ..Limits::default() };
        let error = hinted(decode_with(&packed, &limits).unwrap_err().into());
        assert!(format!("{error:#}").contains("more than 1048576 bytes"), "{compression:?}: {error:#}");
        assert!(error.downcast_ref::<chain::Hint>().unwrap().0.contains("--limit bytes"));
    }
}

#[test]
fn reading_ahead_changes_nothing_and_digests_everything() {
    let plain = plain(5_000_000);
    for (compression, compress) in ALL {
        let decoder = Decoder::new(io::Cursor::new(compress(&plain)), compression, &Limits::default()).unwrap();
        let mut ahead = run_ahead(decoder, Some(Algorithm::Sha256)).unwrap();
        let mut out = Vec::new();
        ahead.read_to_end(&mut out).unwrap();
        assert!(out == plain);
        let (_, digest) = ahead.finish().unwrap();
        assert_eq!(digest, Some(Digest::of(Algorithm::Sha256, &plain)));
    }
}

#[test]
fn a_reader_that_nobody_waits_for_ends() {
    let plain = plain(20_000_000);
    let mut ahead = run_ahead(io::Cursor::new(plain), Some(Algorithm::Sha256)).unwrap();
    ahead.read_exact(&mut [0; 100]).unwrap();
    drop(ahead);
    let failing =
        run_ahead(Decoder::new(&b"\x1f\x8b\x08broken"[..], Compression::Gzip, &Limits::default()).unwrap(), None);
    let mut failing = failing.unwrap();
    assert!(failing.read_to_end(&mut Vec::new()).is_err());
}

/// GNU tar's gzip warns and fails, bsdtar takes it, Python fails.
#[test]
fn strict_refuses_what_is_behind_the_last_member() {
    let strict = Limits { strict: true, ..Limits::default() };
    for (compression, compress) in ALL {
        if !matches!(compression, Compression::Gzip | Compression::Bzip2) {
            continue;
        }
        let packed = compress(b"content");
        assert_eq!(decode_with(&[&packed[..], &[0; 1000]].concat(), &strict).unwrap(), b"content");
        for behind in [&b"garbage"[..], &[&[0; 300_000][..], b"x"].concat()] {
            let bytes = [&packed[..], behind].concat();
            assert_eq!(decode(&bytes).unwrap(), b"content");
            let error = decode_with(&bytes, &strict).unwrap_err().to_string();
            assert!(error.contains("there is more behind"), "{compression:?}: {error}");
        }
    }
}
