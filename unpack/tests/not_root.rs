//! Unpacking without the rights of root.

mod archive;
mod scene;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::process::{Command, Output, Stdio};

use archive::{Block, END, extended, record};
use scene::{Scene, has, is_root, skip, text};
use serde_json::Value;

const SOMEBODY: u32 = 54321;

fn image() -> Vec<u8> {
    let attribute = extended(&[record("SCHILY.xattr.trusted.t", "1")]);
    [
        Block::new("ro", b'5').mode(0o555).bytes(),
        Block::new("ro/none", b'5').mode(0).uid(1234).bytes(),
        Block::file("ro/none/file", b"x").mode(0o400).uid(1234).bytes(),
        Block::file("su", b"#!").mode(0o4755).bytes(),
        Block::new("null", b'3').field(329, b"0000001\0").field(337, b"0000003\0").bytes(),
        attribute,
        Block::file("attribute", b"x").bytes(),
        Block::file("far", b"x").uid(70_000).bytes(),
        END.to_vec(),
    ]
    .concat()
}

/// A scene that belongs to somebody, with the program in it where they can run it.
fn scene_of(owner: u32) -> Scene {
    let scene = Scene::new();
    scene.write("img.tar", &image());
    scene.put_tool();
    fs::create_dir(scene.path("home")).unwrap();
    fs::set_permissions(scene.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    chown(scene.path("home"), Some(owner), Some(owner)).unwrap();
    scene
}

fn as_somebody(scene: &Scene, script: &str) -> Output {
    Command::new("setpriv")
        .args([
            "--reuid",
            &SOMEBODY.to_string(),
            "--regid",
            &SOMEBODY.to_string(),
            "--clear-groups",
            "sh",
            "-c",
            script,
        ])
        .current_dir(scene.path("home"))
        .output()
        .unwrap()
}

fn receipt(scene: &Scene) -> Value {
    serde_json::from_slice(&fs::read(scene.path("home/root.image.json")).unwrap()).unwrap()
}

#[test]
fn somebody_gets_a_tree_of_their_own_and_can_remove_it() {
    if !is_root() || !has("setpriv") {
        return skip("only root can become somebody else");
    }
    let scene = scene_of(SOMEBODY);
    let output = as_somebody(&scene, "../unpack ../img.tar root");
    let stderr = text(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    for told in
        ["7 files now owned by you", "1 setuid", "2 directory modes", "1 device not", "1 extended attribute not"]
    {
        assert!(stderr.contains(told), "{told}: {stderr}");
    }
    let skipped = &receipt(&scene)["skipped"];
    assert_eq!(skipped["devices"]["first"][0], "null");
    assert_eq!(skipped["setuid"]["first"][0], "su");
    assert_eq!(skipped["owners"]["number"], 7);
    let at = |name: &str| fs::metadata(scene.path("home/root").join(name)).unwrap();
    assert_eq!((at("su").uid(), at("su").mode() & 0o7777), (SOMEBODY, 0o755));
    assert_eq!(at("ro").mode() & 0o7777, 0o755);
    assert_eq!(at("ro/none").mode() & 0o7777, 0o700);
    assert_eq!(at("ro/none/file").mode() & 0o7777, 0o400);
    let again =
        as_somebody(&scene, "../unpack ../img.tar root && ../unpack -q --replace ../img.tar root && rm -rf root");
    assert!(again.status.success(), "{}", text(&again.stderr));
    assert!(!scene.path("home/root").exists());
    let asked = as_somebody(&scene, "../unpack --owner keep ../img.tar root");
    assert_eq!(asked.status.code(), Some(125));
    assert!(text(&asked.stderr).contains("hint: "), "{}", text(&asked.stderr));
    assert!(!scene.path("home/root").exists());
}

#[test]
fn a_place_that_is_not_ours_is_an_error_with_a_hint() {
    if !is_root() || !has("setpriv") {
        return skip("only root can become somebody else");
    }
    let scene = scene_of(0);
    let output = as_somebody(&scene, "../unpack ../img.tar root");
    let stderr = text(&output.stderr);
    assert!(output.status.code() == Some(125) && stderr.contains("hint: "), "{stderr}");
}

/// Runs a script as root of a user namespace with the ids that `map` gives it.
fn in_user_namespace(scene: &Scene, map: &str, script: &str) -> Output {
    let mut holder = Command::new("unshare").args(["--user", "cat"]).stdin(Stdio::piped()).spawn().unwrap();
    let ours = fs::read_link("/proc/self/ns/user").unwrap();
    let theirs = format!("/proc/{}/ns/user", holder.id());
    while fs::read_link(&theirs).unwrap() == ours {
        std::thread::yield_now();
    }
    for file in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{}/{file}", holder.id()), map).unwrap();
    }
    let output = Command::new("nsenter")
        .args(["--target", &holder.id().to_string(), "--user", "sh", "-c", script])
        .current_dir(scene.path("home"))
        .output()
        .unwrap();
    drop(holder.stdin.take());
    holder.wait().unwrap();
    output
}

#[test]
fn in_a_user_namespace_with_ranges_owners_are_kept() {
    if !is_root() || !has("setpriv") {
        return skip("only root can give a user namespace ranges");
    }
    let scene = scene_of(100_000);
    let output = in_user_namespace(&scene, "0 100000 65536\n", "../unpack ../img.tar root");
    let stderr = text(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("1 file now owned by you") && !stderr.contains("modes"), "{stderr}");
    let at = |name: &str| fs::metadata(scene.path("home/root").join(name)).unwrap();
    assert_eq!((at("ro/none").uid(), at("ro/none").mode() & 0o7777), (101_234, 0));
    assert_eq!((at("su").uid(), at("su").mode() & 0o7777), (100_000, 0o4755));
    // What is not mapped is root's of the namespace.
    assert_eq!(at("far").uid(), 100_000);
    assert_eq!(receipt(&scene)["skipped"]["owners"]["first"][0], "far");
    let output = in_user_namespace(&scene, "0 100000 65536\n", "../unpack --owner keep ../img.tar other");
    let stderr = text(&output.stderr);
    assert!(output.status.code() == Some(125) && stderr.contains("not mapped"), "{stderr}");
}

#[test]
fn in_a_user_namespace_of_one_id_the_rest_is_squashed() {
    if !is_root() || !has("setpriv") {
        return skip("only root can become somebody else");
    }
    let scene = scene_of(SOMEBODY);
    let output = as_somebody(&scene, "unshare --user --map-root-user ../unpack ../img.tar root");
    let stderr = text(&output.stderr);
    if stderr.contains("unshare: ") {
        return skip("no user namespaces for ordinary users");
    }
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("3 files now owned by you"), "{stderr}");
    let at = |name: &str| fs::metadata(scene.path("home/root").join(name)).unwrap();
    assert_eq!((at("su").uid(), at("su").mode() & 0o7777), (SOMEBODY, 0o4755));
    assert_eq!(at("far").uid(), SOMEBODY);
}
