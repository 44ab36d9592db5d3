//! A root is there when it is whole, and not before, whatever happens meanwhile.

mod archive;
mod scene;

use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use archive::{Block, END};
use chain::receipt::lock::{Lock, in_use};
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use scene::{Scene, UNPACK, has, is_root, skip, text};

/// Files whose content is all `mark`, so that a mixture would show.
fn image(mark: u8, files: usize) -> Vec<u8> {
    let content = vec![mark; 5000];
    let mut bytes = Vec::new();
    for i in 0..files {
        bytes.extend(Block::file(&format!("d{}/f{i}", i % 10), &content).bytes());
    }
    bytes.extend(END);
    bytes
}

fn is_whole(root: &Path, mark: u8, files: usize) {
    for i in 0..files {
        let content = fs::read(root.join(format!("d{}/f{i}", i % 10))).unwrap();
        assert!(content.len() == 5000 && content.iter().all(|&b| b == mark), "file {i}");
    }
}

fn times(variable: &str, default: u32) -> u32 {
    std::env::var(variable).ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

fn ok(output: &Output) {
    assert!(output.status.success(), "{}", text(&output.stderr));
}

/// Waits until a root is being filled, by what the reader of a pipe has taken.
fn half_fed(scene: &Scene, args: &[&str]) -> (std::process::Child, std::process::ChildStdin) {
    let mut child = scene.spawn_piped(args);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&Block::file("first", b"1").bytes()).unwrap();
    stdin.write_all(&Block::file("filler", &vec![7; 64 << 20]).bytes()).unwrap();
    assert!(scene.staged()[0].join("root/first").exists());
    (child, stdin)
}

#[test]
fn the_path_comes_at_once_and_its_newline_when_the_root_is_whole() {
    let scene = Scene::new();
    let mut child = scene.spawn_piped(&["-", "root"]);
    let path = scene.path("root");
    let mut line = vec![0; path.as_os_str().len()];
    let mut stdout = child.stdout.take().unwrap();
    // Before a byte of the image was given.
    stdout.read_exact(&mut line).unwrap();
    assert_eq!(text(&line), path.to_str().unwrap());
    child.stdin.take().unwrap().write_all(&image(b'a', 3)).unwrap();
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "\n");
    assert!(child.wait().unwrap().success());
    is_whole(&path, b'a', 3);
}

#[test]
fn a_second_run_hands_on_the_same_root_at_once() {
    let scene = Scene::new();
    let root = scene.extracted(&image(b'a', 20), &[]);
    let inode = fs::metadata(&root).unwrap().ino();
    fs::write(root.join("mine"), "kept").unwrap();
    let check = |output: Output| {
        ok(&output);
        let stderr = text(&output.stderr);
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        for word in ["reusing the existing root", "--replace", "pivot --ephemeral"] {
            assert!(stderr.contains(word), "{stderr}");
        }
        assert_eq!(fs::metadata(&root).unwrap().ino(), inode);
        assert!(root.join("mine").exists());
    };
    check(scene.unpack(&["img.tar", "root"]));
    // By digest: a copy, and a pipe.
    fs::copy(scene.path("img.tar"), scene.path("copy.tar")).unwrap();
    check(scene.unpack(&["copy.tar", "root"]));
    check(scene.unpack_bytes(&image(b'a', 20), &["-", "root"]));
    assert!(scene.unpack(&["-q", "img.tar", "root"]).stderr.is_empty());
}

#[test]
fn a_root_that_is_something_else_is_left_alone() {
    let scene = Scene::new();
    let root = scene.extracted(&image(b'a', 5), &[]);
    let refused = |args: &[&str]| {
        let output = scene.unpack(args);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(125), "{stderr}");
        assert!(stderr.lines().nth(1).is_some_and(|line| line.starts_with("unpack: hint: ")), "{stderr}");
        assert!(!text(&output.stdout).contains('\n'));
        scene.nothing_staged();
        stderr
    };
    scene.write("other.tar", &image(b'b', 5));
    assert!(refused(&["other.tar", "root"]).contains("another image"));
    assert!(refused(&["--devices", "img.tar", "root"]).contains("other options"));
    is_whole(&root, b'a', 5);

    fs::create_dir(scene.path("mine")).unwrap();
    fs::write(scene.path("mine/file"), "x").unwrap();
    assert!(refused(&["img.tar", "mine"]).contains("did not make it"));
    // What unpack never made it never deletes.
    assert!(refused(&["--replace", "img.tar", "mine"]).contains("did not make it"));
    assert!(scene.path("mine/file").exists());

    fs::write(scene.path("file"), "x").unwrap();
    std::os::unix::fs::symlink("root", scene.path("link")).unwrap();
    refused(&["img.tar", "file"]);
    refused(&["img.tar", "link"]);
    refused(&["img.tar", "."]);

    // A receipt vouches for one directory only.
    fs::rename(&root, scene.path("away")).unwrap();
    fs::create_dir(&root).unwrap();
    assert!(refused(&["img.tar", "root"]).contains("another directory's"));
}

#[test]
fn missing_images_and_parents_are_errors_that_name_them() {
    let scene = Scene::new();
    let message = scene.failed(&scene.unpack(&["nowhere.tar", "root"]));
    assert!(message.contains("nowhere.tar"), "{message}");
    scene.write("img.tar", &image(b'a', 1));
    let message = scene.failed(&scene.unpack(&["img.tar", "no/such/root"]));
    assert!(message.contains("no/such"), "{message}");
}

#[test]
fn an_archive_that_was_cut_at_any_block_leaves_nothing() {
    let whole = image(b'a', 3);
    // Without the second block of its end marker it is whole.
    for length in (512..=whole.len() - 1024).step_by(512) {
        let scene = Scene::new();
        let message = scene.failed(&scene.unpack_bytes(&whole[..length], &["-", "root"]));
        assert!(message.contains("truncated"), "{length}: {message}");
        let message = scene.refused(&whole[..length], &[]);
        assert!(message.contains("truncated"), "{length}: {message}");
    }
}

/// Its digests vouch for it: it is whole once its last file is, with or without an end marker.
#[test]
fn a_layered_image_that_was_cut_at_any_block_leaves_nothing() {
    let layer = image(b'a', 1);
    let whole = archive::layout::docker("x:1", std::slice::from_ref(&layer), &["a/layer.tar".into()]).tar();
    let refused = |length: usize| {
        let scene = Scene::new();
        scene.failed(&scene.unpack_bytes(&whole[..length], &["-", "root"]));
        scene.refused(&whole[..length], &[]);
    };
    (512..whole.len() - 1024).step_by(512).for_each(refused);
    let root = Scene::new();
    is_whole(&root.extracted(&whole[..whole.len() - 1024], &[]), b'a', 1);
}

#[test]
fn the_command_runs_in_our_place_once_the_root_is_whole() {
    let scene = Scene::new();
    scene.write("img.tar", &image(b'a', 3));
    let output = scene.unpack(&["img.tar", "root", "--", "sh", "-c", "ls root; exit 7", "--quiet"]);
    assert_eq!(output.status.code(), Some(7), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "d0\nd1\nd2\n");
    let output = scene.unpack(&["img.tar", "root", "--", "./no-such-command"]);
    assert_eq!(output.status.code(), Some(127));
    let output = scene.unpack(&["nowhere.tar", "other", "--", "sh", "-c", "echo RAN"]);
    assert_eq!(output.status.code(), Some(125));
    assert!(output.stdout.is_empty());
}

#[test]
fn the_command_gets_the_umask_and_signals_that_we_got() {
    let scene = Scene::new();
    scene.write("img.tar", &image(b'a', 1));
    let script =
        format!("umask 027; exec {UNPACK} -q img.tar root -- sh -c 'umask; grep -E ^Sig.*: /proc/self/status'");
    let plain = "umask 027; exec sh -c 'umask; grep -E ^Sig.*: /proc/self/status'";
    let run = |script: &str| Command::new("sh").args(["-c", script]).current_dir(scene.path("")).output().unwrap();
    let signals = |output: Output| {
        ok(&output);
        let lines = text(&output.stdout);
        // SigQ counts what the user has pending at the moment.
        lines.lines().filter(|line| !line.starts_with("SigQ")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(signals(run(&script)), signals(run(plain)));
}

#[test]
fn a_signal_removes_what_is_half_done_and_ends_us() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let scene = Scene::new();
        let (mut child, stdin) = half_fed(&scene, &["-", "root"]);
        kill(Pid::from_raw(child.id() as i32), signal).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(signal as i32));
        drop(stdin);
        scene.nothing_staged();
        assert!(!scene.path("root").exists() && !scene.path("root.image.json").exists());
    }
}

#[test]
fn a_signal_that_was_ignored_when_we_started_stays_ignored() {
    let scene = Scene::new();
    scene.write("img.tar", &image(b'a', 1));
    let script = format!("trap '' INT HUP; exec {UNPACK} - root");
    let mut child = Command::new("sh")
        .args(["-c", &script])
        .current_dir(scene.path(""))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut path = vec![0; scene.path("root").as_os_str().len()];
    child.stdout.as_mut().unwrap().read_exact(&mut path).unwrap();
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    child.stdin.take().unwrap().write_all(&image(b'a', 2)).unwrap();
    assert!(child.wait().unwrap().success());
    is_whole(&scene.path("root"), b'a', 2);
}

#[test]
fn sigkill_leaves_no_root_and_the_next_run_sweeps() {
    let scene = Scene::new();
    let (mut child, stdin) = half_fed(&scene, &["-", "root"]);
    child.kill().unwrap();
    child.wait().unwrap();
    drop(stdin);
    assert_eq!(scene.staged().len(), 1);
    assert!(!scene.path("root").exists());
    let root = scene.extracted(&image(b'a', 3), &[]);
    is_whole(&root, b'a', 3);
}

#[test]
fn the_staging_of_a_living_run_is_never_swept() {
    let scene = Scene::new();
    let (mut child, mut stdin) = half_fed(&scene, &["-", "root"]);
    scene.write("img.tar", &image(b'b', 3));
    ok(&scene.unpack(&["img.tar", "root2"]));
    let output = scene.unpack(&["img.tar", "root"]);
    ok(&output);
    assert_eq!(scene.staged().len(), 1);
    // The slower of two with different images says so and leaves the other's root.
    stdin.write_all(&END).unwrap();
    drop(stdin);
    let output = {
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        (child.wait().unwrap(), stderr)
    };
    assert_eq!(output.0.code(), Some(125), "{}", output.1);
    assert!(output.1.contains("another image"), "{}", output.1);
    scene.nothing_staged();
    is_whole(&scene.path("root"), b'b', 3);
}

#[test]
fn runs_at_once_for_the_same_root_all_hand_on_one() {
    for _ in 0..times("UNPACK_TEST_RACES", 5) {
        let scene = Scene::new();
        scene.write("img.tar", &image(b'a', 200));
        let children: Vec<_> = (0..4)
            .map(|_| {
                let mut command = scene.command(&["img.tar", "root"]);
                command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
            })
            .collect();
        for child in children {
            let output = child.wait_with_output().unwrap();
            ok(&output);
            assert!(text(&output.stdout).ends_with("/root\n"));
        }
        is_whole(&scene.path("root"), b'a', 200);
        scene.nothing_staged();
        // The receipt that is there is that root's.
        let again = scene.unpack(&["img.tar", "root"]);
        ok(&again);
        assert!(text(&again.stderr).contains("reusing the existing root"));
    }
}

/// Kills a run once it has staged so many files, or a little after it was done with them.
fn kill_after(scene: &Scene, child: &mut std::process::Child, files: usize) {
    let count = |dir: &Path| fs::read_dir(dir).map_or(0, |names| names.count());
    while child.try_wait().unwrap().is_none() {
        let roots = scene.staged().into_iter().map(|staged| staged.join("root"));
        let staged: usize =
            roots.flat_map(|root| (0..10).map(move |i| root.join(format!("d{i}")))).map(|d| count(&d)).sum();
        if staged >= files {
            break;
        }
    }
    let _ = child.kill();
    child.wait().unwrap();
}

#[test]
fn sigkill_at_any_moment_leaves_no_root_or_a_whole_one() {
    let scene = Scene::new();
    scene.write("img.tar", &image(b'a', 300));
    let (kills, mut whole) = (times("UNPACK_TEST_KILLS", 25), 0);
    for i in 0..kills {
        let mut child = scene.command(&["-q", "img.tar", "root"]).stdout(Stdio::null()).spawn().unwrap();
        kill_after(&scene, &mut child, (i as usize * 37) % 330);
        if scene.path("root").exists() {
            whole += 1;
            is_whole(&scene.path("root"), b'a', 300);
            ok(&scene.unpack(&["-q", "img.tar", "root"]));
            fs::remove_dir_all(scene.path("root")).unwrap();
        }
    }
    eprintln!("{kills} kills, {whole} of them when the root was whole");
    let root = scene.extracted(&image(b'a', 300), &[]);
    is_whole(&root, b'a', 300);
}

#[test]
fn sigkill_during_a_replacement_never_loses_the_root() {
    let scene = Scene::new();
    let marks = [b'a', b'b'];
    for mark in marks {
        scene.write(&format!("{}.tar", char::from(mark)), &image(mark, 100));
    }
    ok(&scene.unpack(&["-q", "a.tar", "root"]));
    for i in 0..times("UNPACK_TEST_KILLS", 25) {
        let next = char::from(marks[(i as usize + 1) % 2]);
        let mut child =
            scene.command(&["-q", "--replace", &format!("{next}.tar"), "root"]).stdout(Stdio::null()).spawn().unwrap();
        kill_after(&scene, &mut child, (i as usize * 13) % 110);
        let found = fs::read(scene.path("root/d0/f0")).unwrap()[0];
        is_whole(&scene.path("root"), found, 100);
        // If a receipt vouches for it, it is that image's.
        for mark in marks {
            let output = scene.unpack(&[&format!("{}.tar", char::from(mark)), "root"]);
            if output.status.success() {
                assert_eq!(mark, found, "a receipt vouches for another tree");
            }
        }
    }
    ok(&scene.unpack(&["-q", "--replace", "a.tar", "root"]));
    is_whole(&scene.path("root"), b'a', 100);
    scene.nothing_staged();
}

#[test]
fn a_replacement_keeps_the_tree_that_a_container_uses() {
    let scene = Scene::new();
    let root = scene.extracted(&image(b'a', 5), &[]);
    // As pivot does for the life of its container.
    let inode = fs::metadata(&root).unwrap().ino();
    let held = fs::File::open(scene.path("root.image.json")).unwrap();
    assert_eq!(in_use(&held), Ok(Lock::Held));
    scene.write("other.tar", &image(b'b', 5));
    ok(&scene.unpack(&["--replace", "other.tar", "root"]));
    is_whole(&root, b'b', 5);
    assert_eq!(scene.staged().len(), 1);
    let old = scene.staged().remove(0).join("root");
    is_whole(&old, b'a', 5);
    assert_eq!(fs::metadata(&old).unwrap().ino(), inode);
    // Later runs leave it, and sweep it when the container is gone.
    ok(&scene.unpack(&["--replace", "img.tar", "root"]));
    is_whole(&old, b'a', 5);
    // Not by closing it: what another test has just forked holds it as well until it executes its program.
    give_up(&held);
    ok(&scene.unpack(&["--replace", "other.tar", "root"]));
    scene.nothing_staged();
}

fn give_up(file: &fs::File) {
    let unlock = libc::flock { l_type: libc::F_UNLCK as i16, l_whence: 0, l_start: 0, l_len: 0, l_pid: 0 };
    nix::fcntl::fcntl(file, nix::fcntl::FcntlArg::F_OFD_SETLK(&unlock)).unwrap();
}

#[test]
fn a_replacement_that_fails_leaves_the_old_root() {
    let scene = Scene::new();
    let root = scene.extracted(&image(b'a', 5), &[]);
    scene.write("bad.tar", &image(b'b', 50)[..100_000]);
    let output = scene.unpack(&["--replace", "bad.tar", "root"]);
    assert_eq!(output.status.code(), Some(125));
    is_whole(&root, b'a', 5);
    scene.nothing_staged();
    ok(&scene.unpack(&["img.tar", "root"]));
}

#[test]
fn a_reader_that_is_gone_costs_no_root() {
    let scene = Scene::new();
    scene.write("img.tar", &image(b'a', 3));
    let mut child = scene.command(&["img.tar", "root"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    child.wait().unwrap();
    if scene.path("root").exists() {
        is_whole(&scene.path("root"), b'a', 3);
    }
    scene.nothing_staged();
    // One that goes between the path and its newline: the root is there for the next run, and nobody was told.
    let scene = Scene::new();
    let mut child = scene.spawn_piped(&["-q", "-", "root"]);
    let mut path = vec![0; scene.path("root").as_os_str().len()];
    child.stdout.take().unwrap().read_exact(&mut path).unwrap();
    child.stdin.take().unwrap().write_all(&image(b'a', 3)).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert_eq!(text(&output.stderr), "unpack: standard output: Broken pipe\n");
    is_whole(&scene.path("root"), b'a', 3);
    scene.nothing_staged();
    ok(&scene.unpack_bytes(&image(b'a', 3), &["-", "root"]));
}

#[test]
fn an_input_that_cannot_be_read_leaves_nothing() {
    let scene = Scene::new();
    // Reading a directory gives EISDIR.
    let mut command = scene.command(&["-", "root"]);
    command.stdin(fs::File::open(scene.path("outside")).unwrap());
    scene.failed(&command.output().unwrap());
}

/// A small filesystem in a mount namespace of its own.
fn on_tmpfs(options: &str, scene: &Scene) -> Output {
    fs::create_dir_all(scene.path("small")).unwrap();
    scene.with_mounts(&format!(
        "mount -t tmpfs -o {options} none small && $UNPACK img.tar small/root; s=$?; ls -A small >&2; exit $s"
    ))
}

#[test]
fn a_full_filesystem_leaves_nothing() {
    if !is_root() {
        return skip("only root mounts a small filesystem");
    }
    for options in ["size=1m", "size=100m,nr_inodes=60"] {
        let scene = Scene::new();
        scene.write("img.tar", &image(b'a', 400));
        let output = on_tmpfs(options, &scene);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(125), "{stderr}");
        let lines: Vec<_> = stderr.lines().collect();
        assert!(lines.len() == 1 && lines[0].contains("No space left"), "{stderr}");
    }
    // What has to be kept of a pipe before it can be read needs room too.
    let scene = Scene::new();
    let layer = image(b'a', 400);
    scene.write("img.tar", &archive::layout::docker("x:1", &[layer], &["a/layer.tar".into()]).tar());
    fs::create_dir_all(scene.path("small")).unwrap();
    let output = scene.with_mounts(
        "mount -t tmpfs -o size=1m none small && cat img.tar | $UNPACK - small/root; s=$?; ls -A small >&2; exit $s",
    );
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{stderr}");
    let ours: Vec<_> = stderr.lines().filter(|line| !line.starts_with("cat: ")).collect();
    assert!(ours.len() == 1 && ours[0].contains("No space left"), "{stderr}");
}

#[test]
fn a_mount_point_or_overlay_layer_is_not_replaced() {
    if !is_root() {
        return skip("only root mounts");
    }
    let scene = Scene::new();
    scene.extracted(&image(b'a', 3), &[]);
    let run = |script: &str| scene.with_mounts(&script.replace("UNPACK", UNPACK));
    let output = run("mount --bind root root && exec UNPACK --replace img.tar root");
    let stderr = text(&output.stderr);
    assert!(
        output.status.code() == Some(125) && stderr.contains("mounted") && stderr.contains("hint: umount"),
        "{stderr}"
    );
    fs::create_dir_all(scene.path("o/merged")).unwrap();
    let output = run("mount -t tmpfs none o && mkdir o/up o/work o/merged &&
         mount -t overlay -o lowerdir=$PWD/root,upperdir=o/up,workdir=o/work none o/merged || exit 77
         exec UNPACK --replace img.tar root");
    let stderr = text(&output.stderr);
    if output.status.code() == Some(77) {
        return skip("no overlay here");
    }
    assert!(
        output.status.code() == Some(125) && stderr.contains("overlay") && stderr.contains("hint: umount"),
        "{stderr}"
    );
    is_whole(&scene.path("root"), b'a', 3);
}

#[test]
fn a_parent_with_setgid_and_default_acls_passes_nothing_on() {
    use std::os::unix::fs::PermissionsExt;
    let scene = Scene::new();
    let parent = scene.path("parent");
    fs::create_dir(&parent).unwrap();
    fs::set_permissions(&parent, fs::Permissions::from_mode(0o2755)).unwrap();
    let acl: Vec<u8> = [
        &2_u32.to_le_bytes()[..],
        &[1, 0, 7, 0, 255, 255, 255, 255],
        &[4, 0, 7, 0, 255, 255, 255, 255],
        &[32, 0, 7, 0, 255, 255, 255, 255],
    ]
    .concat();
    if rustix::fs::setxattr(&parent, "system.posix_acl_default", &acl, rustix::fs::XattrFlags::empty()).is_err() {
        return skip("no ACLs on this filesystem");
    }
    scene.write("img.tar", &[Block::file("d/f", b"x").mode(0o640).bytes(), END.to_vec()].concat());
    ok(&scene.unpack(&["img.tar", "parent/root"]));
    let mode = |path: &str| fs::metadata(scene.path(path)).unwrap().mode() & 0o7777;
    assert_eq!((mode("parent/root"), mode("parent/root/d"), mode("parent/root/d/f")), (0o755, 0o755, 0o640));
    let root = fs::File::open(scene.path("parent/root/d")).unwrap();
    assert!(rustix::fs::fgetxattr_query(root.as_fd(), "system.posix_acl_default").is_err());
}

/// strace kills before each of the calls by which a root is put in place, one after the other.
#[test]
fn sigkill_between_any_two_steps_of_publishing_leaves_no_receipt_that_lies() {
    if !has("strace") {
        return skip("no strace");
    }
    let scene = Scene::new();
    let marks = [b'a', b'b'];
    for mark in marks {
        scene.write(&format!("{}.tar", char::from(mark)), &image(mark, 5));
    }
    let calls = ["renameat2", "renameat", "flock", "unlinkat", "rmdir,unlink"];
    let traced = |call: &str, number: u32, args: &[&str]| {
        let inject = format!("inject={call}:signal=KILL:when={number}");
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject, UNPACK, "-q"]);
        command.args(args).current_dir(scene.path("")).stdin(Stdio::null()).output().unwrap()
    };
    let mut kills = 0;
    for replace in [false, true] {
        for call in calls {
            for number in 1..40 {
                let _ = fs::remove_dir_all(scene.path("root"));
                let _ = fs::remove_file(scene.path("root.image.json"));
                if replace {
                    ok(&scene.unpack(&["-q", "a.tar", "root"]));
                }
                let args: &[&str] = if replace { &["--replace", "b.tar", "root"] } else { &["b.tar", "root"] };
                let output = traced(call, number, args);
                if text(&output.stderr).contains("strace") {
                    return skip("strace may not trace here");
                }
                if output.status.success() {
                    break;
                }
                kills += 1;
                let root = scene.path("root");
                assert!(root.exists() || !replace, "{call} {number}: the old root is lost");
                if !root.exists() {
                    continue;
                }
                let found = fs::read(root.join("d0/f0")).unwrap()[0];
                is_whole(&root, found, 5);
                for mark in marks {
                    let output = scene.unpack(&[&format!("{}.tar", char::from(mark)), "root"]);
                    assert!(
                        !output.status.success() || mark == found,
                        "{call} {number}: a receipt vouches for another tree"
                    );
                }
            }
        }
    }
    assert!(kills > 10, "{kills}");
    let _ = fs::remove_dir_all(scene.path("root"));
    ok(&scene.unpack(&["-q", "a.tar", "root"]));
    scene.nothing_staged();
}
