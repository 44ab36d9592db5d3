//! A stack of layers apart as overlayfs shows it, beside the flat root of the same image.
#![allow(dead_code)]

use std::path::Path;
use std::process::Command;

use super::scene::{Scene, is_root, text};
use super::snapshot;

/// What differs between the mounted stack and the flat root. Mounted in a mount namespace of its own, by another run of
/// this test's program: a test has threads, which a user namespace does not take.
pub fn differing(scene: &Scene, stack: &str, flat: &str) -> Option<String> {
    let namespaces = if is_root() { "-m" } else { "-Urm" };
    let output = Command::new("unshare")
        .args([namespaces, "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "stacked::a_stack_is_mounted_if_another_test_asks", "--nocapture"])
        .env("UNPACK_TEST_MOUNTED", scene.path(stack))
        .env("UNPACK_TEST_FLAT", scene.path(flat))
        .current_dir(scene.path(stack))
        .output()
        .unwrap();
    (!output.status.success()).then(|| text(&output.stdout) + &text(&output.stderr))
}

/// Whether layers can be kept below a directory: tmpfs has user attributes since Linux 6.6.
pub fn takes_layers(parent: &Path) -> bool {
    let Ok(dir) = tempfile::tempdir_in(parent) else { return false };
    rustix::fs::setxattr(dir.path(), "user.unpack", b"1", rustix::fs::XattrFlags::empty()).is_ok()
}

#[test]
fn a_stack_is_mounted_if_another_test_asks() {
    let (Some(stack), Some(flat)) = (std::env::var_os("UNPACK_TEST_MOUNTED"), std::env::var_os("UNPACK_TEST_FLAT"))
    else {
        return;
    };
    let on = Path::new("/mnt");
    mount(Path::new(&stack), on);
    let (mounted, flat) = (on, Path::new(&flat));
    let digest = |root: &Path| unpack::tree_digest::of(root).unwrap();
    if digest(mounted) != digest(flat) {
        // Links from outside the tree are no part of it.
        let what = snapshot::What { no_link_counts: true, ..Default::default() };
        snapshot::same(&snapshot::of(mounted, what), &snapshot::of(flat, what));
        panic!("the digests differ, and the snapshots do not");
    }
}

/// By relative names: mount(2) takes a page of options.
fn mount(stack: &Path, on: &Path) {
    let mut layers: Vec<String> =
        std::fs::read_dir(stack).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    layers.retain(|name| name.starts_with("layer@"));
    layers.sort_by_key(|name| std::cmp::Reverse(name["layer@".len()..].parse::<u32>().unwrap()));
    let options = format!("lowerdir={},userxattr,redirect_dir=nofollow,index=off", layers.join(":"));
    nix::mount::mount(Some("overlay"), on, Some("overlay"), nix::mount::MsFlags::empty(), Some(&*options)).unwrap();
}
