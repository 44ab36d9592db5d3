//! Stores and stacks on a disk that fills up, and beside the files of another user.

mod archive;
mod entries;
mod layout;
mod scene;

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::process::Output;

use entries::{Layer, file, packed};
use layout::layout;
use scene::{Scene, is_root, skip, text};

const OTHER: u32 = 31347;

/// `count` files of `size` bytes.
fn files(name: &str, count: usize, size: usize) -> Layer {
    (0..count).map(|number| file(&format!("{name}/{number}"), &"x".repeat(size))).collect()
}

/// A small tmpfs is mounted at `small` while this runs; what is left on it goes to `left`.
fn on_tmpfs(scene: &Scene, options: &str, script: &str) -> Output {
    fs::create_dir_all(scene.path("small")).unwrap();
    scene.with_mounts(&format!(
        "mount -t tmpfs -o {options} none small && {{ {script}; status=$?; find small -mindepth 1 >left; exit $status; }}"
    ))
}

fn left(scene: &Scene) -> Vec<String> {
    fs::read_to_string(scene.path("left")).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn a_full_disk_keeps_the_layers_that_were_whole_and_no_stack() {
    if !is_root() {
        return skip("only root mounts a small filesystem");
    }
    for (options, many) in [("size=2m", files("big", 40, 100_000)), ("size=64m,nr_inodes=80", files("many", 200, 1))] {
        let scene = Scene::new();
        layout(&scene, &[packed(&files("base", 10, 1)), packed(&many)]);
        let output = on_tmpfs(&scene, options, "$UNPACK --quiet --layers small/store oci small/n.mstack");
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(125), "{said}");
        assert!(said.lines().count() == 1 && said.contains("No space left on device"), "{said}");
        let left = left(&scene);
        assert!(left.iter().any(|path| path.ends_with("/base/9")), "the first layer is whole: {left:?}");
        assert!(!left.iter().any(|path| path.contains("/big") || path.contains("/many")), "{left:?}");
        assert!(!left.iter().any(|path| path.contains(".unpack-") || path.contains("mstack")), "{left:?}");
    }
}

/// The store has room, the place for the stack has none.
#[test]
fn a_stack_for_which_there_is_no_room_costs_no_layer() {
    if !is_root() {
        return skip("only root mounts a small filesystem");
    }
    let scene = Scene::new();
    layout(&scene, &[packed(&files("base", 10, 1))]);
    let output = on_tmpfs(&scene, "size=1m,nr_inodes=3", "$UNPACK --quiet --layers store oci small/n.mstack");
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{said}");
    assert!(said.contains("No space left on device"), "{said}");
    assert_eq!(left(&scene), [""; 0]);
    let output = scene.unpack(&["--quiet", "--layers", "store", "oci", "n.mstack"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    scene.nothing_staged();
}

/// In a directory where all may make names, another user has taken those of the stack and of its receipt.
#[test]
fn what_another_user_put_at_a_stacks_place_is_neither_taken_nor_changed() {
    if !is_root() {
        return skip("another user's files need root");
    }
    let scene = Scene::new();
    layout(&scene, &[packed(&[file("a", "1")])]);
    fs::set_permissions(scene.path(""), fs::Permissions::from_mode(0o1777)).unwrap();
    let refused = |args: &[&str], word: &str| {
        let output = scene.unpack(&[&["--layers", "store"], args].concat());
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(125), "{args:?}: {said}");
        assert!(said.contains(word), "{args:?}: {said}");
    };
    fs::create_dir(scene.path("n.mstack")).unwrap();
    scene.write("n.mstack/theirs", b"theirs");
    for name in ["n.mstack", "n.mstack/theirs"] {
        chown(scene.path(name), Some(OTHER), Some(OTHER)).unwrap();
    }
    refused(&["oci", "n.mstack"], "n.mstack");
    refused(&["--replace", "oci", "n.mstack"], "n.mstack");
    assert_eq!(fs::read(scene.path("n.mstack/theirs")).unwrap(), b"theirs");
    // A link to a stack that is this user's own, and a receipt of another's.
    let output = scene.unpack(&["--layers", "store", "oci", "own.mstack"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    symlink("own.mstack", scene.path("link.mstack")).unwrap();
    refused(&["--replace", "oci", "link.mstack"], "link.mstack");
    fs::copy(scene.path("own.mstack.image.json"), scene.path("m.mstack.image.json")).unwrap();
    chown(scene.path("m.mstack.image.json"), Some(OTHER), Some(OTHER)).unwrap();
    refused(&["oci", "m.mstack"], "m.mstack.image.json");
    assert!(scene.path("own.mstack/layer@0").exists() && !scene.path("m.mstack").exists());
    scene.nothing_staged();
}
