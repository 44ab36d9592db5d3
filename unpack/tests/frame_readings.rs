//! What an archive means where its writers or attackers were creative.

mod archive;
mod scene;

use std::io::Read;

use archive::{Block, END, extended, global, long, long_link, record};
use scene::Scene;
use unpack::budget::Limits;
use unpack::frame::{Archive, End, Entry, Kind, Time};

fn entries(bytes: &[u8], strict: bool) -> anyhow::Result<Vec<Entry>> {
    let mut archive = Archive::new(bytes, Limits { strict, ..Limits::default() });
    let mut entries = Vec::new();
    while let Some(entry) = archive.next()? {
        entries.push(entry);
    }
    Ok(entries)
}

fn names(bytes: &[u8]) -> Vec<String> {
    let entries = entries(bytes, false).unwrap();
    entries.iter().map(|e| String::from_utf8_lossy(&e.path).into_owned()).collect()
}

fn one(bytes: &[u8]) -> Entry {
    entries(bytes, false).unwrap().remove(0)
}

/// By the program as well, which must leave nothing.
fn refusal(bytes: &[u8]) -> String {
    let why = format!("{:#}", entries(bytes, false).unwrap_err());
    let message = Scene::new().refused(bytes, &["--format", "rootfs"]);
    assert!(message.contains(&why), "{message}, not {why}");
    why
}

/// Accepted, but not by --strict.
fn disputed(bytes: &[u8]) {
    entries(bytes, false).unwrap();
    let message = format!("{:#}", entries(bytes, true).unwrap_err());
    assert!(message.contains("at byte ") && message.contains("not every tar program"), "{message}");
}

/// An archive that hides a whole entry in the content of another.
fn hiding(host: Block) -> Vec<u8> {
    [host.size(1024).header(), Block::file("inner", b"x").bytes(), Block::file("last", b"hello").bytes(), END.to_vec()]
        .concat()
}

fn before(extension: &[u8], block: Block) -> Vec<u8> {
    [extension, &block.bytes(), &END].concat()
}

#[test]
fn entries_without_content_have_none_whatever_their_size_says() {
    for kind in *b"123456" {
        let bytes = hiding(Block::new("host", kind).link("target"));
        assert_eq!(names(&bytes), ["host", "inner", "last"], "{}", char::from(kind));
        assert_eq!(one(&bytes).size, 0);
        disputed(&bytes);
        let pax = [
            extended(&[record("size", "1024")]),
            Block::new("host", kind).link("target").header(),
            Block::file("inner", b"x").bytes(),
            END.to_vec(),
        ]
        .concat();
        assert_eq!(names(&pax), ["host", "inner"], "{}", char::from(kind));
        disputed(&pax);
    }
}

#[test]
fn entries_of_unknown_type_are_files() {
    for kind in *b"7QAN" {
        let bytes = hiding(Block::new("host", kind));
        assert_eq!(names(&bytes), ["host", "last"]);
        assert_eq!(one(&bytes).kind, Kind::File);
        if kind != b'7' {
            disputed(&bytes);
        }
    }
}

#[test]
fn a_dumped_directory_has_its_list_skipped_and_a_volume_label_is_no_entry() {
    let bytes = hiding(Block::new("host", b'D'));
    assert_eq!(names(&bytes), ["host", "last"]);
    assert_eq!(one(&bytes).kind, Kind::Directory);
    assert_eq!(names(&hiding(Block::new("label", b'V'))), ["last"]);
    assert!(refusal(&hiding(Block::new("part", b'M'))).contains("another volume"));
}

#[test]
fn a_file_whose_name_ends_in_a_slash_is_a_directory() {
    for kind in *b"0\x007" {
        let bytes = hiding(Block::new("dir/", kind));
        assert_eq!(names(&bytes), ["dir/", "inner", "last"]);
        assert_eq!(one(&bytes).kind, Kind::Directory);
    }
    let old = Block::new("dir/", 0).magic(b"\0\0\0\0\0\0\0\0");
    assert_eq!(one(&before(&[], old)).kind, Kind::Directory);
    let long = before(&extended(&[record("path", "other/")]), Block::new("dir", b'0'));
    assert_eq!((one(&long).kind, one(&long).path), (Kind::Directory, b"other/".to_vec()));
}

#[test]
fn the_name_in_an_extended_header_wins_unless_a_gnu_name_came_first() {
    let (pax, gnu) = (extended(&[record("path", "pax")]), long("gnu"));
    let file = || Block::file("short", b"");
    assert_eq!(names(&before(&pax, file())), ["pax"]);
    assert_eq!(names(&before(&gnu, file())), ["gnu"]);
    let pax_first = before(&[&pax[..], &gnu].concat(), file());
    assert_eq!(names(&pax_first), ["pax"]);
    disputed(&pax_first);
    let gnu_first = before(&[&gnu[..], &pax].concat(), file());
    assert_eq!(names(&gnu_first), ["gnu"]);
    disputed(&gnu_first);
}

#[test]
fn a_second_extended_header_replaces_the_first() {
    let both = [extended(&[record("path", "one"), record("uid", "7")]), extended(&[record("mtime", "9")])].concat();
    let bytes = before(&both, Block::file("short", b""));
    let entry = one(&bytes);
    assert_eq!((entry.path, entry.uid, entry.mtime.seconds), (b"short".to_vec(), 0, 9));
    disputed(&bytes);
    let names_twice = before(&[long("one"), long("two")].concat(), Block::file("short", b""));
    assert_eq!(names(&names_twice), ["two"]);
    disputed(&names_twice);
}

#[test]
fn an_extended_header_at_the_end_is_refused() {
    for extension in [extended(&[record("path", "lost")]), long("lost"), long_link("lost")] {
        for end in [&END[..], &[]] {
            let message = refusal(&[&Block::file("a", b"").bytes(), &extension[..], end].concat());
            assert!(message.contains("at byte 1536: the archive ends after an extended header"), "{message}");
        }
    }
    let global = [Block::file("a", b"").bytes(), global(&[record("comment", "git")]), END.to_vec()].concat();
    assert_eq!(names(&global), ["a"]);
}

#[test]
fn global_records_hold_for_all_entries_that_say_nothing_else() {
    let bytes = [
        global(&[record("uid", "5"), record("gid", "6"), record("size", "1024")]),
        Block::file("a", b"").bytes(),
        global(&[record("gid", "8")]),
        extended(&[record("uid", "7")]),
        Block::file("b", b"").bytes(),
        END.to_vec(),
    ]
    .concat();
    let owners: Vec<_> = entries(&bytes, false).unwrap().iter().map(|e| (e.uid, e.gid, e.size)).collect();
    assert_eq!(owners, [(5, 6, 0), (7, 8, 0)]);
    disputed(&bytes);
    let comment = [global(&[record("comment", "git's commit")]), Block::file("a", b"").bytes(), END.to_vec()].concat();
    assert_eq!(entries(&comment, true).unwrap().len(), 1);
}

#[test]
fn a_record_is_framed_by_its_length_and_not_by_newlines() {
    let value = "a\n20 path=evil\n13 uid=4242\n";
    let records = [record("comment", value), record("path", "good"), record("path", "better=\n")];
    let entry = one(&before(&extended(&records), Block::file("h", b"")));
    assert_eq!((entry.path, entry.uid), (b"better=\n".to_vec(), 0));
    for malformed in
        ["11 path=abc\n", "13 path=abc\n", "12 path=abcX", "0 path=abc\n", "10 pathab\n", "5 =b\n", " 12 path=ab\n"]
    {
        let message = refusal(&before(&extended(&[malformed.into()]), Block::file("h", b"")));
        assert!(message.contains("at byte 0: an extended header's record is malformed"), "{malformed:?}: {message}");
    }
    let padded = before(&extended(&["12 path=abc\n\0\0\0".into()]), Block::file("h", b""));
    assert_eq!(names(&padded), ["abc"]);
    disputed(&padded);
}

#[test]
fn values_that_are_none_are_refused() {
    let with = |key: &str, value: &str| before(&extended(&[record(key, value)]), Block::file("h", b"hello"));
    // POSIX lets an empty value undo a record; no two programs do the same with it.
    for key in ["size", "uid", "gid", "mtime", "atime", "GNU.sparse.size"] {
        assert!(refusal(&with(key, "")).contains(&format!("extended header's {key} is malformed")));
    }
    assert_eq!(one(&with("uname", "")).path, b"h");
    assert!(refusal(&with("path", "")).contains("the name is empty"));
    assert!(refusal(&with("path", "a\0b")).contains("NUL"));
    for (key, value) in
        [("size", "-1"), ("size", "+5"), ("uid", "-5"), ("mtime", "abc"), ("mtime", "1e9"), ("gid", "1.5")]
    {
        assert!(refusal(&with(key, value)).contains(&format!("extended header's {key} is malformed")));
    }
    assert!(refusal(&with("uid", "4294967296")).contains("owner 4294967296 is impossible"));
    assert!(refusal(&with("size", "9223372036854775807")).contains("impossible"));
}

#[test]
fn times_may_be_negative_and_have_nanoseconds() {
    let records = extended(&[record("mtime", "-1.5"), record("atime", "1700000000.123456789")]);
    let entry = one(&before(&records, Block::file("h", b"")));
    assert_eq!(entry.mtime, Time { seconds: -2, nanoseconds: 500_000_000 });
    assert_eq!(entry.atime, Some(Time { seconds: 1_700_000_000, nanoseconds: 123_456_789 }));
    let old = one(&before(&[], Block::file("h", b"").field(136, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe")));
    assert_eq!(old.mtime.seconds, -2);
}

#[test]
fn numbers_that_mean_nothing_are_refused() {
    for (size, why) in [
        (&b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"[..], "the size is negative"),
        (b"\x80\x01\0\0\0\0\0\0\0\0\0\0", "the size is impossible"),
        (b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff", "the size is impossible"),
        (b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", "impossible"),
        (b"00000000009\0", "the size is not a number"),
        (b"-0000000005\0", "the size is not a number"),
    ] {
        let message = refusal(&before(&[], Block::new("h", b'0').field(124, size)));
        assert!(message.contains(&format!("at byte 0: {why}")) || message.contains(why), "{message}");
    }
    let message = refusal(&before(&[], Block::new("h", b'0').field(108, b"\xff\xff\xff\xff\xff\xff\xff\xfe")));
    assert!(message.contains("owner is negative"), "{message}");
    let big = one(&before(&[], Block::file("h", b"hello").field(124, b"\x80\0\0\0\0\0\0\0\0\0\0\x05")));
    assert_eq!(big.size, 5);
    let blank = before(&[], Block::new("h", b'0').field(124, b"            "));
    assert_eq!(one(&blank).size, 0);
    disputed(&blank);
    // A field that only devices have is only read there.
    assert_eq!(one(&before(&[], Block::file("h", b"").field(329, b"zzzzzzz\0"))).device, (0, 0));
    assert!(refusal(&before(&[], Block::new("h", b'3').field(329, b"zzzzzzz\0"))).contains("major number"));
    let device = one(&before(&[], Block::new("h", b'4').field(329, b"0000010\0").field(337, b"0000003\0")));
    assert_eq!((device.kind, device.device), (Kind::BlockDevice, (8, 3)));
}

#[test]
fn a_prefix_belongs_to_ustar_alone() {
    let with = |magic: &[u8; 8]| before(&[], Block::file("name", b"").magic(magic).field(345, b"dir"));
    assert_eq!(names(&with(b"ustar\x0000")), ["dir/name"]);
    for magic in [b"ustar  \0", b"\0\0\0\0\0\0\0\0"] {
        assert_eq!(names(&with(magic)), ["name"]);
        disputed(&with(magic));
    }
    assert_eq!(names(&with(b"ustar00\0")), ["dir/name"]);
    disputed(&with(b"ustar00\0"));
}

#[test]
fn names_need_not_be_text() {
    let bytes = before(&long_bytes(b"\xff\xfe/\xc0"), Block::file("h", b""));
    assert_eq!(one(&bytes).path, b"\xff\xfe/\xc0");
    let cut = before(&long_bytes(b"abc\0def"), Block::file("h", b""));
    assert_eq!(one(&cut).path, b"abc");
}

fn long_bytes(name: &[u8]) -> Vec<u8> {
    [Block::new("././@LongLink", b'L').size(name.len() as u64).header(), archive::padded(name)].concat()
}

#[test]
fn a_wrong_checksum_is_refused_wherever_it_is() {
    let mut bytes = [Block::file("a", b"x").bytes(), Block::file("b", b"x").bytes(), END.to_vec()].concat();
    bytes[1024] ^= 1;
    assert!(refusal(&bytes).contains("at byte 1024: the header's checksum is wrong"));
    let signed = Block::file("caf\u{e9}", b"").with_signed_checksum();
    assert_eq!(names(&before(&[], signed)), ["caf\u{e9}"]);
}

#[test]
fn the_archive_ends_at_the_first_zero_block() {
    let a = Block::file("a", b"x").bytes();
    let lone = [&a[..], &[0; 512], &a, &END].concat();
    assert_eq!(names(&lone), ["a"]);
    disputed(&lone);
    let half = [&a[..], &[0; 512]].concat();
    assert_eq!(names(&half), ["a"]);
    disputed(&half);
    assert_eq!(names(&[&a[..], &END, b"anything at all"].concat()), ["a"]);
    let mut archive = Archive::new(&a[..], Limits::default());
    while archive.next().unwrap().is_some() {}
    assert_eq!(archive.end(), Some(End::NoMarker));
}

#[test]
fn a_truncated_archive_is_refused_at_every_byte_inside_an_entry() {
    let bytes =
        [extended(&[record("path", "long")]), Block::file("a", &[7; 1000]).bytes(), Block::file("b", b"x").bytes()]
            .concat();
    let whole = [0, 2560, bytes.len()];
    for cut in 0..bytes.len() {
        if whole.contains(&cut) {
            continue;
        }
        let message = format!("{:#}", entries(&bytes[..cut], false).unwrap_err());
        assert!(message.contains("truncated") || message.contains("ends after an extended header"), "{cut}: {message}");
    }
}

#[test]
fn padding_and_marker_may_be_missing_only_where_a_digest_vouches() {
    let bytes = [Block::file("a", b"x").bytes(), Block::file("b", b"hello").header(), b"hello".to_vec()].concat();
    let read = |bytes: &[u8], strict: bool| {
        let mut archive = Archive::new(bytes, Limits { strict, ..Limits::default() }).vouched_for();
        let mut content = String::new();
        while archive.next()?.is_some() {
            archive.content().read_to_string(&mut content)?;
        }
        anyhow::Ok((content, archive.end()))
    };
    assert_eq!(read(&bytes, false).unwrap(), ("xhello".to_owned(), Some(End::NoMarker)));
    assert!(format!("{:#}", read(&bytes, true).unwrap_err()).contains("padding is missing"));
    assert!(format!("{:#}", read(&bytes[..bytes.len() - 1], false).unwrap_err()).contains("truncated"));
    assert!(format!("{:#}", read(&[&bytes[..], &[0; 99]].concat(), false).unwrap_err()).contains("truncated"));
    assert!(refusal(&bytes).contains("truncated"));
    let whole = Block::file("a", b"x").bytes();
    let mut demanding = Archive::new(&whole[..], Limits::default()).demanding_a_marker();
    assert!(demanding.next().unwrap().is_some());
    let error = demanding.next().unwrap_err();
    assert!(format!("{error:#}").contains("truncated: the archive ends at byte 1024 without its end marker"));
    assert!(error.downcast_ref::<chain::Hint>().unwrap().0.contains("append the marker"));
}

#[test]
fn budgets_have_their_own_messages() {
    let limits = Limits { name: 10, pax: 100, segments: 2, bytes: 5000, ..Limits::default() };
    let message = |bytes: &[u8]| {
        let mut archive = Archive::new(bytes, limits.clone());
        loop {
            match archive.next() {
                Ok(Some(_)) => {}
                Ok(None) => panic!("accepted"),
                Err(error) => return (format!("{error:#}"), error.downcast_ref::<chain::Hint>().unwrap().0.clone()),
            }
        }
    };
    let cases = [
        (before(&long("elevenbytes"), Block::file("h", b"")), "bytes of a name: more than", "--limit name"),
        (before(&[], Block::file("elevenbytes", b"")), "bytes of a name: more than 10", "--limit name"),
        (
            before(&extended(&[record("comment", &"x".repeat(100))]), Block::file("h", b"")),
            "extended header: more than 100",
            "--limit pax",
        ),
        (
            before(
                &extended(&[record("GNU.sparse.size", "6000"), record("GNU.sparse.map", "")]),
                Block::file("h", b""),
            ),
            "bytes of a sparse file: more than 5000",
            "--limit bytes",
        ),
        (
            before(
                &extended(&[record("GNU.sparse.size", "9"), record("GNU.sparse.map", "0,1,2,1,4,1")]),
                Block::file("h", b"abc"),
            ),
            "segments of a sparse file: more than 2",
            "--limit sparse",
        ),
    ];
    for (bytes, what, option) in cases {
        let (text, hint) = message(&bytes);
        assert!(text.contains(what), "{text}");
        assert!(hint.contains(option), "{hint}");
    }
}

#[test]
fn the_two_spellings_of_extended_attributes_are_one() {
    let records = [
        record("LIBARCHIVE.xattr.user.a%20b", "aGVsbG8="),
        record("SCHILY.xattr.user.c%3Dd", "one\ntwo"),
        record("LIBARCHIVE.xattr.user.c%3Dd", "b3RoZXI="),
        record("SCHILY.acl.access", "user::rw-"),
        record("SCHILY.acl.default", "user::rwx"),
    ];
    let entry = one(&before(&extended(&records), Block::file("h", b"")));
    let xattrs = [(b"user.a b".to_vec(), b"hello".to_vec()), (b"user.c=d".to_vec(), b"one\ntwo".to_vec())];
    assert_eq!(entry.xattrs, xattrs);
    assert_eq!(entry.acl_access.as_deref(), Some(&b"user::rw-"[..]));
    assert_eq!(entry.acl_default.as_deref(), Some(&b"user::rwx"[..]));
}

#[test]
fn long_link_targets_replace_short_ones() {
    let target = "t/".repeat(150);
    let bytes = before(&long_link(&target), Block::new("l", b'2').link("short"));
    assert_eq!(one(&bytes).link, target.as_bytes());
    let pax = before(&extended(&[record("linkpath", &target)]), Block::new("l", b'1').link("short"));
    assert_eq!(one(&pax).link, target.as_bytes());
    assert!(refusal(&before(&[], Block::new("l", b'2'))).contains("target is empty"));
    assert_eq!(one(&before(&long_link("x"), Block::file("f", b""))).link, b"");
}
