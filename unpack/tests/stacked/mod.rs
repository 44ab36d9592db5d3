//! A stack of layers apart as overlayfs shows it, beside the flat root of the same image.
#![allow(dead_code)]

use std::path::Path;
use std::process::Command;

use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen, move_mount,
};

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

/// Each layer is made durable, which takes a disk a while. tmpfs has user attributes since Linux 6.6.
pub fn scene() -> Scene {
    let shm = Path::new("/dev/shm");
    let attributes = |dir: tempfile::TempDir| {
        rustix::fs::setxattr(dir.path(), "user.unpack", b"1", rustix::fs::XattrFlags::empty()).is_ok()
    };
    match tempfile::tempdir_in(shm).is_ok_and(attributes) {
        true => Scene::below(shm),
        false => Scene::new(),
    }
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

/// By relative names. fsconfig(2) takes 255 bytes; more layers are given one by one, to Linux 6.5 and later.
fn mount(stack: &Path, on: &Path) {
    let mut layers: Vec<String> =
        std::fs::read_dir(stack).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    layers.retain(|name| name.starts_with("layer@"));
    layers.sort_by_key(|name| std::cmp::Reverse(name["layer@".len()..].parse::<u32>().unwrap()));
    let overlay = fsopen("overlay", FsOpenFlags::empty()).unwrap();
    let set = |key: &str, value: &str| fsconfig_set_string(&overlay, key, value).unwrap();
    match layers.len() {
        20.. => layers.iter().for_each(|layer| set("lowerdir+", layer)),
        _ => set("lowerdir", &layers.join(":")),
    }
    fsconfig_set_flag(&overlay, "userxattr").unwrap();
    set("redirect_dir", "nofollow");
    set("index", "off");
    fsconfig_create(&overlay).unwrap();
    let mounted = fsmount(&overlay, FsMountFlags::empty(), MountAttrFlags::empty()).unwrap();
    move_mount(&mounted, "", CWD, on, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).unwrap();
}
