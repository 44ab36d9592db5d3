//! Layers whose names lead through links, files and `..`: each entry lands where the ones before it have led its name,
//! and nothing that another layer says of the way takes it from there.

mod archive;
mod entries;
mod layout;
mod scene;

use std::fs;
use std::os::unix::fs::MetadataExt;

use archive::Block;
use entries::{Layer, dir, file, hard_link, listed, packed, symlink, tree};
use layout::layout;
use scene::{Scene, text};

/// A library directory that is reached through a link, as Debian, Fedora and Arch have it since they merged /usr.
fn merged() -> Layer {
    vec![dir("usr"), dir("usr/lib"), symlink("lib", "usr/lib"), file("lib/x", "1")]
}

#[test]
fn what_a_layer_stored_through_a_link_outlives_the_link() {
    let scene = Scene::new();
    let through = ["usr/", "usr/lib/", "usr/lib/x=1"];
    let with = |first: &'static str| [&[first][..], &through].concat();
    assert_eq!(tree(&scene, &[merged(), vec![symlink("lib", "usr/lib")]]), with("lib -> usr/lib"));
    assert_eq!(tree(&scene, &[merged(), vec![symlink("lib", "elsewhere")]]), with("lib -> elsewhere"));
    assert_eq!(tree(&scene, &[merged(), vec![file(".wh.lib", "")]]), through);
    assert_eq!(tree(&scene, &[merged(), vec![file("lib", "2")]]), with("lib=2"));
    assert_eq!(
        tree(&scene, &[merged(), vec![dir("lib"), file("lib/y", "2")]]),
        [&["lib/", "lib/y=2"][..], &through].concat()
    );
    // An older version of the file does not come back either.
    let base = vec![dir("usr"), dir("usr/lib"), file("usr/lib/x", "0"), symlink("lib", "usr/lib")];
    assert_eq!(tree(&scene, &[base, vec![file("lib/x", "1")], vec![file(".wh.lib", "")]]), through);
}

#[test]
fn a_whiteout_spares_what_its_own_layer_stored_there_through_a_link() {
    let scene = Scene::new();
    let base = vec![dir("usr"), dir("usr/lib"), file("usr/lib/old", "1"), symlink("lib", "usr/lib")];
    let left = ["lib -> usr/lib", "usr/", "usr/lib/", "usr/lib/new=2"];
    for whiteout in ["usr/.wh.lib", ".wh.usr", "usr/lib/.wh..wh..opq", "lib/.wh..wh..opq", "usr/.wh..wh..opq"] {
        let layer = [file("lib/new", "2"), file(whiteout, "")];
        for layer in [layer.to_vec(), layer.into_iter().rev().collect()] {
            assert_eq!(tree(&scene, &[base.clone(), layer]), left, "{whiteout}");
        }
    }
}

#[test]
fn a_directory_that_was_emptied_stays_for_what_its_layer_puts_into_it() {
    let scene = Scene::new();
    let base = vec![dir("c"), dir("c/d"), file("c/old", "1")];
    for new in ["c/new", "c/d/new", "c/d/e/new"] {
        let layer = vec![file("c/.wh..wh..opq", ""), file(new, "2"), file(".wh.c", ""), file(".wh..wh..opq", "")];
        let names = tree(&scene, &[base.clone(), layer]);
        assert_eq!(names.last().unwrap(), &format!("{new}=2"), "{names:?}");
        assert!(!names.contains(&"c/old=1".to_owned()), "{names:?}");
    }
}

#[test]
fn a_removal_makes_nothing() {
    let scene = Scene::new();
    let base = vec![dir("c"), file("c/b", "1"), file("c/keep", "1")];
    assert!(tree(&scene, &[base.clone(), vec![file("c/.wh.b", ""), file(".wh.c", "")]]).is_empty());
    assert!(tree(&scene, &[base, vec![file("c/.wh..wh..opq", ""), file(".wh.c", "")]]).is_empty());
}

#[test]
fn a_later_entry_of_one_layer_replaces_an_earlier_with_all_below_it() {
    let scene = Scene::new();
    let twice = vec![dir("foo"), file("foo/x", "1"), file("foo", "file")];
    assert_eq!(tree(&scene, std::slice::from_ref(&twice)), ["foo=file"]);
    assert_eq!(tree(&scene, &[twice, vec![dir("foo")]]), ["foo/"]);
}

#[test]
fn a_path_through_a_file_replaces_the_file() {
    let scene = Scene::new();
    let below = file("nondir/foo/bar", "2");
    let replaced = ["nondir/", "nondir/foo/", "nondir/foo/bar=2"];
    for was in [file("nondir", "1"), Block::new("nondir", b'6')] {
        assert_eq!(tree(&scene, &[vec![was.clone()], vec![below.clone()]]), replaced);
        assert_eq!(tree(&scene, &[vec![was.clone(), below.clone()]]), replaced);
        fs::remove_dir_all(scene.path("root")).unwrap();
        assert_eq!(listed(&scene.extracted(&packed(&[was, below.clone()]), &["--replace"])), replaced);
    }
    // And where a link leads to a file, that one.
    let through = tree(&scene, &[vec![file("f", "1"), symlink("l", "f")], vec![file("l/x", "2")]]);
    assert_eq!(through, ["f/", "f/x=2", "l -> f"]);
}

#[test]
fn dot_dot_in_a_layer_stays_inside_the_root_and_is_counted() {
    let scene = Scene::new();
    let names = tree(
        &scene,
        &[vec![dir("a"), file("./../guava/x.jar", "j"), file("a/../b/f", "f"), hard_link("a/h", "a/../b/f")]],
    );
    assert_eq!(names, ["a/", "a/h=f", "b/", "b/f=f", "guava/", "guava/x.jar=j"]);
    let receipt: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(scene.path("root.image.json")).unwrap()).unwrap();
    assert_eq!(receipt["skipped"]["upward_names"]["number"], 3);
    // Whiteouts as well; and as umoci, buildah and docker read it, by its text.
    let base = vec![dir("usr"), dir("usr/lib"), symlink("l", "usr/lib"), file("x", "1"), file("y", "1")];
    assert_eq!(
        tree(&scene, &[base, vec![file("../.wh.x", ""), file("l/../z", "2")]]),
        ["l -> usr/lib", "usr/", "usr/lib/", "y=1", "z=2"]
    );
    scene.untouched();
}

#[test]
fn a_parent_that_dangles_is_made_where_its_link_really_leads() {
    let scene = Scene::new();
    let foo =
        |target: &str| [merged()[..3].to_vec(), vec![symlink("usr/lib/foo", target), file("lib/foo/x", "1")]].concat();
    for (target, made) in [
        ("../share/foo", "usr/share/foo/x=1"),
        ("/srv/foo", "srv/foo/x=1"),
        ("../../../../foo", "foo/x=1"),
        ("missing/../../bar", "usr/bar/x=1"),
        ("/lib/there", "usr/lib/there/x=1"),
    ] {
        let names = tree(&scene, &[foo(target)]);
        assert!(names.contains(&made.to_owned()), "{target}: {names:?}");
    }
}

#[test]
fn hard_links_into_what_aufs_kept_are_the_file_that_is_kept_there() {
    let scene = Scene::new();
    let kept = ".wh..wh.plnk/12.34";
    let links = [hard_link("usr/a", kept), hard_link("usr/b", kept)];
    let layer = [vec![dir(".wh..wh.plnk"), file(kept, "one"), dir("usr")], links.to_vec()].concat();
    let first = [links.to_vec(), vec![file(kept, "one")]].concat();
    for layers in [vec![layer.clone()], vec![vec![file("usr/a", "0")], layer], vec![first]] {
        assert_eq!(tree(&scene, &layers), ["usr/", "usr/a=one", "usr/b=one"]);
        assert_eq!(fs::metadata(scene.path("root/usr/a")).unwrap().nlink(), 2);
    }
    // Not from one layer to the next.
    layout(&scene, &[packed(&[file(kept, "one")]), packed(&links)]);
    let message = text(&scene.unpack(&["--replace", "oci", "root"]).stderr);
    assert!(message.contains("hard link to .wh..wh.plnk/12.34, which the image does not have"), "{message}");
}

#[test]
fn a_hard_link_before_its_target_replaces_nothing_that_comes_later() {
    let scene = Scene::new();
    for (entries, left) in [
        (vec![hard_link("y", "x"), file("y", "LATER"), file("x", "X")], vec!["x=X", "y=LATER"]),
        (vec![hard_link("y", "x"), dir("y"), file("y/keep", "k"), file("x", "X")], vec!["x=X", "y/", "y/keep=k"]),
        (vec![hard_link("y", "x"), symlink("y", "z"), file("x", "X")], vec!["x=X", "y -> z"]),
        (vec![hard_link("y", "x"), file("y/below", "b"), file("x", "X")], vec!["x=X", "y/", "y/below=b"]),
        // Gone with the directory that it would have been in.
        (vec![hard_link("d/y", "x"), file("d", "D"), file("x", "X")], vec!["d=D", "x=X"]),
        (vec![hard_link("d/y", "x"), file("d", "D"), dir("d"), file("x", "X")], vec!["d/", "x=X"]),
        // But what was there before it is replaced.
        (vec![file("y", "EARLIER"), hard_link("y", "x"), file("x", "X")], vec!["x=X", "y=X"]),
        (vec![dir("y"), file("y/z", "1"), hard_link("y", "x"), file("x", "X")], vec!["x=X", "y=X"]),
        // A link to a link that waits, in whatever order.
        (vec![hard_link("a", "b"), hard_link("b", "c"), file("c", "C")], vec!["a=C", "b=C", "c=C"]),
        (vec![hard_link("b", "c"), hard_link("a", "b"), file("c", "C")], vec!["a=C", "b=C", "c=C"]),
        (
            vec![hard_link("l/y", "m/x"), symlink("l", "d"), symlink("m", "d"), file("d/x", "X")],
            vec!["d/", "d/x=X", "l -> d", "m -> d"],
        ),
    ] {
        assert_eq!(tree(&scene, std::slice::from_ref(&entries)), left, "as a layer");
        fs::remove_dir_all(scene.path("root")).unwrap();
        assert_eq!(listed(&scene.extracted(&packed(&entries), &["--replace"])), left, "as a plain archive");
    }
    for circle in [vec![hard_link("a", "a")], vec![hard_link("a", "b"), hard_link("b", "a")]] {
        let _ = fs::remove_dir_all(scene.path("root"));
        let _ = fs::remove_file(scene.path("root.image.json"));
        let message = scene.refused(&packed(&circle), &[]);
        assert!(message.contains("which the image does not have"), "{message}");
    }
}
