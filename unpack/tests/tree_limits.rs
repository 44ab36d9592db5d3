//! What a filesystem cannot hold, or would act on, is left out and counted, and no mode is wider for it.

mod archive;
mod scene;

use std::fs;
use std::os::unix::fs::MetadataExt;

use archive::layout::docker;
use archive::{Block, END, extended, long, long_link, record};
use scene::{Scene, is_root, skip, text};
use serde_json::Value;

fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
    [entries.concat(), END.to_vec()].concat()
}

fn with(records: &[(&str, &str)], entry: &Block) -> Vec<u8> {
    let records: Vec<String> = records.iter().map(|(key, value)| record(key, value)).collect();
    [extended(&records), entry.bytes()].concat()
}

fn names(root: &std::path::Path, name: &str) -> Vec<String> {
    let mut names = vec![0; 65536];
    let length = rustix::fs::llistxattr(root.join(name), &mut names[..]).unwrap();
    names[..length].split(|&b| b == 0).filter(|n| !n.is_empty()).map(text).collect()
}

/// How many of a kind the receipt counts, and that the first is named.
fn counted(scene: &Scene, kind: &str, number: u64, first: &str) {
    let receipt: Value = serde_json::from_slice(&fs::read(scene.path("root.image.json")).unwrap()).unwrap();
    let entry = &receipt["skipped"][kind];
    assert_eq!(entry["number"], number, "{kind} in {}", receipt["skipped"]);
    assert_eq!(entry["first"][0], first, "{kind} in {}", receipt["skipped"]);
}

fn mode(root: &std::path::Path, name: &str) -> u32 {
    fs::symlink_metadata(root.join(name)).unwrap().mode() & 0o7777
}

#[test]
fn attributes_that_the_filesystem_cannot_hold_are_counted() {
    let scene = Scene::new();
    let file = Block::file("f", b"x");
    let large = "v".repeat(70_000);
    let name = format!("SCHILY.xattr.user.{}", "n".repeat(300));
    let bytes = archive(&[with(
        &[
            ("SCHILY.xattr.user.large", &large),
            (&name, "x"),
            ("SCHILY.xattr.user.", "without a name"),
            ("SCHILY.xattr.nothing.like.it", "x"),
            ("SCHILY.xattr.security.capability", "no capability"),
            ("SCHILY.xattr.user.fine", "x"),
        ],
        &file,
    )]);
    let root = scene.extracted(&bytes, &[]);
    assert_eq!(names(&root, "f"), ["user.fine"]);
    counted(&scene, "xattrs", 5, "f");
}

/// ext4 says ENOSPC of one too many, which a full disk says as well.
#[test]
fn more_attributes_than_fit_are_counted() {
    let scene = Scene::new();
    let value = "v".repeat(3000);
    let records: Vec<(String, &str)> = (0..40).map(|i| (format!("SCHILY.xattr.user.n{i}"), value.as_str())).collect();
    let records: Vec<(&str, &str)> = records.iter().map(|(key, value)| (key.as_str(), *value)).collect();
    let root = scene.extracted(&archive(&[with(&records, &Block::file("f", b"x"))]), &[]);
    let kept = names(&root, "f").len() as u64;
    if kept == 40 {
        return skip("this filesystem holds forty attributes of 3000 bytes");
    }
    counted(&scene, "xattrs", 40 - kept, "f");
}

#[test]
fn names_that_the_filesystem_cannot_hold_are_left_out_with_all_below_them() {
    let name = "n".repeat(256);
    let scene = Scene::new();
    let bytes = archive(&[
        [long(&name), Block::file("f", b"x").bytes()].concat(),
        [long(&format!("{name}/below")), Block::file("f", b"x").bytes()].concat(),
        [long(&format!("d/{name}")), Block::new("d", b'5').bytes()].concat(),
        [long(&name), Block::new("l", b'2').link("x").bytes()].concat(),
        Block::file("kept", b"kept").bytes(),
        [long(&name), Block::new("h", b'1').link("kept").bytes()].concat(),
        [long_link(&name), Block::new("h", b'1').bytes()].concat(),
        [long_link(&"t".repeat(4096)), Block::new("l", b'2').bytes()].concat(),
        Block::file("last", b"last").bytes(),
    ]);
    let root = scene.extracted(&bytes, &[]);
    let mut found: Vec<_> = fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    found.sort();
    assert_eq!(found, ["kept", "last"]);
    counted(&scene, "names_too_long", 7, &name);
}

/// A whiteout is longer than what it hides.
#[test]
fn a_whiteout_of_the_longest_name_works() {
    let name = "n".repeat(255);
    let base = archive(&[[long(&name), Block::file("f", b"x").bytes()].concat()]);
    let top = archive(&[[long(&format!(".wh.{name}")), Block::file("w", b"").bytes()].concat()]);
    let image = docker("x:1", &[base, top], &["0/layer.tar".into(), "1/layer.tar".into()]);
    let root = Scene::new();
    assert_eq!(fs::read_dir(root.extracted(&image.tar(), &[])).unwrap().count(), 0);
}

#[test]
fn what_overlayfs_keeps_for_itself_is_left_out() {
    let scene = Scene::new();
    let bytes = archive(&[
        with(&[("SCHILY.xattr.trusted.overlay.opaque", "y")], &Block::new("d", b'5')),
        with(
            &[("SCHILY.xattr.user.overlay.metacopy", ""), ("SCHILY.xattr.user.overlay.overlay.x", "y")],
            &Block::file("d/f", b"x"),
        ),
        with(&[("LIBARCHIVE.xattr.trusted.overlay.whiteout", "eQ==")], &Block::file("g", b"")),
        with(&[("SCHILY.xattr.user.overlayed", "no")], &Block::file("h", b"")),
    ]);
    let root = scene.extracted(&bytes, &[]);
    let none: [String; 0] = [];
    assert_eq!(
        (names(&root, "d"), names(&root, "d/f"), names(&root, "g")),
        (none.to_vec(), none.to_vec(), none.to_vec())
    );
    assert_eq!(names(&root, "h"), ["user.overlayed"]);
    counted(&scene, "overlay_attributes", 4, "d");
}

/// The group bits of a mode under an ACL are its mask: without the ACL they must not be the group's.
#[test]
fn an_acl_that_cannot_be_set_widens_no_mode() {
    let scene = Scene::new();
    let acl =
        |kind, name: &str, mode, acl: &str| with(&[("SCHILY.acl.access", acl)], &Block::new(name, kind).mode(mode));
    let bytes = archive(&[
        acl(b'0', "no-mask", 0o640, "user::rw-,user:daemon:rw-:1,group::r--,other::---"),
        acl(b'0', "group-below-the-mask", 0o670, "user::rw-,user:5:rwx,group::---,other::---"),
        acl(b'0', "unknown-user", 0o674, "user::rw-,user:no such user:rwx,group::r--,mask::rwx,other::r--"),
        acl(b'5', "dir", 0o775, "user::rwx,user:5:rwx,group::r-x,other::r-x"),
        acl(b'6', "fifo", 0o660, "user::rw-,user:5:rw-,group::---,other::---"),
        acl(b'0', "nonsense", 0o640, "nonsense"),
    ]);
    let root = scene.extracted(&bytes, &[]);
    for (name, expected) in [
        ("no-mask", 0o640),
        ("group-below-the-mask", 0o600),
        ("unknown-user", 0o644),
        ("dir", 0o755),
        ("fifo", 0o600),
        ("nonsense", 0o640),
    ] {
        assert_eq!(mode(&root, name), expected, "{name}");
    }
    let receipt: Value = serde_json::from_slice(&fs::read(scene.path("root.image.json")).unwrap()).unwrap();
    assert_eq!(receipt["skipped"]["acls"]["number"], 6, "{}", receipt["skipped"]);
}

#[test]
fn a_valid_acl_is_set_and_its_mask_is_the_modes() {
    let scene = Scene::new();
    let acl = "user::rw-,user:5:rwx,group::---,mask::rwx,other::---";
    let root =
        scene.extracted(&archive(&[with(&[("SCHILY.acl.access", acl)], &Block::file("f", b"").mode(0o670))]), &[]);
    assert_eq!(mode(&root, "f"), 0o670);
    assert_eq!(names(&root, "f"), ["system.posix_acl_access"]);
}

#[test]
fn nfs_acls_are_counted() {
    let scene = Scene::new();
    scene.extracted(
        &archive(&[with(&[("SCHILY.acl.ace", "owner@:rw-p--aARWcCos:-------:allow")], &Block::file("f", b""))]),
        &[],
    );
    counted(&scene, "acls", 1, "f");
}

/// GNU tar's --selinux writes the label as a record of its own.
#[test]
fn a_selinux_label_is_the_attribute_that_it_means() {
    let scene = Scene::new();
    let label = "system_u:object_r:bin_t:s0";
    let root = scene.extracted(&archive(&[with(&[("RHT.security.selinux", label)], &Block::file("f", b""))]), &[]);
    let mut value = [0; 64];
    // Whether an ordinary user may set it is the kernel's to say.
    let Ok(length) = rustix::fs::lgetxattr(root.join("f"), "security.selinux", &mut value) else {
        assert!(!is_root());
        return counted(&scene, "xattrs", 1, "f");
    };
    assert_eq!(text(&value[..length]).trim_end_matches('\0'), label);
}

/// chown(2) takes it for "leave it", so nobody can own a file as this.
#[test]
fn an_owner_of_all_ones_is_the_caller_and_counted() {
    let scene = Scene::new();
    let bytes = archive(&[
        Block::file("header", b"").field(108, b"\x80\0\0\0\xff\xff\xff\xff").mode(0o4755).bytes(),
        with(&[("gid", "4294967295")], &Block::file("pax", b"")),
    ]);
    let root = scene.extracted(&bytes, &["--owner", "map"]);
    let owner = fs::metadata(&root).unwrap().uid();
    assert_eq!(fs::metadata(root.join("header")).unwrap().uid(), owner);
    assert_eq!(mode(&root, "header"), 0o755);
    // An ordinary user gives away no file at all.
    if is_root() {
        counted(&scene, "owners", 2, "header");
    }
    let message = Scene::new().refused(&bytes, &["--owner", "keep"]);
    assert!(message.contains("is not mapped here"), "{message}");
}
