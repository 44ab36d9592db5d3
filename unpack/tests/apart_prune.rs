//! `--prune STORE` removes what no stack uses and nothing runs on, whatever else happens at the same time.

mod archive;
mod entries;
mod layout;
mod scene;
mod snapshot;
mod stacked;

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use entries::{Layer, file, packed};
use layout::layout;
use scene::{Scene, UNPACK, is_root, text};

fn lay_out(scene: &Scene, layers: &[Layer]) {
    layout(scene, &layers.iter().map(|layer| packed(layer)).collect::<Vec<_>>());
}

fn stored(scene: &Scene) -> usize {
    let names = fs::read_dir(scene.path("store")).unwrap();
    names.filter(|name| name.as_ref().unwrap().file_name().to_str().unwrap().starts_with("sha256-")).count()
}

fn links(scene: &Scene, stack: &str) -> Vec<String> {
    let names = fs::read_dir(scene.path(stack)).unwrap().map(|entry| entry.unwrap().path());
    let links = names.filter_map(|path| fs::read_link(path).ok());
    links.map(|link| link.file_name().unwrap().to_str().unwrap().to_owned()).collect()
}

#[track_caller]
fn apart(scene: &Scene, args: &[&str]) -> String {
    let output = scene.unpack(&[&["--layers", "store"], args].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stderr)
}

#[track_caller]
fn prune(scene: &Scene) -> String {
    let output = scene.unpack(&["--prune", "store"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

fn remove(scene: &Scene, stack: &str) {
    fs::remove_dir_all(scene.path(stack)).unwrap();
    fs::remove_file(scene.path(&format!("{stack}.image.json"))).unwrap();
}

#[test]
fn layers_that_no_stack_uses_go_and_what_they_took_is_told() {
    let scene = stacked::scene();
    lay_out(&scene, &[vec![file("base", "b")], vec![file("one", &"1".repeat(9000))]]);
    apart(&scene, &["oci", "one.mstack"]);
    lay_out(&scene, &[vec![file("base", "b")], vec![file("two", "2")]]);
    apart(&scene, &["oci", "two.mstack"]);
    assert!(prune(&scene).starts_with("layers removed: 0 (0 B), kept: 3\n"));
    // Moved, a stack still counts.
    fs::create_dir(scene.path("elsewhere")).unwrap();
    fs::rename(scene.path("two.mstack"), scene.path("elsewhere/two.mstack")).unwrap();
    remove(&scene, "one.mstack");
    let explained = scene.unpack(&["--explain", "--prune", "store"]);
    assert_eq!(text(&explained.stdout), "unpack --prune store\n");
    assert_eq!(stored(&scene), 6);
    let said = prune(&scene);
    assert!(said.starts_with("layers removed: 1 (1") && said.contains("KiB), kept: 2\n"), "{said}");
    assert_eq!(stored(&scene), 4);
    fs::remove_dir_all(scene.path("elsewhere")).unwrap();
    assert!(prune(&scene).contains("kept: 0\n"));
    assert_eq!(stored(&scene), 0);
    scene.nothing_staged();
}

#[test]
fn a_layer_that_something_runs_on_stays() {
    let scene = stacked::scene();
    lay_out(&scene, &[vec![file("base", "b")]]);
    apart(&scene, &["oci", "n.mstack"]);
    let name = links(&scene, "n.mstack").remove(0);
    remove(&scene, "n.mstack");
    // As pivot has it locked while its container lives.
    let container = chain::store::Locks::open(fs::File::open(scene.path("store")).unwrap()).unwrap();
    container.in_use(&name).unwrap();
    assert!(prune(&scene).ends_with("kept: 1, of those only because it runs: 1\n"));
    drop(container);
    assert!(prune(&scene).starts_with("layers removed: 1 "));
}

#[test]
fn what_killed_runs_left_goes_and_what_is_not_a_layer_stays() {
    let scene = stacked::scene();
    lay_out(&scene, &[vec![file("base", "b")]]);
    apart(&scene, &["oci", "n.mstack"]);
    let name = links(&scene, "n.mstack").remove(0);
    remove(&scene, "n.mstack");
    // Between the two renames of a removal there is a receipt alone.
    fs::remove_dir_all(scene.path("store").join(&name)).unwrap();
    for kept in ["thesis", "sha256-notes.txt", ".hidden"] {
        fs::write(scene.path("store").join(kept), "kept").unwrap();
    }
    assert!(prune(&scene).starts_with("layers removed: 0 "));
    let mut left: Vec<_> = fs::read_dir(scene.path("store"))
        .unwrap()
        .map(|name| name.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, [".hidden", ".lock", "sha256-notes.txt", "thesis"]);
}

#[test]
fn a_store_that_is_not_ours_is_not_pruned() {
    let scene = stacked::scene();
    fs::create_dir(scene.path("store")).unwrap();
    fs::set_permissions(scene.path("store"), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let output = scene.unpack(&["--prune", "store"]);
    let said = text(&output.stderr);
    assert!(output.status.code() == Some(125) && said.contains("store: its layers cannot be locked"), "{said}");
    assert!(said.contains("hint: only its owner, or root, prunes a store"), "{said}");
    assert_eq!(scene.unpack(&["--prune", "nowhere"]).status.code(), Some(125));
}

#[test]
fn a_stack_on_another_filesystem_is_told_of() {
    let scene = stacked::scene();
    lay_out(&scene, &[vec![file("base", "bin memory")]]);
    let script = "mkdir other && mount -t tmpfs tmpfs other && $UNPACK --layers store oci other/n.mstack && cat other/n.mstack/layer@0/base && $UNPACK --layers store oci other/n.mstack";
    let output = Command::new("unshare")
        .args([if is_root() { "-m" } else { "-Urm" }, "--", "sh", "-c", script])
        .env("UNPACK", UNPACK)
        .current_dir(scene.path(""))
        .output()
        .unwrap();
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(output.status.success() && said.contains("bin memory"), "{said}");
    assert!(said.contains("other/n.mstack: not counted in store"), "{said}");
    assert!(said.contains("reusing the existing root"), "{said}");
}

/// Whatever a stack links to is there, while others make stacks, remove them and prune.
#[test]
fn pruning_beside_runs_that_make_stacks_takes_nothing_from_them() {
    let scene = stacked::scene();
    lay_out(&scene, &[vec![file("a", "1")], vec![file("b", "2")], vec![file("c", "3")]]);
    fs::DirBuilder::new().mode(0o700).create(scene.path("store")).unwrap();
    std::thread::scope(|scope| {
        let makers: Vec<_> = (0..3)
            .map(|number| {
                let scene = &scene;
                scope.spawn(move || {
                    let stack = format!("{number}.mstack");
                    for _ in 0..15 {
                        apart(scene, &["-q", "oci", &stack]);
                        let whole = |name: &String| scene.path("store").join(name).is_dir();
                        assert!(links(scene, &stack).iter().all(whole), "a layer is gone");
                        remove(scene, &stack);
                    }
                })
            })
            .collect();
        while makers.iter().any(|maker| !maker.is_finished()) {
            prune(&scene);
        }
    });
    prune(&scene);
    assert_eq!(stored(&scene), 0);
}

/// SIGKILL at a moment that the number chooses: the next run makes a whole stack of whole layers, and nothing is left over.
#[test]
fn killed_at_any_moment_a_run_leaves_whole_layers_or_none() {
    let scene = stacked::scene();
    let layers: Vec<Layer> = (0..3).map(|number| vec![file(&format!("d/{number}"), &"x".repeat(5000))]).collect();
    lay_out(&scene, &layers);
    assert!(scene.unpack(&["-q", "oci", "root"]).status.success());
    let kills = std::env::var("UNPACK_TEST_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(40_u32);
    let (mut killed, mut pruned) = (0, 0);
    for number in 0..kills {
        let prunes = number % 4 == 3;
        let args = if prunes { &["--prune", "store"][..] } else { &["-q", "--layers", "store", "oci", "n.mstack"] };
        let mut run = scene.command(args).stdout(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(u64::from(number % 40) * if prunes { 200 } else { 800 }));
        run.kill().unwrap();
        // Waited for, it has no lock any more.
        let was_killed = run.wait().unwrap().signal() == Some(9);
        killed += u32::from(was_killed);
        pruned += u32::from(was_killed && prunes);
        apart(&scene, &["-q", "oci", "n.mstack"]);
        assert_eq!(stacked::differing(&scene, "n.mstack", "root"), None, "{number}");
        remove(&scene, "n.mstack");
        if number % 3 == 0 {
            prune(&scene);
            assert_eq!(stored(&scene), 0, "{number}");
            nothing_hidden(&scene.path("store"));
        }
    }
    eprintln!("{killed} killed, {pruned} of them while pruning");
}

fn nothing_hidden(store: &Path) {
    let names = fs::read_dir(store).unwrap().map(|name| name.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.collect::<Vec<_>>(), [".lock"]);
}
