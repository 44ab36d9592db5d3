//! What unpack makes besides a root: bundles, configurations, digests of trees, receipts.

mod archive;
mod layout;
mod scene;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use archive::{Block, END};
use layout::{layout, with_config};
use scene::{Scene, UNPACK, has, is_root, skip, text};
use serde_json::{Value, json};

fn json_of(path: &std::path::Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn ok(output: &Output) {
    assert!(output.status.success(), "{}", text(&output.stderr));
}

fn small() -> Vec<u8> {
    let passwd = Block::file("etc/passwd", b"root:x:0:0::/:/bin/sh\nweb:x:33:44::/:/bin/sh\n");
    let group = Block::file("etc/group", b"root:x:0:\nweb:x:44:\nlog:x:55:other,web\n");
    [passwd.bytes(), group.bytes(), END.to_vec()].concat()
}

/// The machine's static shell as an image.
fn busybox() -> Option<Vec<u8>> {
    let shell = fs::read("/bin/busybox").ok()?;
    let dir = |name| Block::new(name, b'5').mode(0o755).bytes();
    let link = Block::new("bin/sh", b'2').link("busybox").bytes();
    let dirs = ["bin", "dev", "proc", "sys", "tmp"].map(dir).concat();
    Some([dirs, Block::file("bin/busybox", &shell).mode(0o755).bytes(), link, END.to_vec()].concat())
}

#[test]
fn a_bundle_runs_unchanged_in_runc_and_crun() {
    let Some(image) = busybox() else { return skip("no busybox-static") };
    if !is_root() {
        return skip("runc and crun need root here");
    }
    for runtime in ["runc", "crun"] {
        if !has(runtime) {
            skip(&format!("no {runtime}"));
            continue;
        }
        let scene = Scene::new();
        let run = json!({
            "Env": ["GREETING=hello"],
            "Entrypoint": ["/bin/sh", "-c"],
            "Cmd": ["echo $GREETING; pwd; exit 7"],
            "WorkingDir": "/tmp",
        });
        with_config(&scene, std::slice::from_ref(&image), run);
        let output = scene.unpack(&["--bundle", "bundle", "oci"]);
        ok(&output);
        assert_eq!(text(&output.stdout).trim_end(), scene.path("bundle/rootfs").to_str().unwrap());
        let name = format!("unpack-test-{}-{runtime}", std::process::id());
        // crun refuses a host with cgroup v1 and v2 beside each other, whatever the bundle says: there it gets v2 alone,
        // and no cgroup, since machines like that may also forbid the BPF that it needs for one.
        let script = format!(
            "if [ {runtime} = crun ] && [ -d /sys/fs/cgroup/unified ]; then
                 umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup; options=--cgroup-manager=disabled
             fi
             exec {runtime} $options run -b bundle {name}"
        );
        let output =
            Command::new("unshare").args(["-m", "sh", "-c", &script]).current_dir(scene.path("")).output().unwrap();
        assert_eq!(output.status.code(), Some(7), "{runtime}: {}", text(&output.stderr));
        assert_eq!(text(&output.stdout), "hello\n/tmp\n", "{runtime}");
    }
}

/// Made by an ordinary user and run by one, in whom root of the container is that user.
#[test]
fn a_users_bundle_runs_unchanged_in_runc_and_crun() {
    let Some(image) = busybox() else { return skip("no busybox-static") };
    // One who has subordinate ids can be another user in the container.
    let me = nix::unistd::User::from_uid(nix::unistd::geteuid().as_raw().into()).unwrap().map(|user| user.name);
    let ranges = fs::read_to_string("/etc/subuid").unwrap_or_default();
    let ranged = !is_root() && me.is_some_and(|me| ranges.lines().any(|line| line.starts_with(&format!("{me}:"))));
    let users: &[(&str, &str)] = if ranged { &[("", "0\n"), ("33:44", "33\n")] } else { &[("", "0\n")] };
    for (runtime, &(user, printed)) in
        ["runc", "crun"].iter().flat_map(|runtime| users.iter().map(move |user| (*runtime, user)))
    {
        if !has(runtime) {
            skip(&format!("no {runtime}"));
            continue;
        }
        let hybrid = Path::new("/sys/fs/cgroup/unified").exists();
        if runtime == "crun" && hybrid && !is_root() {
            skip("crun refuses cgroup v1 and v2 beside each other, and only root can take the one away");
            continue;
        }
        let scene = Scene::new();
        let run = json!({ "Cmd": ["/bin/sh", "-c", "id -u; exit 7"], "User": user });
        with_config(&scene, std::slice::from_ref(&image), run);
        scene.put_tool();
        fs::create_dir(scene.path("home")).unwrap();
        let as_user = if is_root() {
            std::os::unix::fs::chown(scene.path("home"), Some(65534), Some(65534)).unwrap();
            fs::set_permissions(scene.path(""), fs::Permissions::from_mode(0o755)).unwrap();
            "setpriv --reuid 65534 --regid 65534 --clear-groups"
        } else {
            ""
        };
        let name = format!("unpack-test-{}-{runtime}", std::process::id());
        let script = format!(
            "if [ {runtime} = crun ] && [ -d /sys/fs/cgroup/unified ]; then
                 umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup; options=--cgroup-manager=disabled
             fi
             export HOME=$PWD/home XDG_RUNTIME_DIR=$PWD/home
             cd home && {as_user} ../unpack -q --bundle bundle ../oci >/dev/null &&
             exec {as_user} {runtime} $options run -b bundle {name}"
        );
        let mut shell = if is_root() { Command::new("unshare") } else { Command::new("sh") };
        let words: &[&str] = if is_root() { &["-m", "sh", "-c", &script] } else { &["-c", &script] };
        let output = shell.args(words).current_dir(scene.path("")).output().unwrap();
        let stderr = text(&output.stderr);
        if stderr.contains("newuidmap") || stderr.contains("user namespace") {
            skip("no user namespaces for ordinary users");
            continue;
        }
        assert_eq!(output.status.code(), Some(7), "{runtime}: {stderr}");
        assert_eq!(text(&output.stdout), printed, "{runtime}");
    }
}

/// Who can write the directory can exchange `config.json`, by which a runtime runs whatever it says.
#[test]
fn a_bundle_in_a_directory_that_others_can_write_is_refused() {
    let scene = Scene::new();
    with_config(&scene, &[small()], json!({ "Cmd": ["c"] }));
    let bundle = scene.path("others");
    fs::create_dir(&bundle).unwrap();
    let refused = |why: &str| {
        let output = scene.unpack(&["--bundle", "others", "oci"]);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(125), "{stderr}");
        assert!(stderr.contains(why) && stderr.contains("hint: name a directory that only you"), "{stderr}");
        assert_eq!(fs::read_dir(&bundle).unwrap().count(), 0);
    };
    for mode in [0o777, 0o1777, 0o775] {
        fs::set_permissions(&bundle, fs::Permissions::from_mode(mode)).unwrap();
        refused("can be written by others");
    }
    if is_root() {
        fs::set_permissions(&bundle, fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::chown(&bundle, Some(65534), None).unwrap();
        refused("belongs to another user (65534)");
    }
    // What it makes itself is fit, whatever the umask.
    let mut command = Command::new("sh");
    command.args(["-c", &format!("umask 002; {UNPACK} -q --bundle new/bundle oci")]).current_dir(scene.path(""));
    ok(&command.output().unwrap());
}

#[test]
fn a_bundles_configuration_that_unpack_did_not_write_is_kept() {
    let scene = Scene::new();
    with_config(&scene, &[small()], json!({ "Cmd": ["c"] }));
    let refused = |args: &[&str], hint: &str| {
        let output = scene.unpack(args);
        assert_eq!(output.status.code(), Some(125));
        let stderr = text(&output.stderr);
        assert!(stderr.contains("config.json: exists and ") && stderr.contains(hint), "{stderr}");
    };
    // Somebody's own, where there is no root yet.
    fs::create_dir(scene.path("own")).unwrap();
    scene.write("own/config.json", b"mine");
    for args in [&["--bundle", "own", "oci"][..], &["--replace", "--bundle", "own", "oci"]] {
        refused(args, "hint: move it away or name another DIR");
    }
    assert_eq!(fs::read_to_string(scene.path("own/config.json")).unwrap(), "mine");
    assert!(!scene.path("own/rootfs").exists());
    // One that was edited.
    let run = ["-q", "--bundle", "made", "oci"];
    ok(&scene.unpack(&run));
    let image = fs::read(scene.path("made/config.json")).unwrap();
    ok(&scene.unpack(&run));
    scene.write("made/config.json", b"edited");
    refused(&run, "hint: --replace");
    assert_eq!(fs::read_to_string(scene.path("made/config.json")).unwrap(), "edited");
    ok(&scene.unpack(&["-q", "--replace", "--bundle", "made", "oci"]));
    assert_eq!(fs::read(scene.path("made/config.json")).unwrap(), image);
}

#[test]
fn a_bundles_configuration_is_the_images() {
    let scene = Scene::new();
    let run = json!({
        "User": "web",
        "Env": ["A=b"],
        "Entrypoint": ["/e"],
        "Cmd": ["c", "d"],
        "WorkingDir": "/w",
        "StopSignal": "SIGUSR1",
        "ExposedPorts": { "80/tcp": {} },
        "Volumes": { "/data": {} },
        "Labels": { "some.label": "x" },
    });
    with_config(&scene, &[small()], run);
    ok(&scene.unpack(&["--bundle", "a/b", "oci"]));
    let config = json_of(&scene.path("a/b/config.json"));
    let process = &config["process"];
    assert_eq!(process["args"], json!(["/e", "c", "d"]));
    assert_eq!(process["env"][0], "A=b");
    assert!(process["env"][1].as_str().unwrap().starts_with("PATH="));
    assert_eq!(process["cwd"], "/w");
    assert_eq!(process["user"], json!({ "uid": 33, "gid": 44, "additionalGids": [55] }));
    assert_eq!(config["annotations"]["org.opencontainers.image.stopSignal"], "SIGUSR1");
    assert_eq!(config["annotations"]["org.opencontainers.image.exposedPorts"], "80/tcp");
    assert_eq!(config["annotations"]["some.label"], "x");
    assert!(config["mounts"].as_array().unwrap().iter().any(|mount| mount["destination"] == "/data"));
    // Again, with the configuration gone: the root is there already.
    fs::remove_file(scene.path("a/b/config.json")).unwrap();
    ok(&scene.unpack(&["--bundle", "a/b", "oci"]));
    assert_eq!(json_of(&scene.path("a/b/config.json")), config);
    // A group that is given stands alone.
    with_config(&scene, &[small()], json!({ "User": "web:44" }));
    ok(&scene.unpack(&["--bundle", "d", "oci"]));
    let user = &json_of(&scene.path("d/config.json"))["process"]["user"];
    assert_eq!(user, &json!({ "uid": 33, "gid": 44, "additionalGids": [] }));
    // And nothing is left of one that fails.
    assert_eq!(scene.unpack(&["--bundle", "c", "no-such-image"]).status.code(), Some(125));
    assert!(!scene.path("c").exists());
}

#[test]
fn an_inspection_prints_the_configuration_and_extracts_nothing() {
    let scene = Scene::new();
    layout(&scene, &[small()]);
    let output = scene.unpack(&["--inspect", "oci"]);
    ok(&output);
    let config: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(config["config"]["Cmd"], json!(["sh"]));
    assert!(!scene.path("root").exists());
    scene.write("img.tar", &small());
    let message = scene.failed(&scene.unpack(&["--inspect", "img.tar"]));
    assert!(message.contains("no configuration"), "{message}");
}

#[test]
fn a_receipt_holds_the_configuration_and_what_vouches_for_it() {
    let scene = Scene::new();
    layout(&scene, &[small()]);
    ok(&scene.unpack(&["oci", "root"]));
    let receipt = json_of(&scene.path("root.image.json"));
    assert_eq!(receipt["config"]["config"]["Env"], json!(["A=b"]));
    assert_eq!(receipt["image"]["kind"], "oci");
    for digest in ["manifest_digest", "config_digest"] {
        assert!(receipt["image"][digest].as_str().unwrap().starts_with("sha256:"), "{digest}");
    }
    assert_eq!(receipt["image"]["diff_ids"].as_array().unwrap().len(), 1);
    // The same image by another way is the same image.
    let tar = Command::new("tar").args(["-cf", "oci.tar", "-C", "oci", "."]).current_dir(scene.path("")).status();
    if tar.is_ok_and(|status| status.success()) {
        let output = scene.unpack(&["oci.tar", "root"]);
        ok(&output);
        assert!(text(&output.stderr).contains("reusing the existing root"));
    }
}

#[test]
fn two_extractions_of_one_image_have_one_digest() {
    let scene = Scene::new();
    let blocks = |time: &str| {
        let file = Block::file("d/f", b"x").field(136, format!("{time}\0").as_bytes());
        [file.bytes(), Block::new("l", b'1').link("d/f").bytes(), Block::new("s", b'2').link("x").bytes(), END.to_vec()]
            .concat()
    };
    let digest = |bytes: &[u8], root: &str| {
        let output = scene.unpack_bytes(bytes, &["--digest", "-", root]);
        ok(&output);
        let line = text(&output.stdout);
        assert!(line.starts_with("sha256:") && line.len() == 72, "{line}");
        line
    };
    let bytes = blocks("00000000001");
    let one = digest(&bytes, "one");
    assert_eq!(one, digest(&bytes, "two"));
    assert_eq!(one, digest(&bytes, "one"));
    assert_ne!(one, digest(&blocks("00000000002"), "three"));
    fs::write(scene.path("two/d/f"), "y").unwrap();
    assert_ne!(one, digest(&bytes, "two"));
}

/// Two machines differ in what lists directories in which order, how blocks are counted, and when and as what it was
/// done: so do two filesystems, other numbers of threads, a file and a pipe, and another moment.
#[test]
fn the_digest_is_the_same_on_another_filesystem() {
    use std::os::unix::fs::MetadataExt;
    let memory = Path::new("/dev/shm");
    let (one, two) = (Scene::below(Path::new("/var/tmp")), Scene::below(memory));
    let device = |scene: &Scene| fs::metadata(scene.path("")).unwrap().dev();
    if device(&one) == device(&two) {
        return skip("/var/tmp and /dev/shm are one filesystem");
    }
    let mut bytes = Vec::new();
    for i in 0..300 {
        bytes.extend(Block::file(&format!("d{}/e/f{i}", i % 7), &vec![i as u8; 40 * i]).bytes());
    }
    bytes.extend(Block::new("d1", b'5').mode(0o2755).bytes());
    bytes.extend(Block::new("hard", b'1').link("d3/e/f3").bytes());
    bytes.extend(Block::new("soft", b'2').link("nowhere").bytes());
    bytes.extend(Block::new("fifo", b'6').bytes());
    bytes.extend(END);
    one.write("img.tar", &bytes);
    let first = one.unpack(&["--digest", "--threads", "1", "img.tar", "root"]);
    let second = two.unpack_bytes(&bytes, &["--digest", "--threads", "5", "-", "root"]);
    ok(&first);
    ok(&second);
    assert_eq!(text(&first.stdout), text(&second.stdout));
}

#[test]
fn help_is_short_or_whole() {
    let scene = Scene::new();
    let (short, long) = (scene.unpack(&["-h"]), scene.unpack(&["--help"]));
    ok(&short);
    ok(&long);
    assert!(text(&short.stdout).contains("Example: unpack img.tar | isolate"));
    for word in ["EXAMPLES", "EXIT STATUS", "ratio=N"] {
        assert!(text(&long.stdout).contains(word), "{word}");
    }
    assert!(long.stdout.len() > short.stdout.len());
}

#[test]
fn an_explained_chain_is_a_script_and_changes_nothing() {
    let scene = Scene::new();
    scene.write("img.tar", &small());
    let output = scene.unpack(&["--explain", "img.tar", "root", "--", "ls", "root"]);
    ok(&output);
    assert!(!scene.path("root").exists() && scene.staged().is_empty());
    let run = Command::new("sh").arg("-c").arg(text(&output.stdout)).current_dir(scene.path("")).output().unwrap();
    ok(&run);
    assert_eq!(text(&run.stdout), "etc\n");
}

#[test]
fn a_layered_image_is_never_explained_as_what_tar_could_do() {
    let scene = Scene::new();
    layout(&scene, &[small()]);
    let output = scene.unpack(&["--explain", "oci", "root"]);
    ok(&output);
    let script = text(&output.stdout);
    assert!(script.contains("unpack oci ") && !script.contains("tar --"), "{script}");
}

#[test]
fn verbose_tells_every_step_with_its_time() {
    let scene = Scene::new();
    scene.write("img.tar", &small());
    let output = scene.unpack(&["-v", "img.tar", "root"]);
    ok(&output);
    let stderr = text(&output.stderr);
    for step in ["found the image", "extracted it", "put it in place"] {
        let line = stderr.lines().find(|line| line.contains(step)).unwrap_or_else(|| panic!("{stderr}"));
        assert!(line.starts_with("unpack: ") && line.ends_with(" ms)"), "{line}");
    }
}
