//! Layers upon layers, by the OCI image specification, and beside umoci.

mod archive;
mod entries;
mod layout;
mod scene;
mod snapshot;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use archive::{Block, END};
use entries::{Layer, dir, file, hard_link, packed, symlink, tree};
use layout::layout;
use scene::{Scene, has, is_root, skip, text};

fn base() -> Layer {
    vec![dir("d"), file("d/a", "1"), file("d/b", "1"), dir("d/e"), file("d/e/f", "1"), file("x", "1")]
}

#[test]
fn an_upper_layer_adds_and_replaces() {
    let scene = Scene::new();
    let names =
        tree(&scene, &[base(), vec![file("d/a", "2"), file("new", "2"), file("d/e", "2"), dir("x"), file("x/y", "2")]]);
    assert_eq!(names, ["d/", "d/a=2", "d/b=1", "d/e=2", "new=2", "x/", "x/y=2"]);
}

#[test]
fn a_whiteout_hides_a_file_or_a_whole_directory_of_lower_layers() {
    let scene = Scene::new();
    assert_eq!(
        tree(&scene, &[base(), vec![file("d/.wh.a", ""), file(".wh.x", "")]]),
        ["d/", "d/b=1", "d/e/", "d/e/f=1"]
    );
    assert_eq!(tree(&scene, &[base(), vec![file(".wh.d", ""), file("d/.wh.nothing", "")]]), ["x=1"]);
    assert_eq!(tree(&scene, &[base(), vec![file(".wh.d", "")], vec![file("d/new", "3")]]), ["d/", "d/new=3", "x=1"]);
}

#[test]
fn a_whiteout_spares_its_own_layer_wherever_it_stands() {
    let scene = Scene::new();
    let left = ["d/", "d/new=2", "x=2"];
    let whiteouts = [file(".wh.d", ""), file(".wh.x", "")];
    let new = [dir("d"), file("d/new", "2"), file("x", "2")];
    assert_eq!(tree(&scene, &[base(), [&whiteouts[..], &new].concat()]), left);
    assert_eq!(tree(&scene, &[base(), [&new[..], &whiteouts].concat()]), left);
    // Without an entry for the directory itself.
    let implied = [file("d/new", "2"), file("x", "2")];
    assert_eq!(tree(&scene, &[base(), [&implied[..], &whiteouts].concat()]), left);
    assert_eq!(tree(&scene, &[base(), [&whiteouts[..], &implied].concat()]), left);
}

#[test]
fn an_opaque_whiteout_hides_all_that_is_below_and_spares_its_own_layer() {
    let scene = Scene::new();
    let opaque = file("d/.wh..wh..opq", "");
    let left = ["d/", "d/e/", "d/e/new=2", "x=1"];
    assert_eq!(tree(&scene, &[base(), vec![dir("d"), opaque.clone(), file("d/e/new", "2")]]), left);
    assert_eq!(tree(&scene, &[base(), vec![file("d/e/new", "2"), dir("d"), opaque.clone()]]), left);
    assert_eq!(tree(&scene, &[base(), vec![dir("d/e"), file("d/e/new", "2"), opaque]]), left);
    assert_eq!(tree(&scene, &[base(), vec![file(".wh..wh..opq", ""), file("only", "2")]]), ["only=2"]);
    assert_eq!(tree(&scene, &[vec![file("a", "1"), file(".wh..wh..opq", "")]]), ["a=1"]);
}

#[test]
fn whiteouts_of_nothing_are_refused_and_what_aufs_left_is_ignored() {
    for name in [".wh.", ".wh..", ".wh...", "d/.wh.", "d/.wh...", ".wh.d/x"] {
        let scene = Scene::new();
        layout(&scene, &[packed(&base()), packed(&[file(name, "")])]);
        let message = scene.failed(&scene.unpack(&["oci", "root"]));
        assert!(message.contains("whiteout"), "{message}");
    }
    let scene = Scene::new();
    let nul = [archive::extended(&[archive::record("path", ".wh.d\0x")]), packed(&[file("y", "")])].concat();
    layout(&scene, &[packed(&base()), nul]);
    let message = scene.failed(&scene.unpack(&["oci", "root"]));
    assert!(message.contains("NUL"), "{message}");
    let aufs = vec![dir(".wh..wh.plnk"), file(".wh..wh.plnk/1.2", "x"), file(".wh..wh.aufs", ""), file("y", "2")];
    assert_eq!(tree(&scene, &[vec![file("a", "1")], aufs]), ["a=1", "y=2"]);
    // A longer name that only begins like a special one is an ordinary whiteout.
    assert_eq!(tree(&scene, &[vec![file("....", "1"), file("b", "1")], vec![file(".wh.....", "")]]), ["b=1"]);
}

#[test]
fn a_plain_root_file_system_has_no_whiteouts() {
    let scene = Scene::new();
    let root = scene.extracted(&packed(&[file("a", "1"), file(".wh.a", "w")]), &[]);
    assert_eq!(fs::read_to_string(root.join("a")).unwrap(), "1");
    assert_eq!(fs::read_to_string(root.join(".wh.a")).unwrap(), "w");
}

#[test]
fn whiteouts_and_files_go_through_symlinks_only_inside() {
    let scene = Scene::new();
    let outside = scene.outside();
    let names = tree(
        &scene,
        &[
            vec![
                symlink("l", &outside),
                symlink("lib", "usr/lib"),
                dir("usr"),
                dir("usr/lib"),
                file("usr/lib/a", "1"),
                file("usr/lib/b", "1"),
            ],
            vec![file("l/.wh.canary", ""), file("l/.wh..wh..opq", ""), file("lib/.wh.a", ""), file("lib/c", "2")],
            vec![file("l/canary", "dead")],
        ],
    );
    scene.untouched();
    let inside = outside.trim_start_matches('/');
    assert!(names.contains(&format!("{inside}/canary=dead")), "{names:?}");
    assert!(names.contains(&"usr/lib/b=1".to_owned()) && names.contains(&"usr/lib/c=2".to_owned()));
    assert!(!names.contains(&"usr/lib/a=1".to_owned()));
}

#[test]
fn hard_links_reach_lower_layers_and_outlive_their_target() {
    let scene = Scene::new();
    let layers = [base(), vec![hard_link("link", "d/a")], vec![file("d/.wh.a", ""), file("x", "3")]];
    assert_eq!(tree(&scene, &layers), ["d/", "d/b=1", "d/e/", "d/e/f=1", "link=1", "x=3"]);
    // Forward within a layer, and to what only that layer has.
    let layers = [base(), vec![hard_link("one", "two"), file("two", "2"), file("x", "2")]];
    tree(&scene, &layers);
    let inode = |name: &str| fs::metadata(scene.path("root").join(name)).unwrap().ino();
    assert_eq!(inode("one"), inode("two"));
}

#[test]
fn an_upper_entry_stands_for_the_whole_directory() {
    let scene = Scene::new();
    let attribute = archive::extended(&[archive::record("SCHILY.xattr.user.old", "1")]);
    let lower =
        [attribute, Block::new("d", b'5').mode(0o700).uid(0).bytes(), file("d/a", "1").bytes(), END.to_vec()].concat();
    let upper = packed(&[Block::new("d", b'5').mode(0o711).field(136, b"00000001234\0")]);
    layout(&scene, &[lower.clone(), upper]);
    assert!(scene.unpack(&["oci", "root"]).status.success());
    let d = scene.path("root/d");
    let metadata = fs::metadata(&d).unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.mtime()), (0o711, 0o1234));
    assert!(rustix::fs::lgetxattr_query(&d, "user.old").is_err());
    // Where an upper layer only adds a file, the directory stays as it was.
    layout(&scene, &[lower, packed(&[file("d/b", "2")])]);
    assert!(scene.unpack(&["--replace", "oci", "root"]).status.success());
    let metadata = fs::metadata(&d).unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.mtime()), (0o700, 1));
    assert!(rustix::fs::lgetxattr_query(&d, "user.old").is_ok());
}

/// A pseudo-random history of a file system, as layers that docker would write: parents always have entries.
fn history(seed: u64, layers: usize) -> Vec<Vec<u8>> {
    let mut state = seed;
    let mut next = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut made = Vec::new();
    for number in 0..layers {
        let mut blocks = vec![dir(".")];
        let (mut written, mut opened): (Vec<String>, Vec<String>) = Default::default();
        for i in 0..30 {
            let (d, e, f) = (next(4), next(3), next(6));
            let time = format!("{:011o}\0", 1_000_000 + number * 1000 + i);
            let parents = [format!("d{d}"), format!("d{d}/e{e}")];
            let name = format!("d{d}/e{e}/f{f}");
            if written.iter().any(|w| *w == name || parents.contains(w) || w.starts_with(&format!("{name}/"))) {
                continue;
            }
            // Twice the same entry in a layer is nothing that a writer of layers does.
            for parent in parents {
                if opened.contains(&parent) {
                    continue;
                }
                opened.push(parent.clone());
                blocks.push(dir(&parent).field(136, time.as_bytes()).mode(0o700 + next(8) as u32).uid(next(3)));
            }
            let block = match next(8) {
                0 => file(&format!("d{d}/e{e}/.wh.f{f}"), ""),
                1 if number > 0 => file(&format!("d{d}/e{e}/.wh..wh..opq"), ""),
                2 => symlink(&name, "../somewhere"),
                3 => dir(&name).mode(0o750),
                4 => Block::new(&name, b'6').mode(0o640),
                _ => file(&name, &format!("{number}.{i}")).mode(0o600 + next(64) as u32).uid(next(2000)),
            };
            written.push(name);
            blocks.push(block.field(136, time.as_bytes()));
        }
        made.push(packed(&blocks));
    }
    made
}

#[test]
fn our_layers_are_umocis_layers() {
    if !is_root() || !has("umoci") {
        return skip("needs root and umoci");
    }
    for seed in 0..std::env::var("UNPACK_TEST_HISTORIES").ok().and_then(|n| n.parse().ok()).unwrap_or(12) {
        let scene = Scene::new();
        layout(&scene, &history(seed, 6));
        let output = scene.unpack(&["-q", "oci", "root"]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let umoci = Command::new("umoci")
            .args(["raw", "unpack", "--image", "oci:latest", "theirs"])
            .current_dir(scene.path(""))
            .output()
            .unwrap();
        assert!(umoci.status.success(), "{}", text(&umoci.stderr));
        let what = snapshot::What::default();
        snapshot::same(&snapshot::of(&scene.path("root"), what), &snapshot::of(&scene.path("theirs"), what));
    }
}
