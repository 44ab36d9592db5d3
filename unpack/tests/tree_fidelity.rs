//! Our tree beside GNU tar's of the same archive.

mod archive;
mod scene;
mod snapshot;

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Command;

use archive::{Block, END, extended, record};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, XattrFlags};
use scene::{Scene, has, is_root, skip, text};
use snapshot::What;

const ALL: What = What { holes: true, no_times: false, no_link_counts: false };

fn run(program: &str, args: &[&str], dir: &Path) {
    let output = Command::new(program).args(args).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", text(&output.stderr));
}

fn sh(script: &str, dir: &Path) {
    run("sh", &["-ec", script], dir);
}

fn set_time(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Some of everything that a root filesystem can hold.
fn build(tree: &Path) {
    fs::create_dir(tree).unwrap();
    sh(
        r"
        mkdir -p a/b/c 'sp ace' ro sticky setgid
        echo plain > a/file; printf '' > a/empty
        ln a/file a/b/hard; ln a/file zz-hard
        ln -s file a/link; ln -s /nowhere/at/all dangling; ln dangling dangling-hard
        ln -s $(printf 'x%.0s' $(seq 200)) long-link
        mkfifo fifo; mknod null c 1 3; mknod tty c 5 0
        for m in 0000 0400 0644 0755 1777 2755 4755 6711; do echo $m > mode-$m; chmod $m mode-$m; done
        echo x > owned; chown 1234:4321 owned; chown -h 77:88 dangling
        echo x > big-owner; chown 3000000:3000001 big-owner
        echo s > owned-setuid; chown 12:34 owned-setuid; chmod 6755 owned-setuid
        echo in > ro/in; chmod 0555 ro; chown 5:6 ro
        chmod 1777 sticky; chmod 2775 setgid; chgrp 50 setgid; echo i > setgid/inherits
        touch 'a/new
line' 'a/tab	x' ./-dash 'sp ace/x'
        d=$(printf 'n%.0s' $(seq 200)); mkdir -p $d/$d; echo long > $d/$d/$d
        ",
        tree,
    );
    fs::write(tree.join(std::ffi::OsStr::from_bytes(b"not-utf8-\xff\xfe")), "x").unwrap();
    let sparse = fs::File::create(tree.join("sparse")).unwrap();
    for at in [0_u64, 1 << 20, 5 << 20] {
        sparse.write_all_at(&[at as u8 + 1; 8192], at).unwrap();
    }
    sparse.set_len(9 << 20).unwrap();
    fs::File::create(tree.join("all-hole")).unwrap().set_len(3 << 20).unwrap();
    fs::write(tree.join("large"), (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>()).unwrap();

    let set = |name: &str, key: &str, value: &[u8]| {
        rustix::fs::lsetxattr(tree.join(name), key, value, XattrFlags::empty()).unwrap();
    };
    set("a/file", "user.one", b"1");
    set("a/file", "user.binary", b"\0\n=\xff");
    set("a", "user.dir", b"d");
    set("dangling", "trusted.link", b"l");
    set("mode-0755", "trusted.t", b"t");
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    set("mode-0755", "security.capability", &capability);
    set("big-owner", "security.capability", &capability);
    if has("setfacl") {
        sh("setfacl -m u:1234:rw,g:77:r owned; setfacl -d -m u:9:rwx a/b; setfacl -m u:9:rx a/b", tree);
    }
    for (i, name) in ["a/file", "a/link", "fifo", "null", "dangling", "sparse", "a/b", "ro", "a"].iter().enumerate() {
        set_time(&tree.join(name), 1_000_000_000 + i as i64, 123_456_789 + i as i64);
    }
    set_time(&tree.join("a/empty"), -1_000_000, 5);
    set_time(&tree.join("sticky"), 0, 1);
    set_time(tree, 1_234_567_890, 987_654_321);
}

#[test]
fn our_tree_is_gnu_tars_tree() {
    if !is_root() || !has("tar") {
        return skip("needs root and GNU tar");
    }
    for format in [
        "pax",
        "gnu",
        "oldgnu",
        "posix --sparse --sparse-version=0.0",
        "posix --sparse --sparse-version=0.1",
        "posix --sparse",
        "gnu --sparse",
    ] {
        let scene = Scene::below(Path::new("/var/tmp"));
        build(&scene.path("tree"));
        let pax = !format.contains("gnu");
        let more = if pax { "--xattrs --xattrs-include='*' --acls" } else { "" };
        sh(&format!("tar --format={format} {more} --no-selinux -cf img.tar -C tree . 2>/dev/null"), &scene.path(""));
        fs::create_dir(scene.path("theirs")).unwrap();
        sh("tar --xattrs --xattrs-include='*' --acls --no-selinux -xpf img.tar -C theirs", &scene.path(""));
        let output = scene.unpack(&["img.tar", "root"]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let (ours, theirs) = (snapshot::of(&scene.path("root"), ALL), snapshot::of(&scene.path("theirs"), ALL));
        assert!(ours.len() > 40);
        snapshot::same(&ours, &theirs);
        let receipt: serde_json::Value =
            serde_json::from_slice(&fs::read(scene.path("root.image.json")).unwrap()).unwrap();
        assert_eq!(receipt["skipped"], serde_json::json!({}), "{format}");
        // And the second extraction is the first.
        let again = scene.unpack(&["--replace", "img.tar", "root"]);
        assert!(again.status.success());
        snapshot::same(&snapshot::of(&scene.path("root"), ALL), &ours);
    }
}

#[test]
fn a_ustar_archive_and_a_pipe_give_the_same_tree() {
    if !is_root() || !has("tar") {
        return skip("needs root and GNU tar");
    }
    let scene = Scene::below(Path::new("/var/tmp"));
    let tree = scene.path("tree");
    fs::create_dir(&tree).unwrap();
    sh("mkdir -p a/b; echo x > a/b/f; ln a/b/f g; ln -s f a/b/l; mknod n c 1 3; chmod 700 a; chown 3:4 a/b", &tree);
    sh("tar --format=ustar -cf img.tar -C tree .; mkdir theirs; tar -xpf img.tar -C theirs", &scene.path(""));
    let bytes = fs::read(scene.path("img.tar")).unwrap();
    let output = scene.unpack_bytes(&bytes, &["-", "root"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    snapshot::same(&snapshot::of(&scene.path("root"), ALL), &snapshot::of(&scene.path("theirs"), ALL));
}

#[test]
fn directories_that_no_entry_speaks_of_have_a_fixed_mode_and_time() {
    let scene = Scene::new();
    let bytes = [Block::file("a/b/f", b"x").bytes(), END.to_vec()].concat();
    scene.write("img.tar", &bytes);
    let check = |epoch: Option<&str>, time: i64| {
        let mut command = scene.command(&["--replace", "img.tar", "root"]);
        command.env_remove("SOURCE_DATE_EPOCH");
        if let Some(epoch) = epoch {
            command.env("SOURCE_DATE_EPOCH", epoch);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        for name in ["root", "root/a", "root/a/b"] {
            let metadata = fs::metadata(scene.path(name)).unwrap();
            assert_eq!((metadata.mode() & 0o7777, metadata.mtime(), metadata.mtime_nsec()), (0o755, time, 0), "{name}");
        }
    };
    check(None, 0);
    check(Some("1700000000"), 1_700_000_000);
    let output = scene.command(&["--replace", "img.tar", "root"]).env("SOURCE_DATE_EPOCH", "noon").output().unwrap();
    assert_eq!(output.status.code(), Some(125));
}

#[test]
fn directory_times_hold_whatever_order_their_content_comes_in() {
    let scene = Scene::new();
    let time = |seconds: u32| format!("{seconds:011o}\0");
    let dir = |name: &str, seconds| Block::new(name, b'5').mode(0o755).field(136, time(seconds).as_bytes());
    let mut bytes = [dir("d", 1000).bytes(), dir("d/e", 2000).bytes()].concat();
    // More directories than are kept open, so that these are closed and opened again.
    for i in 0..1000 {
        bytes.extend(dir(&format!("x{i}"), 3000 + i).bytes());
        bytes.extend(Block::file(&format!("x{i}/f"), b"").bytes());
        bytes.extend(Block::file(&format!("d/e/f{i}"), b"").bytes());
    }
    bytes.extend(Block::file("d/f", b"").bytes());
    bytes.extend(Block::new("d/f", b'2').link("e").bytes());
    bytes.extend(END);
    let root = scene.extracted(&bytes, &[]);
    let seconds = |name: &str| fs::metadata(root.join(name)).unwrap().mtime();
    assert_eq!((seconds("d"), seconds("d/e"), seconds("")), (1000, 2000, 0));
    for i in 0..1000 {
        assert_eq!(seconds(&format!("x{i}")), 3000 + i64::from(i as u32));
    }
}

#[test]
fn setgid_directories_and_default_acls_pass_nothing_on() {
    let scene = Scene::new();
    let acl = extended(&[record("SCHILY.acl.default", "user::rwx,group::rwx,other::rwx")]);
    let mut bytes = [acl, Block::new("d", b'5').mode(0o2755).bytes()].concat();
    for i in 0..1000 {
        bytes.extend(Block::file(&format!("x{i}/f"), b"").bytes());
    }
    bytes.extend(Block::file("d/sub/f", b"x").mode(0o640).bytes());
    bytes.extend(END);
    let root = scene.extracted(&bytes, &[]);
    let mode = |name: &str| fs::metadata(root.join(name)).unwrap().mode() & 0o7777;
    assert_eq!((mode("d"), mode("d/sub"), mode("d/sub/f")), (0o2755, 0o755, 0o640));
}
