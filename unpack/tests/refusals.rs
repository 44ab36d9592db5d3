//! Why the kernel refuses what unpack asks of it. What this machine's filesystems would not say comes from strace(1).

mod archive;
mod scene;

use std::fs;
use std::process::{Command, Output};

use archive::{Block, END};
use scene::{Scene, UNPACK, has, is_root, skip, text};

fn run(scene: &Scene, script: &str) -> Output {
    let mut command = match is_root() {
        // As a user who cannot read what its mode forbids.
        true => {
            let mut command = Command::new("setpriv");
            command.args(["--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all", "sh"]);
            command
        }
        false => Command::new("sh"),
    };
    command.args(["-c", script]).env("UNPACK", UNPACK).current_dir(scene.path("")).output().unwrap()
}

#[track_caller]
fn refused(output: &Output, words: &[&str]) {
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{stderr}");
    for word in words {
        assert!(stderr.contains(word), "no {word:?} in {stderr}");
    }
}

#[test]
fn a_digest_of_what_cannot_be_read_says_who_can() {
    let scene = Scene::new();
    scene.write("img.tar", &[Block::file("closed", b"x").mode(0).bytes(), END.to_vec()].concat());
    refused(
        &run(&scene, "$UNPACK -q --digest img.tar root"),
        &["closed: Permission denied", "hint: its owner cannot read it, but root can: isolate --user --map-root"],
    );
    let readable = run(
        &scene,
        "$UNPACK -q --digest img.tar root 2>/dev/null; chmod u+r root/closed; $UNPACK -q --digest img.tar root",
    );
    assert!(text(&readable.stdout).contains("sha256:"), "{}", text(&readable.stderr));
}

#[test]
fn why_an_owner_cannot_be_set_is_told() {
    if !has("strace") {
        return skip("no strace");
    }
    let scene = Scene::new();
    scene.write("img.tar", &[Block::file("file", b"x").uid(4).bytes(), END.to_vec()].concat());
    let with = |before: &str| {
        run(
            &scene,
            &format!(
                "{before} strace -f -o /dev/null -e inject=fchown,fchownat:error=EPERM $UNPACK -q --owner keep img.tar root"
            ),
        )
    };
    let without = "hint: only root may give files away; --owner squash keeps them the caller's";
    if is_root() {
        let filesystem = "hint: the filesystem takes no other owner (FAT, or NFS with root_squash); --owner squash";
        refused(&with(""), &["file: set its owner", filesystem]);
        refused(&with("setpriv --bounding-set=-chown"), &["file: set its owner", without]);
    } else {
        refused(&with(""), &["not mapped here"].map(|_| "hint: "));
    }
    assert!(!scene.path("root").exists());
}

#[test]
fn a_mount_in_the_way_of_an_entry_is_named() {
    if !has("strace") {
        return skip("no strace");
    }
    let scene = Scene::new();
    let twice = [Block::file("file", b"x").bytes(), Block::file("file", b"y").bytes(), END.to_vec()].concat();
    scene.write("img.tar", &twice);
    // What unpack tries out for itself is removed first.
    let output = (1..10)
        .map(|when| {
            let inject = format!("strace -f -o /dev/null -e inject=unlinkat:error=EBUSY:when={when}");
            run(&scene, &format!("{inject} $UNPACK -q img.tar root"))
        })
        .find(|output| text(&output.stderr).contains("remove what is there"))
        .expect("the first file is removed");
    refused(&output, &["file: remove what is there: Device or resource busy", "hint: something is mounted on it"]);
    assert!(!scene.path("root").exists());
    assert!(run(&scene, "$UNPACK -q img.tar root").status.success());
    assert_eq!(fs::read(scene.path("root/file")).unwrap(), b"y");
}

#[test]
fn too_few_descriptors_are_named_before_anything_is_begun() {
    let scene = Scene::new();
    scene.write("img.tar", &[Block::file("file", b"x").bytes(), END.to_vec()].concat());
    refused(
        &run(&scene, "ulimit -n 10; $UNPACK -q img.tar root"),
        &["open files: Too many open files", "at once, large images more: ulimit -n 256"],
    );
    assert_eq!(fs::read_dir(scene.path("")).unwrap().count(), 2, "something was begun");
}
