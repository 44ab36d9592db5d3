//! What a hostile configuration does to a bundle, and to the terminal that it is shown on.

mod archive;
mod layout;
mod scene;

use std::fs;
use std::process::Command;

use archive::{Block, END};
use layout::with_config;
use scene::{Scene, UNPACK, has, skip, text};
use serde_json::{Value, json};

fn small(passwd: &str) -> Vec<u8> {
    [Block::file("etc/passwd", passwd.as_bytes()).bytes(), END.to_vec()].concat()
}

/// https://github.com/containers/crun/pull/1444 lists what crun acts on, https://github.com/opencontainers/image-spec/pull/1061
/// what an image could do with it, and https://github.com/podman-container-tools/podman/pull/18542 is podman's answer.
#[test]
fn labels_that_a_runtime_acts_on_do_not_reach_a_bundle_and_are_counted() {
    let scene = Scene::new();
    let orders = [
        "run.oci.hooks.stdout",
        "run.oci.keep_original_groups",
        "run.oci.handler",
        "org.systemd.property.ExecStopPost",
        "org.criu.config",
        "module.wasm.image/variant",
        "io.katacontainers.config.hypervisor.path",
        "io.containers.trace-syscall",
        "com.example.oci-hooks",
    ];
    let mut labels: serde_json::Map<String, Value> = orders.iter().map(|key| ((*key).into(), json!("/x"))).collect();
    labels.insert("some.label".into(), json!("kept"));
    with_config(&scene, &[small("")], json!({ "Labels": labels, "Cmd": ["sh"] }));
    let output = scene.unpack(&["--bundle", "bundle", "oci"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let config: Value = serde_json::from_slice(&fs::read(scene.path("bundle/config.json")).unwrap()).unwrap();
    assert_eq!(config["annotations"]["some.label"], "kept");
    assert!(orders.iter().all(|key| config["annotations"].get(key).is_none()), "{config}");
    assert!(config.get("hooks").is_none());
    let said = format!("without {} labels that a runtime acts on", orders.len());
    assert!(text(&output.stderr).contains(&said), "{}", text(&output.stderr));
}

#[test]
fn volumes_that_are_no_directory_of_the_images_own_do_not_reach_a_bundle_and_are_counted() {
    let scene = Scene::new();
    let odd =
        ["/", "//", "", "../..", "/../..", "/a/../../b", "/.", "relative", "/proc", "/proc/self", "/dev", "/sys/fs"];
    let mut volumes: serde_json::Map<String, Value> = odd.iter().map(|key| ((*key).into(), json!({}))).collect();
    volumes.insert("/data".into(), json!({}));
    volumes.insert("/process/..data".into(), json!({}));
    let run = json!({ "Volumes": volumes, "Cmd": ["sh"] });
    with_config(&scene, &[small("")], run);
    let output = scene.unpack(&["--bundle", "bundle", "oci"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let config: Value = serde_json::from_slice(&fs::read(scene.path("bundle/config.json")).unwrap()).unwrap();
    let mounts = config["mounts"].as_array().unwrap();
    let volumes: Vec<_> = mounts.iter().filter(|mount| mount["source"] == "none" && mount["type"] == "tmpfs").collect();
    assert_eq!(volumes.len(), 2, "{volumes:?}");
    let said = format!("without {} volumes", odd.len());
    assert!(text(&output.stderr).contains(&said), "{}", text(&output.stderr));
}

/// -1 leaves root root: setuid(2).
#[test]
fn a_user_that_is_no_id_is_refused_in_a_bundle() {
    let scene = Scene::new();
    let passwd = "root:x:0:0::/:/bin/sh\nodd:x:4294967295:0::/:/bin/sh\nwrapped:x:1:4294967296::/:/bin/sh\n";
    for user in ["4294967295", "4294967296", "1:4294967295", "18446744073709551616", "odd", "wrapped"] {
        with_config(&scene, &[small(passwd)], json!({ "User": user, "Cmd": ["sh"] }));
        let output = scene.unpack(&["--bundle", "bundle", "oci"]);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(125), "{user}: {stderr}");
        assert!(stderr.contains("not an id that a user or group can have"), "{user}: {stderr}");
        assert!(!scene.path("bundle/config.json").exists(), "{user}");
        let _ = fs::remove_dir_all(scene.path("bundle"));
    }
}

#[test]
fn an_inspection_drives_no_terminal_and_stays_the_same_json() {
    if !has("script") {
        return skip("needs script(1)");
    }
    let scene = Scene::new();
    let odd = "\u{7f}\u{85}\u{9b}31m\u{202e}gpj\u{61c}\u{200f}\u{2067}größe";
    with_config(&scene, &[small("")], json!({ "Cmd": [odd], "Labels": { odd: "\u{1b}]0;x\u{7}" } }));
    let piped = scene.unpack(&["--inspect", "oci"]);
    assert!(text(&piped.stdout).contains(odd), "a pipe gets the image's own bytes");
    let line = format!("stty -opost; {UNPACK} --inspect oci");
    let shown = Command::new("script").args(["-qec", &line, "/dev/null"]).current_dir(scene.path("")).output().unwrap();
    let shown = text(&shown.stdout);
    let drives = |c: &char| chain::drives_terminal(*c) && *c != '\n';
    assert_eq!(shown.chars().find(drives), None, "{shown:?}");
    let both = [&shown, &text(&piped.stdout)].map(|json| serde_json::from_str::<Value>(json).unwrap());
    assert_eq!(both[0], both[1]);
}
