//! `--layers STORE IMAGE NAME.mstack`: each layer once, and the stack of links as overlayfs shows it.

mod archive;
mod entries;
mod layout;
mod scene;
mod snapshot;
mod stacked;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

use archive::Block;
use entries::{Layer, dir, file, hard_link, packed, symlink};
use layout::layout;
use scene::{Scene, UNPACK, is_root, skip, text};
use serde_json::Value;

/// The store's layers, without its other files.
fn stored(scene: &Scene) -> Vec<String> {
    let names =
        fs::read_dir(scene.path("store")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| !name.starts_with('.') && !name.ends_with(".json")).collect();
    names.sort();
    names
}

#[track_caller]
fn apart(scene: &Scene, args: &[&str]) -> String {
    let output = scene.unpack(&[&["--layers", "store"], args].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    scene.nothing_staged();
    assert!(
        fs::read_dir(scene.path("store"))
            .unwrap()
            .all(|name| { !name.unwrap().file_name().into_string().unwrap().contains(".unpack-") })
    );
    text(&output.stderr)
}

fn lay_out(scene: &Scene, layers: &[Layer]) {
    layout(scene, &layers.iter().map(|layer| packed(layer)).collect::<Vec<_>>());
}

/// The links of a stack, base first.
fn links(scene: &Scene, stack: &str) -> Vec<String> {
    let path = scene.path(stack);
    let link = |number: usize| fs::read_link(path.join(format!("layer@{number}"))).ok();
    let link = |number| Some(link(number)?.file_name()?.to_str()?.to_owned());
    (0..).map_while(link).collect()
}

/// Flat and apart; the layers that the stack links to.
#[track_caller]
fn same(layers: &[Layer]) -> Vec<String> {
    let scene = stacked::scene();
    lay_out(&scene, layers);
    let flat = scene.unpack(&["-q", "oci", "root"]);
    assert!(flat.status.success(), "{}", text(&flat.stderr));
    apart(&scene, &["oci", "n.mstack"]);
    if let Some(why) = stacked::differing(&scene, "n.mstack", "root") {
        panic!("{why}");
    }
    links(&scene, "n.mstack")
}

/// That each layer stands alone.
#[track_caller]
fn alone(layers: &[Layer]) {
    let links = same(layers);
    assert!(links.len() == layers.len() && links.iter().all(|name| name.starts_with("sha256-")), "{links:?}");
}

/// That the first layers are one, and how many are above them.
#[track_caller]
fn flattened(layers: &[Layer], above: usize) {
    let links = same(layers);
    assert!(links[0].starts_with("chain-sha256-") && links.len() == 1 + above, "{links:?}");
}

fn base() -> Layer {
    vec![
        dir("").mode(0o711),
        dir("usr").mode(0o750),
        dir("usr/lib").mode(0o705),
        file("usr/lib/old", "1"),
        file("usr/file", "f"),
        symlink("lib", "usr/lib"),
        dir("d"),
        dir("d/e"),
        file("d/e/f", "2"),
        file("d/g", "3"),
    ]
}

#[test]
fn a_directory_without_an_entry_keeps_what_lower_layers_say_of_it() {
    alone(&[base(), vec![file("usr/lib/new", "2")]]);
    alone(&[base(), vec![file("usr/lib/new", "2")], vec![dir("usr").mode(0o700)], vec![file("usr/x", "3")]]);
    // And an implied one that no layer speaks of.
    alone(&[base(), vec![file("opt/a/b", "2")], vec![file("opt/a/c", "2")]]);
    // With its attributes.
    let attributed = vec![Block::new("a", b'5').mode(0o3770), file("a/b", "")];
    alone(&[attributed, vec![file("a/c", "")]]);
}

#[test]
fn whiteouts_hide_what_is_below_them() {
    alone(&[base(), vec![dir("usr"), dir("usr/lib"), file("usr/lib/.wh.old", "")]]);
    alone(&[base(), vec![file("usr/lib/.wh.old", "")]]);
    alone(&[base(), vec![file(".wh.d", "")], vec![dir("d"), file("d/new", "")]]);
    alone(&[base(), vec![file("d/.wh.e", ""), file(".wh.d", "")]]);
    alone(&[base(), vec![file("d/e/.wh..wh..opq", ""), file("d/.wh.e", "")]]);
}

#[test]
fn a_directory_beside_a_whiteout_of_its_name_is_opaque() {
    for layer in [
        vec![file(".wh.d", ""), dir("d"), file("d/new", "4")],
        vec![dir("d").mode(0o700), file("d/new", "4"), file(".wh.d", "")],
        vec![file("d/new", "4"), file(".wh.d", "")],
        vec![file(".wh.d", ""), file("d/e/new", "4")],
        // As well as one in place of the layer's own file, which has hidden what was below.
        vec![file("d", "x"), dir("d"), file("d/new", "4")],
        vec![file("d", "x"), file("d/e/new", "4")],
    ] {
        alone(&[base(), layer.clone()]);
        alone(&[base(), layer, vec![file("d/e/more", "5")]]);
    }
}

#[test]
fn an_opaque_directory_shows_its_own_layer_alone() {
    for layer in [
        vec![file("d/.wh..wh..opq", "")],
        vec![dir("d").mode(0o700), file("d/.wh..wh..opq", ""), file("d/new", "4")],
        vec![file("d/e/new", "4"), file("d/.wh..wh..opq", "")],
        vec![file("d/e/.wh..wh..opq", ""), file("d/.wh..wh..opq", "")],
    ] {
        alone(&[base(), layer]);
    }
}

#[test]
fn an_opaque_root_leaves_out_the_links_below_it() {
    let links = same(&[base(), vec![file(".wh..wh..opq", ""), file("new", "")], vec![file("more", "")]]);
    assert_eq!(links.len(), 2);
    assert_eq!(same(&[base(), vec![file(".wh..wh..opq", "")]]).len(), 1);
}

#[test]
fn a_layer_that_needs_more_than_metadata_is_flattened_with_those_below_it() {
    // A path through a lower link, whether it is made or removed there.
    flattened(&[base(), vec![file("lib/new", "2")], vec![file("top", "")]], 1);
    flattened(&[base(), vec![file("lib/.wh.old", "")]], 0);
    flattened(&[base(), vec![file("lib/.wh..wh..opq", "")]], 0);
    // Even if the layer puts a directory in its place later.
    flattened(&[base(), vec![file("lib/new", "2"), dir("lib")]], 0);
    // A hard link to a lower file.
    flattened(&[base(), vec![hard_link("h", "usr/file")], vec![file("usr/file", "other")]], 1);
    flattened(&[base(), vec![hard_link("h", "lib/old"), dir("lib"), file("lib/old", "9")]], 0);
    // A parent that is a file below.
    flattened(&[base(), vec![file("d/g/h", "4")]], 0);
    // A whiteout where nobody has its parent: an image is not what its layers alone say.
    flattened(&[base(), vec![file("nowhere/at/.wh.all", ""), file("x", "")]], 0);
    // On what is flattened others stand alone again, or are flattened with it.
    flattened(
        &[base(), vec![file("lib/a", "")], vec![file("usr/b", "")], vec![file("lib/c", "")], vec![file("d/h", "")]],
        1,
    );
    // A base has nothing below it.
    flattened(&[vec![file("nowhere/.wh.x", ""), hard_link("b", "a"), file("a", "1")], vec![file("c", "")]], 1);
}

#[test]
fn a_hard_link_within_its_layer_needs_nothing() {
    alone(&[base(), vec![file("a", "1"), hard_link("b", "a")], vec![file(".wh.a", "")]]);
    alone(&[base(), vec![hard_link("b", "a"), file("a", "1")]]);
}

#[test]
fn whiteouts_of_nothing_are_no_ghosts() {
    alone(&[base(), vec![dir("new"), file("new/.wh.never", ""), file("new/there", "")]]);
    alone(&[vec![dir("new"), file("new/.wh.never", "")], base()]);
    alone(&[base(), vec![file("d/e/.wh.never", "")]]);
}

#[test]
fn a_layer_twice_is_linked_once_and_one_without_entries_never() {
    let (one, two) = (vec![file("a", "1"), file("d/.wh.g", "")], vec![file("a", "2"), file("d/g", "5")]);
    let links = same(&[base(), one.clone(), two.clone(), one.clone()]);
    assert_eq!(links.len(), 3);
    assert_eq!(links.iter().collect::<std::collections::BTreeSet<_>>().len(), 3);
    assert_eq!(same(&[base(), vec![], vec![dir("").mode(0o700)], one]).len(), 2);
    assert_eq!(same(&[base()]).len(), 1);
    assert_eq!(same(&[vec![]]).len(), 0);
    assert_eq!(same(&[vec![dir("").mode(0o700)], vec![]]).len(), 0);
}

#[test]
fn a_device_that_is_not_made_hides_what_is_below_it() {
    let disk = Block::new("d/g", b'4').field(329, b"0000010\0").field(337, b"0000000\0");
    alone(&[base(), vec![disk]]);
    // With --devices a device 0:0 would be a whiteout.
    let scene = stacked::scene();
    lay_out(&scene, &[base(), vec![Block::new("usr/file", b'3').field(329, b"0000000\0").field(337, b"0000000\0")]]);
    apart(&scene, &["--devices", "oci", "n.mstack"]);
    let receipt: Value = serde_json::from_slice(&fs::read(scene.path("n.mstack.image.json")).unwrap()).unwrap();
    assert_eq!(receipt["skipped"]["devices"]["first"][0], "usr/file");
}

#[test]
fn a_stack_of_more_layers_than_overlayfs_takes_is_flattened_at_its_base() {
    let layers: Vec<Layer> = (0..510).map(|number| vec![file(&format!("d/{number}"), "x")]).collect();
    let links = same(&layers);
    assert!(links[0].starts_with("chain-") && links.len() == 499, "{}", links.len());
}

/// Overlayfs refuses devices 0:0, as in most containers that CI runs in.
#[test]
fn below_an_overlay_whiteouts_are_attributes() {
    let scene = stacked::scene();
    lay_out(&scene, &[base(), vec![file("d/.wh.g", ""), file("d/e/.wh.f", "")], vec![file("d/e/f", "new")]]);
    let script = "mkdir lower upper work merged
        mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work$MORE overlay merged &&
        cp -r oci merged && cd merged && $UNPACK -q oci root && $UNPACK -q --layers store oci n.mstack &&
        grep -q '\"whiteouts\": \"xattr\"' n.mstack.image.json && cd n.mstack &&
        exec $TEST --exact stacked::a_stack_is_mounted_if_another_test_asks --nocapture";
    let output = Command::new("unshare")
        .args([if is_root() { "-m" } else { "-Urm" }, "--", "sh", "-c", script])
        .env("MORE", if is_root() { "" } else { ",userxattr" })
        .env("UNPACK", UNPACK)
        .env("TEST", std::env::current_exe().unwrap())
        .env("UNPACK_TEST_MOUNTED", scene.path("merged/n.mstack"))
        .env("UNPACK_TEST_FLAT", scene.path("merged/root"))
        .current_dir(scene.path(""))
        .output()
        .unwrap();
    // Overlayfs makes a directory that its owner cannot open.
    fs::set_permissions(scene.path("work/work"), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("1 passed"), "{said}");
}

#[test]
fn a_second_image_adds_what_it_does_not_share_and_reads_nothing_else() {
    let scene = stacked::scene();
    lay_out(&scene, &[base(), vec![file("a", "1")]]);
    apart(&scene, &["oci", "one.mstack"]);
    let before = stored(&scene);
    let inodes = |names: &[String]| -> Vec<u64> {
        names.iter().map(|name| fs::metadata(scene.path("store").join(name)).unwrap().ino()).collect()
    };
    let were = inodes(&before);
    lay_out(&scene, &[base(), vec![file("a", "2")]]);
    // The shared layer's blob, damaged: a run that reads it finds another digest.
    let blob = scene.path("oci/blobs/sha256").join(&links(&scene, "one.mstack")[0]["sha256-".len()..][..64]);
    let mut bytes = fs::read(&blob).unwrap();
    *bytes.last_mut().unwrap() = 1;
    fs::write(&blob, bytes).unwrap();
    assert!(!scene.unpack(&["oci", "root"]).status.success());
    apart(&scene, &["oci", "two.mstack"]);
    assert_eq!(stored(&scene).len(), before.len() + 1);
    assert_eq!(inodes(&before), were);
    assert_eq!(links(&scene, "one.mstack")[0], links(&scene, "two.mstack")[0]);
    // From a pipe as well.
    let tar = Command::new("tar").args(["-C", "oci", "-cf", "img.tar", "."]).current_dir(scene.path("")).status();
    assert!(tar.unwrap().success());
    let piped = scene.unpack_bytes(&fs::read(scene.path("img.tar")).unwrap(), &["--layers", "store", "-", "p.mstack"]);
    assert!(piped.status.success(), "{}", text(&piped.stderr));
    assert_eq!(links(&scene, "p.mstack"), links(&scene, "two.mstack"));
}

#[test]
fn a_layers_receipt_is_linked_once_for_each_stack_that_uses_it() {
    let scene = stacked::scene();
    lay_out(&scene, &[base(), vec![file("a", "1")]]);
    let users = |name: &str| fs::metadata(scene.path("store").join(format!("{name}.image.json"))).unwrap().nlink() - 1;
    for (number, stack) in ["one.mstack", "two.mstack"].into_iter().enumerate() {
        apart(&scene, &["oci", stack]);
        assert!(stored(&scene).iter().all(|name| users(name) == number as u64 + 1));
    }
    lay_out(&scene, &[base()]);
    apart(&scene, &["--replace", "oci", "two.mstack"]);
    let mut counts: Vec<_> = stored(&scene).iter().map(|name| users(name)).collect();
    counts.sort_unstable();
    assert_eq!(counts, [1, 2]);
}

#[test]
fn typed_again_a_stack_is_taken_and_one_that_lost_a_layer_is_made_again() {
    let scene = stacked::scene();
    lay_out(&scene, &[base(), vec![file("a", "1")]]);
    apart(&scene, &["oci", "n.mstack"]);
    let was = fs::metadata(scene.path("n.mstack")).unwrap().ino();
    assert!(apart(&scene, &["oci", "n.mstack"]).contains("reusing the existing root"));
    assert_eq!(fs::metadata(scene.path("n.mstack")).unwrap().ino(), was);
    let name = &links(&scene, "n.mstack")[1];
    fs::remove_dir_all(scene.path("store").join(name)).unwrap();
    let said = text(&scene.unpack(&["--layers", "store", "oci", "n.mstack"]).stderr);
    assert!(said.contains("n.mstack: a layer of it is gone from store") && said.contains("hint: --replace"), "{said}");
    apart(&scene, &["--replace", "oci", "n.mstack"]);
    assert_eq!(stored(&scene).len(), 2);
}

#[test]
fn many_at_once_make_each_layer_once() {
    let scene = stacked::scene();
    let layers: Vec<Layer> = (0..4).map(|number| vec![file(&format!("d/{number}"), &"x".repeat(1000))]).collect();
    lay_out(&scene, &layers);
    let run = |number: usize| {
        let mut command = scene.command(&["--verbose", "--layers", "store", "oci", &format!("{number}.mstack")]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let runs: Vec<_> = (0..8).map(run).collect();
    let outputs: Vec<_> = runs.into_iter().map(|run| run.wait_with_output().unwrap()).collect();
    let said: String = outputs.iter().map(|output| text(&output.stderr)).collect();
    assert!(outputs.iter().all(|output| output.status.success()), "{said}");
    assert_eq!(said.matches("put it in place as").count(), 8, "{said}");
    assert_eq!(said.matches("made layer").count(), 4, "{said}");
    assert_eq!(stored(&scene).len(), 4);
    assert!((1..8).all(|number| links(&scene, &format!("{number}.mstack")) == links(&scene, "0.mstack")));
}

#[test]
fn what_a_stack_would_be_made_of_is_explained_and_nothing_is_made() {
    let scene = stacked::scene();
    lay_out(&scene, &[base()]);
    let output = scene.unpack(&["--explain", "--layers", "store", "oci", "n.mstack"]);
    assert!(text(&output.stdout).contains("unpack --layers store oci "), "{}", text(&output.stdout));
    assert!(!scene.path("store").exists() && !scene.path("n.mstack").exists());
}

#[test]
fn a_layer_made_with_other_options_is_another_one() {
    let scene = stacked::scene();
    lay_out(&scene, &[base()]);
    for (number, args) in [&["--owner", "map"][..], &["--owner", "squash"], &["--devices"]].into_iter().enumerate() {
        apart(&scene, &[args, &["oci", &format!("{number}.mstack")]].concat());
        assert_eq!(stored(&scene).len(), number + 1, "{args:?}");
    }
    let mut dated = scene.command(&["--layers", "store", "oci", "dated.mstack"]);
    assert!(dated.env("SOURCE_DATE_EPOCH", "5").output().unwrap().status.success());
    assert_eq!(stored(&scene).len(), 4);
    // Nor is one of another mapping of ids taken.
    let mapped = Command::new("unshare")
        .args(["-Ur", UNPACK, "--layers", "store", "oci", "mapped.mstack"])
        .current_dir(scene.path(""))
        .output()
        .unwrap();
    assert!(mapped.status.success(), "{}", text(&mapped.stderr));
    assert_eq!(stored(&scene).len(), 5);
}

#[test]
fn a_layer_whose_content_is_not_as_announced_never_gets_its_name() {
    let scene = stacked::scene();
    lay_out(&scene, &[base(), vec![file("a", "1")]]);
    let blobs = scene.path("oci/blobs/sha256");
    for blob in fs::read_dir(&blobs).unwrap().map(|entry| entry.unwrap().path()) {
        let mut bytes = fs::read(&blob).unwrap();
        if bytes.starts_with(b"a\0") {
            *bytes.last_mut().unwrap() = 1;
            fs::write(&blob, bytes).unwrap();
        }
    }
    let output = scene.unpack(&["--layers", "store", "oci", "n.mstack"]);
    let said = text(&output.stderr);
    assert!(output.status.code() == Some(125) && said.contains("digest does not match"), "{said}");
    assert_eq!(stored(&scene).len(), 1);
    assert!(!scene.path("n.mstack").exists() && !scene.path("n.mstack.image.json").exists());
    scene.nothing_staged();
}

#[test]
fn real_images_of_many_layers_are_the_same_apart() {
    let Some(images) = std::env::var_os("CHAINROOT_TEST_IMAGES") else { return skip("no CHAINROOT_TEST_IMAGES") };
    let image = std::path::Path::new(&images).join("debian.tar");
    if !image.exists() {
        return skip("no debian.tar in CHAINROOT_TEST_IMAGES");
    }
    let scene = Scene::new();
    // A distribution, an update of some of its files with a removal, and one file.
    let base = fs::read(&image).unwrap();
    let changed = scene.path("changed");
    let script = "mkdir changed && tar -xf \"$1\" -C changed ./etc ./usr/bin 2>/dev/null; cd changed && echo changed >etc/motd && : >etc/.wh.passwd && tar -cf ../changed.tar etc usr/bin";
    let made = Command::new("sh").args(["-c", script, "sh"]).arg(&image).current_dir(scene.path("")).output().unwrap();
    assert!(made.status.success(), "{}", text(&made.stderr));
    let second = fs::read(scene.path("changed.tar")).unwrap();
    let _ = fs::remove_dir_all(&changed);
    layout(&scene, &[base, second, packed(&[file("usr/local/one", "1")])]);
    assert!(scene.unpack(&["-q", "oci", "root"]).status.success());
    apart(&scene, &["-q", "oci", "n.mstack"]);
    assert_eq!(stacked::differing(&scene, "n.mstack", "root"), None);
}
