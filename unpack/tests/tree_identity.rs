//! What the tree remembers of itself holds whatever the filesystem's inode numbers do, and however few directories can
//! stay open.

mod archive;
mod entries;
mod layout;
mod scene;
mod snapshot;
mod stacks;

use std::process::Command;

use entries::{dir, file, packed, symlink};
use layout::layout;
use scene::{Scene, UNPACK, is_root, skip, text};
use stacks::model::Model;
use stacks::{Item, Kind};

/// On an overlay over two filesystems a directory has another number each time it comes back into the cache: xino=off in
/// the kernel's overlayfs documentation, the only way where the filesystems have 64-bit numbers.
#[test]
fn an_overlay_whose_numbers_change_keeps_what_the_layer_has_made() {
    if !is_root() {
        return skip("only root mounts an overlay and drops caches");
    }
    let scene = Scene::new();
    let mut upper = vec![symlink("link", "d"), file("link/through", "2"), dir("d"), file("d/new", "2")];
    upper.extend((0..3000).map(|number| dir(&format!("other/{number}"))));
    upper.push(file("d/.wh..wh..opq", ""));
    layout(&scene, &[packed(&[dir("d"), file("d/old", "1")]), packed(&upper)]);
    let script = format!(
        "mkdir low other && mount -t tmpfs none low && mount -t tmpfs none other &&
         mkdir other/up other/work other/m &&
         mount -t overlay -o lowerdir=low,upperdir=other/up,workdir=other/work,xino=off none other/m || exit 77
         {UNPACK} -q oci other/m/root >/dev/null & unpack=$!
         while kill -0 $unpack 2>/dev/null; do echo 2 >/proc/sys/vm/drop_caches; done
         wait $unpack && cat other/m/root/d/new other/m/root/d/through && ls other/m/root/d"
    );
    let mut command = Command::new("unshare");
    let output = command.args(["-m", "sh", "-c", &script]).current_dir(scene.path("")).output().unwrap();
    if output.status.code() == Some(77) {
        return skip("no overlay to be had");
    }
    assert_eq!(text(&output.stdout), "22new\nthrough\n", "{}", text(&output.stderr));
}

/// With few descriptors directories are closed and opened again all the time, with many never.
#[test]
fn a_path_through_what_it_replaces_is_the_same_at_every_limit_of_descriptors() {
    let scene = Scene::new();
    let mut whole = 0;
    for seed in 0..3 {
        let mut stack = stacks::stack(seed);
        // Enough of them to push others out of the cache.
        for (number, layer) in stack.iter_mut().enumerate() {
            for at in (0..=layer.len()).rev() {
                layer.splice(at..at, (0..6).map(|directory| padding(number, at, directory)));
            }
        }
        let Ok(model) = Model::of(&stack, false) else { continue };
        let mut should = model.snapshot();
        if !is_root() {
            should.clear();
        }
        layout(&scene, &stack.iter().map(|layer| stacks::packed(layer)).collect::<Vec<_>>());
        for limit in [4, 5, 6, 7, 8, 9, 12, 16, 24, 32, 40, 256] {
            let _ = std::fs::remove_dir_all(scene.path("root"));
            let _ = std::fs::remove_file(scene.path("root.image.json"));
            let script = format!("ulimit -n {limit}; exec {UNPACK} -q oci root");
            let output = Command::new("sh").args(["-c", &script]).current_dir(scene.path("")).output().unwrap();
            if !output.status.success() {
                // Too few to work with.
                assert!(limit <= 24, "seed {seed}, limit {limit}: {}", text(&output.stderr));
                scene.failed(&output);
                continue;
            }
            whole += 1;
            let found = snapshot::of(&scene.path("root"), snapshot::What::default());
            if should.is_empty() {
                should.clone_from(&found);
            }
            snapshot::same(&found, &should);
        }
    }
    assert!(whole > 8, "{whole}");
}

fn padding(layer: usize, at: usize, directory: usize) -> Item {
    let name = format!("padding/{layer}/{at}/{directory}");
    Item { name, kind: Kind::Directory, mode: 0o755, uid: 0, gid: 0, mtime: 5 }
}
