//! Archives that want out of their root.

mod archive;
mod scene;

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use archive::{Block, END, extended, record};
use scene::{Scene, has, is_root, skip, text};

fn archive(blocks: &[Block]) -> Vec<u8> {
    let mut bytes: Vec<u8> = blocks.iter().flat_map(Block::bytes).collect();
    bytes.extend(END);
    bytes
}

fn dir(name: &str) -> Block {
    Block::new(name, b'5').mode(0o755)
}

fn symlink(name: &str, target: &str) -> Block {
    Block::new(name, b'2').link(target)
}

fn hard_link(name: &str, target: &str) -> Block {
    Block::new(name, b'1').link(target)
}

/// The place in the root that an absolute path names there.
fn rerooted(root: &Path, path: &str) -> std::path::PathBuf {
    root.join(path.trim_start_matches('/'))
}

#[test]
fn names_with_dot_dot_are_refused() {
    for name in ["../outside/x", "a/../../outside/x", "..", "a/..", "/../x", "./../x"] {
        let scene = Scene::new();
        let message = scene.refused(&archive(&[Block::file(name, b"x")]), &[]);
        assert!(message.contains("'..'"), "{message}");
    }
    let scene = Scene::new();
    scene.refused(&archive(&[Block::file("a", b"x"), hard_link("b", "../outside/canary")]), &[]);
}

/// What would clear the screen, rename the window, send the cursor back or begin another message.
#[test]
fn what_an_image_is_named_cannot_drive_the_terminal() {
    for name in [
        "../\x1b[2J",
        "../\x1b]0;owned\x07",
        "../a\runpack: all is well",
        "../a\nunpack: hint: run this",
        "../\u{9b}2J",
    ] {
        let scene = Scene::new();
        let message = scene.refused(&archive(&[Block::file(name, b"x")]), &[]);
        let lines = message.lines().count();
        assert!(lines == 1 || lines == 2 && message.contains("\nunpack: hint: "), "{message:?}");
        assert!(!message.trim_end().chars().any(|c| c.is_control() && c != '\n'), "{message:?}");
        assert!(!message.contains("\nunpack: hint: run this"), "{message:?}");
    }
}

#[test]
fn absolute_names_are_taken_from_the_root_and_counted() {
    let scene = Scene::new();
    scene.write("img.tar", &archive(&[Block::file("/etc/x", b"x"), Block::file("//y", b"y")]));
    let output = scene.unpack(&["img.tar", "root"]);
    assert!(output.status.success());
    assert!(text(&output.stderr).contains("2 absolute names"), "{}", text(&output.stderr));
    assert_eq!(fs::read(scene.path("root/etc/x")).unwrap(), b"x");
    assert_eq!(fs::read(scene.path("root/y")).unwrap(), b"y");
}

#[test]
fn writing_through_a_symlink_stays_inside() {
    let scene = Scene::new();
    let outside = scene.outside();
    let relative = "../../../../../../../../../../outside";
    let root = scene.extracted(
        &archive(&[
            symlink("absolute", &outside),
            symlink("relative", relative),
            symlink("self", "."),
            Block::file("absolute/canary", b"dead"),
            Block::file("relative/canary", b"dead"),
            Block::file("self/self/self/plain", b"p"),
            dir("absolute/new/dir"),
        ]),
        &[],
    );
    scene.untouched();
    assert_eq!(fs::read(rerooted(&root, &outside).join("canary")).unwrap(), b"dead");
    assert_eq!(fs::read(root.join("outside/canary")).unwrap(), b"dead");
    assert_eq!(fs::read(root.join("plain")).unwrap(), b"p");
    assert!(rerooted(&root, &outside).join("new/dir").is_dir());
}

#[test]
fn a_loop_of_symlinks_is_refused() {
    let scene = Scene::new();
    let message = scene.refused(&archive(&[symlink("a", "b"), symlink("b", "a"), Block::file("a/x", b"x")]), &[]);
    assert!(message.contains("symbolic links"), "{message}");
}

#[test]
fn links_of_proc_are_not_followed() {
    let scene = Scene::new();
    let root = scene
        .extracted(&archive(&[symlink("door", "/proc/self/cwd"), Block::file("door/outside/canary", b"dead")]), &[]);
    assert_eq!(fs::read(root.join("proc/self/cwd/outside/canary")).unwrap(), b"dead");
}

#[test]
fn the_root_is_a_directory_whatever_the_archive_says() {
    let scene = Scene::new();
    let outside = scene.outside();
    for name in [".", "./", "/", "./."] {
        let message = scene.refused(&archive(&[symlink(name, &outside), Block::file("canary", b"dead")]), &[]);
        assert!(message.contains("root"), "{message}");
    }
    scene.refused(&archive(&[hard_link(".", "a")]), &[]);
}

#[test]
fn a_directory_that_becomes_a_symlink_is_not_written_to_by_its_old_name() {
    let scene = Scene::new();
    let outside = scene.outside();
    let root = scene.extracted(
        &archive(&[
            dir("d"),
            Block::file("d/sub/before", b"b"),
            symlink("d", &outside),
            Block::file("d/sub/after", b"a"),
            Block::file("d/canary", b"dead"),
        ]),
        &[],
    );
    assert!(fs::symlink_metadata(root.join("d")).unwrap().is_symlink());
    assert_eq!(fs::read(rerooted(&root, &outside).join("sub/after")).unwrap(), b"a");
    assert!(!rerooted(&root, &outside).join("sub/before").exists());
}

#[test]
fn a_symlink_that_becomes_another_leads_where_it_leads_now() {
    let scene = Scene::new();
    let root = scene.extracted(
        &archive(&[
            dir("one"),
            dir("two"),
            symlink("l", "one"),
            Block::file("l/a", b"a"),
            symlink("l", "two"),
            Block::file("l/b", b"b"),
        ]),
        &[],
    );
    assert!(root.join("one/a").exists() && root.join("two/b").exists() && !root.join("one/b").exists());
}

#[test]
fn hard_links_reach_nothing_outside() {
    let scene = Scene::new();
    let outside = scene.outside();
    for target in [format!("{outside}/canary"), "l/canary".to_owned(), "missing".to_owned()] {
        let message = scene.refused(&archive(&[symlink("l", &outside), hard_link("h", &target)]), &[]);
        assert!(message.contains("hard link to"), "{message}");
    }
    let message = scene.refused(&archive(&[dir("d"), hard_link("h", "d")]), &[]);
    assert!(message.contains("directory"), "{message}");
}

#[test]
fn a_hard_link_to_a_symlink_is_the_symlink_again() {
    let scene = Scene::new();
    let canary = format!("{}/canary", scene.outside());
    let root = scene.extracted(&archive(&[symlink("s", &canary), hard_link("h", "s")]), &[]);
    let (s, h) = (fs::symlink_metadata(root.join("s")).unwrap(), fs::symlink_metadata(root.join("h")).unwrap());
    assert!(h.is_symlink() && s.ino() == h.ino());
}

#[test]
fn hard_links_may_come_before_their_target_or_name_themselves() {
    let scene = Scene::new();
    let root = scene.extracted(
        &archive(&[
            hard_link("d/first", "z"),
            hard_link("second", "d/first"),
            Block::file("z", b"z"),
            hard_link("z", "z"),
        ]),
        &[],
    );
    let inode = |name: &str| fs::metadata(root.join(name)).unwrap().ino();
    assert!(inode("z") == inode("d/first") && inode("z") == inode("second"));
    assert_eq!(fs::read(root.join("z")).unwrap(), b"z");
}

#[test]
fn metadata_is_never_set_through_a_symlink() {
    let scene = Scene::new();
    let canary = format!("{}/canary", scene.outside());
    let records = [
        record("mtime", "77"),
        record("SCHILY.xattr.user.test", "evil"),
        record("SCHILY.acl.access", "user::rwx,group::rwx,other::rwx"),
    ];
    let with = |block: Block| [extended(&records), block.bytes()].concat();
    let bytes = [
        with(symlink("link", &canary).mode(0o777).uid(12345)),
        with(hard_link("again", "link").mode(0o777).uid(12345)),
        symlink("file", &canary).bytes(),
        with(Block::file("file", b"x").mode(0o4777)),
        symlink("dir", &scene.outside()).bytes(),
        with(dir("dir").mode(0o777)),
        symlink("fifo", &canary).bytes(),
        with(Block::new("fifo", b'6').mode(0o666)),
        END.to_vec(),
    ]
    .concat();
    let root = scene.extracted(&bytes, &[]);
    scene.untouched();
    assert!(fs::symlink_metadata(root.join("link")).unwrap().is_symlink());
    assert_eq!(fs::symlink_metadata(root.join("link")).unwrap().mtime(), 77);
    assert!(fs::symlink_metadata(root.join("file")).unwrap().is_file());
    assert!(fs::symlink_metadata(root.join("dir")).unwrap().is_dir());
}

#[test]
fn a_file_over_a_fifo_or_device_replaces_it() {
    let scene = Scene::new();
    let null = Block::new("null", b'3').field(329, b"0000001\0").field(337, b"0000003\0");
    let root = scene.extracted(
        &archive(&[Block::new("fifo", b'6'), Block::file("fifo", b"f"), null, Block::file("null", b"n")]),
        &[],
    );
    assert_eq!(fs::read(root.join("fifo")).unwrap(), b"f");
    assert_eq!(fs::read(root.join("null")).unwrap(), b"n");
}

#[test]
fn only_harmless_devices_are_made_unless_asked_for() {
    let scene = Scene::new();
    let device = |name: &str, kind, major: &str, minor: &str| {
        Block::new(name, kind).field(329, major.as_bytes()).field(337, minor.as_bytes())
    };
    let bytes = archive(&[
        device("null", b'3', "0000001\0", "0000003\0"),
        device("mem", b'3', "0000001\0", "0000001\0"),
        device("disk", b'4', "0000376\0", "0000000\0"),
        device("block-like-null", b'4', "0000001\0", "0000003\0"),
    ]);
    scene.write("img.tar", &bytes);
    let output = scene.unpack(&["img.tar", "root"]);
    assert!(output.status.success());
    let made = |name: &str| fs::symlink_metadata(scene.path(&format!("root/{name}"))).is_ok();
    assert!(!made("mem") && !made("disk") && !made("block-like-null"));
    let skipped = if is_root() { "3 devices not made" } else { "4 devices not made" };
    assert!(text(&output.stderr).contains(skipped), "{}", text(&output.stderr));
    if !is_root() {
        return skip("only root makes devices");
    }
    assert!(fs::metadata(scene.path("root/null")).unwrap().file_type().is_char_device());
    assert!(scene.unpack(&["--devices", "img.tar", "all"]).status.success());
    assert!(fs::metadata(scene.path("all/disk")).unwrap().file_type().is_block_device());
}

/// NAME_MAX is 255, and what a symlink may hold is one less than PATH_MAX.
#[test]
fn names_as_long_as_the_filesystem_takes_are_made_and_paths_may_be_longer_than_any_call_takes() {
    let scene = Scene::new();
    let (name, target) = ("n".repeat(255), "t".repeat(4095));
    let path = vec![name.as_str(); 20].join("/");
    let bytes = [
        archive::long(&path),
        Block::file("x", b"deep").bytes(),
        archive::long(&format!("{}link", &path[..path.len() - 255])),
        archive::long_link(&path),
        hard_link("y", "x").bytes(),
        archive::long_link(&target),
        symlink("symlink", "y").bytes(),
        END.to_vec(),
    ]
    .concat();
    let root = scene.extracted(&bytes, &[]);
    assert_eq!(fs::read_link(root.join("symlink")).unwrap().as_os_str().len(), 4095);
    let mut at: std::os::fd::OwnedFd = fs::File::open(&root).unwrap().into();
    for _ in 0..19 {
        at = rustix::fs::openat(&at, name.as_str(), rustix::fs::OFlags::DIRECTORY, rustix::fs::Mode::empty()).unwrap();
    }
    let file = rustix::fs::statat(&at, name.as_str(), rustix::fs::AtFlags::empty()).unwrap();
    assert_eq!((file.st_size, file.st_nlink), (4, 2));
    drop(at);
    assert!(scene.unpack(&["--replace", "img.tar", "root"]).status.success());
    assert!(std::process::Command::new("rm").arg("-rf").arg(&root).status().unwrap().success());
}

fn nested(depth: usize) -> Vec<u8> {
    let path = vec!["d"; depth].join("/");
    [archive::long(&format!("{path}/file")), Block::file("x", b"deep").bytes(), END.to_vec()].concat()
}

/// Beyond PATH_MAX; the long form goes as far as anybody asks.
#[test]
fn ten_thousand_nested_directories_are_a_budget_and_no_limit_of_ours() {
    let depth = std::env::var("UNPACK_TEST_DEPTH").ok().and_then(|n| n.parse().ok()).unwrap_or(2_500);
    let scene = Scene::new();
    let message = scene.refused(&nested(10_000), &[]);
    assert!(message.contains("--limit depth"), "{message}");
    let root = scene.extracted(&nested(depth), &["--limit", &format!("depth={}", depth + 1)]);
    let mut at: std::os::fd::OwnedFd = fs::File::open(&root).unwrap().into();
    let flags = rustix::fs::OFlags::DIRECTORY;
    for _ in 0..depth {
        at = rustix::fs::openat(&at, c"d", flags, rustix::fs::Mode::empty()).unwrap();
        let stat = rustix::fs::fstat(&at).unwrap();
        assert_eq!((stat.st_mode & 0o7777, stat.st_mtime), (0o755, 0));
    }
    assert!(rustix::fs::statat(&at, c"file", rustix::fs::AtFlags::empty()).is_ok());
    drop(at);
    let digest = scene.unpack(&["--limit", "depth=20000", "--digest", "img.tar", "root"]);
    assert!(digest.status.success(), "{}", text(&digest.stderr));
    let again = scene.unpack(&["--limit", "depth=20000", "--replace", "img.tar", "root"]);
    assert!(again.status.success(), "{}", text(&again.stderr));
    scene.nothing_staged();
    let rm = std::process::Command::new("rm").arg("-rf").arg(&root).status().unwrap();
    assert!(rm.success());
}

#[test]
fn names_that_differ_in_case_or_unicode_form_are_different_files() {
    let scene = Scene::new();
    let names = ["a", "A", "\u{e9}", "e\u{301}", "\u{212b}", "\u{c5}"];
    let blocks: Vec<_> = names.iter().map(|name| Block::file(name, name.as_bytes())).collect();
    let root = scene.extracted(&archive(&blocks), &[]);
    for name in names {
        assert_eq!(fs::read(root.join(name)).unwrap(), name.as_bytes());
    }
    let raw = std::ffi::OsStr::from_bytes(b"\xff\xfe");
    let scene = Scene::new();
    let root = scene.extracted(&archive(&[Block::file("xx", b"x").field(0, raw.as_bytes())]), &[]);
    assert_eq!(fs::read(root.join(raw)).unwrap(), b"x");
}

#[test]
fn many_entries_are_a_budget() {
    let count = std::env::var("UNPACK_TEST_ENTRIES").ok().and_then(|n| n.parse().ok()).unwrap_or(20_000);
    let scene = Scene::new();
    let mut bytes = Vec::new();
    for i in 0..count {
        bytes.extend(Block::file(&format!("d{}/f{i}", i / 1000), b"").bytes());
    }
    bytes.extend(END);
    let message = scene.refused(&bytes, &["--limit", &format!("entries={}", count - 1)]);
    assert!(message.contains("--limit entries"), "{message}");
    let root = scene.extracted(&bytes, &[]);
    assert!(root.join(format!("d{}/f{}", (count - 1) / 1000, count - 1)).exists());
    let message = Scene::new().refused(&archive(&[Block::file("x", &[1; 2048])]), &["--limit", "bytes=2047"]);
    assert!(message.contains("--limit bytes"), "{message}");
}

/// 1969 and 1901 are times as well.
#[test]
fn times_before_1970_are_set() {
    let scene = Scene::new();
    let early = |name: &str, time: &str| [extended(&[record("mtime", time)]), Block::file(name, b"x").bytes()].concat();
    let root = scene.extracted(&[early("a", "-1"), early("b", "-2147483648.25"), END.to_vec()].concat(), &[]);
    let time = |name: &str| fs::metadata(root.join(name)).map(|m| (m.mtime(), m.mtime_nsec())).unwrap();
    assert_eq!(time("a"), (-1, 0));
    // Filesystems of 128-byte inodes have no earlier ones: this is one that all of them have, rounded perhaps.
    assert!((-2_147_483_649..=-2_147_483_648).contains(&time("b").0), "{:?}", time("b"));
}

/// A setuid file of the user who extracts it: another's would lose the bit with its owner.
fn setuid() -> Block {
    Block::file("su", b"#!").mode(0o4755).uid(rustix::process::geteuid().as_raw().into())
}

/// A setuid file is in a directory that only its owner enters until all is done.
#[test]
fn nobody_else_reaches_setuid_files_meanwhile() {
    use std::io::Write;
    let scene = Scene::new();
    let mut child = scene.spawn_piped(&["-", "root"]);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&setuid().bytes()).unwrap();
    // More than every buffer between us holds, so the first entry is made when this is written.
    let filler = vec![7; 64 << 20];
    stdin.write_all(&Block::file("filler", &filler).bytes()).unwrap();
    let staged = scene.staged();
    assert_eq!(staged.len(), 1);
    assert_eq!(fs::metadata(&staged[0]).unwrap().permissions().mode() & 0o7777, 0o700);
    assert!(staged[0].join("root/su").exists());
    assert!(!scene.path("root").exists());
    stdin.write_all(&END).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(fs::metadata(scene.path("root/su")).unwrap().mode() & 0o7777, 0o4755);
}

#[test]
fn setuid_files_that_others_can_run_are_told_of() {
    let base = Path::new("/var/tmp");
    if !base.ancestors().all(|dir| fs::metadata(dir).is_ok_and(|m| m.mode() & 1 != 0)) {
        return skip("/var/tmp is not for everybody here");
    }
    let scene = Scene::below(base);
    let open = |mode| fs::set_permissions(scene.path(""), fs::Permissions::from_mode(mode)).unwrap();
    open(0o755);
    let bytes = archive(&[setuid()]);
    scene.write("img.tar", &bytes);
    let output = scene.unpack(&["img.tar", "root"]);
    let stderr = text(&output.stderr);
    assert!(stderr.contains(": 1 setuid or setgid file that other") && stderr.contains("hint: "), "{stderr}");
    // A file capability (capabilities(7): version 2, CAP_NET_BIND_SERVICE) is not a setuid bit.
    let capability = "\u{1}\0\0\u{2}\0\u{4}\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let bind =
        [extended(&[record("SCHILY.xattr.security.capability", capability)]), Block::file("bind", b"#!").bytes()];
    scene.write("both.tar", &[bind.concat(), setuid().bytes(), END.to_vec()].concat());
    scene.write("one.tar", &[bind.concat(), END.to_vec()].concat());
    for (image, told) in [
        ("both.tar", "1 setuid or setgid file and 1 file with capabilities"),
        ("one.tar", ": 1 file with capabilities"),
    ] {
        let stderr = text(&scene.unpack(&["--replace", image, "root"]).stderr);
        // Who is not root cannot give a file capabilities.
        assert!(!is_root() || stderr.contains(&format!("{told} that other users")), "{stderr}");
        assert_eq!(stderr.contains("setuid"), image == "both.tar", "{stderr}");
    }
    open(0o700);
    let output = scene.unpack(&["--replace", "img.tar", "root"]);
    assert!(!text(&output.stderr).contains("setuid"));
}

/// Somebody with our rights swaps directories for symlinks while we extract.
#[test]
fn a_concurrent_swapper_gains_nothing() {
    let rounds = std::env::var("UNPACK_TEST_SWAPS").ok().and_then(|n| n.parse().ok()).unwrap_or(5);
    if !has("tar") {
        return skip("no tar");
    }
    let mut all = 0;
    for _ in 0..rounds {
        let scene = Scene::new();
        let outside = scene.outside();
        let mut blocks = Vec::new();
        for i in 0..1500 {
            // Replacing a link makes every open directory be looked up again.
            blocks.push(symlink("link", &i.to_string()));
            blocks.push(Block::file(&format!("d{}/e/f{i}", i % 3), b"x").mode(0o666).uid(i));
            blocks.push(dir(&format!("d{}/e", i % 3)).mode(0o700));
        }
        scene.write("img.tar", &archive(&blocks));
        let mut child = scene.command(&["-q", "img.tar", "root"]).stderr(std::process::Stdio::null()).spawn().unwrap();
        let mut swaps = 0;
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                assert!(matches!(status.code(), Some(0 | 125)), "{status}");
                break;
            }
            for staged in scene.staged() {
                for i in 0..3 {
                    let (d, aside) = (staged.join(format!("root/d{i}")), staged.join(format!("root/aside{i}")));
                    if fs::rename(&d, &aside).is_ok() {
                        swaps += usize::from(std::os::unix::fs::symlink(&outside, &d).is_ok());
                        let _ = fs::remove_file(&d);
                        let _ = fs::rename(&aside, &d);
                    }
                }
            }
        }
        scene.untouched();
        assert!(swaps > 0, "it was over before the first swap");
        all += swaps;
    }
    eprintln!("{rounds} extractions, {all} swaps");
}
