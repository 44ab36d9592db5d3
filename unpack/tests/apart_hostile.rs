//! Stores and stacks that something is wrong with.

mod archive;
mod entries;
mod layout;
mod scene;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use entries::{file, packed};
use layout::layout;
use scene::{Scene, is_root, skip, text};

#[track_caller]
fn refused(scene: &Scene, args: &[&str], words: &[&str]) {
    let output = scene.unpack(args);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{said}");
    for word in words {
        assert!(said.contains(word), "no {word:?} in {said}");
    }
    assert!(!text(&output.stdout).contains('\n'));
    scene.nothing_staged();
}

fn with_image() -> Scene {
    let scene = Scene::new();
    layout(&scene, &[packed(&[file("a", "1")])]);
    scene
}

#[test]
fn a_store_that_others_can_write_is_refused() {
    let scene = with_image();
    fs::create_dir(scene.path("store")).unwrap();
    for mode in [0o1777, 0o775] {
        fs::set_permissions(scene.path("store"), fs::Permissions::from_mode(mode)).unwrap();
        refused(
            &scene,
            &["--layers", "store", "oci", "n.mstack"],
            &["can be written by others", "hint: name another STORE, which is made with mode 0700"],
        );
        assert_eq!(fs::read_dir(scene.path("store")).unwrap().count(), 0);
    }
}

#[test]
fn a_layer_that_somebody_else_put_there_is_not_taken() {
    let scene = with_image();
    assert!(scene.unpack(&["--layers", "store", "oci", "n.mstack"]).status.success());
    let link = fs::read_link(scene.path("n.mstack/layer@0")).unwrap();
    let layer = scene.path("store").join(link.file_name().unwrap());
    // A copy with the same receipt is another directory.
    fs::rename(&layer, scene.path("kept")).unwrap();
    fs::create_dir(&layer).unwrap();
    refused(&scene, &["--layers", "store", "oci", "m.mstack"], &["the receipt beside it is another directory's"]);
    fs::remove_dir(&layer).unwrap();
    symlink("../kept", &layer).unwrap();
    refused(&scene, &["--layers", "store", "oci", "m.mstack"], &[link.file_name().unwrap().to_str().unwrap()]);
    fs::remove_file(&layer).unwrap();
    fs::rename(scene.path("kept"), &layer).unwrap();
    // Nor one that others could have changed since.
    fs::set_permissions(&layer, fs::Permissions::from_mode(0o777)).unwrap();
    refused(&scene, &["--layers", "store", "oci", "m.mstack"], &["can be written by others (mode 0777)"]);
}

#[test]
fn what_cannot_be_kept_apart_is_refused_with_a_hint() {
    let scene = with_image();
    scene.write("img.tar", &packed(&[file("a", "1")]));
    refused(
        &scene,
        &["--layers", "store", "img.tar", "n.mstack"],
        &["is a plain root filesystem: it has no layers to keep apart", "hint: leave --layers out"],
    );
    refused(&scene, &["--layers", "store", "oci", "root"], &["root: with --layers its name has to end in .mstack"]);
    refused(&scene, &["--layers", "store", "oci"], &["hint: name it root.mstack"]);
    for more in [&["--digest"][..], &["--inspect"], &["--bundle", "b"]] {
        refused(&scene, &[&["--layers", "store", "oci"], more].concat(), &["cannot be used with"]);
    }
}

#[test]
fn a_store_on_a_filesystem_without_attributes_is_refused() {
    let scene = with_image();
    // ramfs has no attributes at all.
    let script = "mkdir plain && mount -t ramfs ramfs plain && exec $UNPACK --layers plain/store oci n.mstack";
    if !is_root() {
        return skip("needs root");
    }
    let output = scene.with_mounts(script);
    let said = text(&output.stderr);
    assert!(said.contains("a store of layers needs user.* attributes: Operation not supported"), "{said}");
    assert!(said.contains("hint: this filesystem has none"), "{said}");
    assert!(!scene.path("n.mstack").exists());
}
