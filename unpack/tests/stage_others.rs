//! What other users, mounts and names that look like ours make of a root: nothing of another's is believed, and nothing
//! that unpack did not make is removed.

mod archive;
mod scene;

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use archive::{Block, END};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use scene::{Scene, UNPACK, has, is_root, skip, text};

const OTHER: u32 = 31347;

fn image(mark: u8) -> Vec<u8> {
    [Block::file("etc/mark", &[mark]).bytes(), Block::new("mnt", b'5').mode(0o755).bytes(), END.to_vec()].concat()
}

fn mark(root: &Path) -> u8 {
    fs::read(root.join("etc/mark")).unwrap()[0]
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn ok(output: &Output) {
    assert!(output.status.success(), "{}", text(&output.stderr));
}

fn refused(output: &Output, words: &[&str]) {
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{stderr}");
    assert!(words.iter().all(|word| stderr.contains(word)), "{words:?}: {stderr}");
    assert!(!text(&output.stdout).contains('\n'));
}

/// A scene that others may make names in, with two images and a root of the first.
fn shared() -> Scene {
    let scene = Scene::new();
    mode(&scene.path(""), 0o1777);
    scene.write("b.tar", &image(b'b'));
    scene.extracted(&image(b'a'), &[]);
    scene
}

/// In a mount namespace of its own.
fn with_mounts(scene: &Scene, script: &str) -> Output {
    let script = script.replace("UNPACK", UNPACK);
    scene.with_mounts(&format!("set -e; {script}"))
}

/// Handing on is trusting the tree, and so is replacing it: both ask the same receipt.
fn is_not_believed(scene: &Scene, why: &str) {
    let refused = |args: &[&str]| refused(&scene.unpack(args), &[why, "hint: move it away"]);
    refused(&["img.tar", "root"]);
    refused(&["--replace", "b.tar", "root"]);
    refused(&["--digest", "img.tar", "root"]);
    assert_eq!(mark(&scene.path("root")), b'a');
    scene.nothing_staged();
}

#[test]
fn a_receipt_that_others_could_have_written_vouches_for_nothing() {
    let scene = shared();
    let (root, receipt) = (scene.path("root"), scene.path("root.image.json"));
    for (path, was) in [(&root, 0o755), (&receipt, 0o644)] {
        for more in [0o020, 0o002] {
            mode(path, was | more);
            is_not_believed(&scene, "can be written by others");
        }
        mode(path, was);
        if is_root() {
            chown(path, Some(OTHER), None).unwrap();
            is_not_believed(&scene, "belongs to another user (31347)");
            chown(path, Some(0), None).unwrap();
            mode(path, was);
        }
    }
    fs::rename(&receipt, scene.path("kept")).unwrap();
    symlink("kept", &receipt).unwrap();
    is_not_believed(&scene, "is a symbolic link");
    fs::remove_file(&receipt).unwrap();
    fs::rename(scene.path("kept"), &receipt).unwrap();
    ok(&scene.unpack(&["img.tar", "root"]));
    ok(&scene.unpack(&["--replace", "b.tar", "root"]));
    assert_eq!(mark(&root), b'b');
}

#[test]
fn a_root_of_another_users_with_a_receipt_to_match_is_not_handed_on() {
    if !is_root() {
        return skip("only root can be two users");
    }
    let scene = shared();
    for path in ["root", "root.image.json"] {
        chown(scene.path(path), Some(OTHER), Some(OTHER)).unwrap();
    }
    is_not_believed(&scene, "belongs to another user");
    // Who comes second in a race asks it, too.
    scene.write("pipe.tar", &image(b'a'));
    let script = format!("mv root away; (sleep 0.1; cat pipe.tar; mv away root; sleep 0.1) | {UNPACK} - root");
    let output = Command::new("sh").args(["-c", &script]).current_dir(scene.path("")).output().unwrap();
    assert_eq!(output.status.code(), Some(125), "{}", text(&output.stderr));
    // A bundle is made of nothing else.
    fs::create_dir(scene.path("bundle")).unwrap();
    for (from, to) in [("root", "rootfs"), ("root.image.json", "rootfs.image.json")] {
        fs::rename(scene.path(from), scene.path("bundle").join(to)).unwrap();
    }
    refused(&scene.unpack(&["--bundle", "bundle", "img.tar"]), &["belongs to another user"]);
    assert!(!scene.path("bundle/config.json").exists());
}

/// The top directory is as the image has it: many an archive was made in a directory of somebody's own.
#[test]
fn a_root_whose_image_gives_its_top_directory_away_is_found_again() {
    let scene = Scene::new();
    let top = Block::new("./", b'5').mode(0o775).field(108, b"0030071\0").field(116, b"0030071\0");
    let root = scene.extracted(&[top.bytes(), image(b'a')].concat(), &[]);
    ok(&scene.unpack(&["img.tar", "root"]));
    mode(&root, 0o777);
    refused(&scene.unpack(&["img.tar", "root"]), &["cannot be trusted"]);
    mode(&root, 0o775);
    scene.write("b.tar", &image(b'b'));
    ok(&scene.unpack(&["--replace", "b.tar", "root"]));
}

#[test]
fn no_json_beside_a_directory_makes_it_unpacks_own() {
    let scene = shared();
    let receipt = fs::read_to_string(scene.path("root.image.json")).unwrap();
    fs::create_dir(scene.path("mine")).unwrap();
    fs::write(scene.path("mine/data"), "kept").unwrap();
    for beside in ["{}", "[]", "", r#"{"root": null}"#, r#"{"root": {}, "replaces": {}}"#, receipt.as_str()] {
        fs::write(scene.path("mine.image.json"), beside).unwrap();
        for args in [&["--replace", "img.tar", "mine"][..], &["img.tar", "mine"]] {
            refused(&scene.unpack(args), &["hint: move it away"]);
        }
        assert_eq!(fs::read_to_string(scene.path("mine/data")).unwrap(), "kept");
        assert_eq!(fs::read_to_string(scene.path("mine.image.json")).unwrap(), beside);
    }
}

#[test]
fn a_file_where_the_receipt_has_to_go_is_not_overwritten() {
    let scene = Scene::new();
    scene.write("img.tar", &image(b'a'));
    let receipt = scene.write("root.image.json", b"{\"mine\": true}");
    for args in [&["img.tar", "root"][..], &["--replace", "img.tar", "root"]] {
        refused(&scene.unpack(args), &["root.image.json exists and ", "hint: move it away"]);
    }
    assert_eq!(fs::read(&receipt).unwrap(), b"{\"mine\": true}");
    assert!(!scene.path("root").exists());
    // One that outlived its root is nobody's.
    fs::remove_file(receipt).unwrap();
    ok(&scene.unpack(&["img.tar", "root"]));
    fs::remove_dir_all(scene.path("root")).unwrap();
    ok(&scene.unpack(&["img.tar", "root"]));
}

#[test]
fn an_empty_directory_is_replaced_and_one_that_fills_meanwhile_is_not() {
    let scene = Scene::new();
    scene.write("img.tar", &image(b'a'));
    fs::create_dir(scene.path("root")).unwrap();
    ok(&scene.unpack(&["--replace", "img.tar", "root"]));
    assert_eq!(mark(&scene.path("root")), b'a');
    fs::remove_dir_all(scene.path("root")).unwrap();
    fs::create_dir(scene.path("root")).unwrap();
    // The archive ends only when the directory holds something.
    let script = format!(
        "(head -c 512 img.tar; until [ -n \"$(ls -A | grep unpack-)\" ]; do sleep 0.02; done; echo kept >root/data; tail -c +513 img.tar) |
         {UNPACK} --replace - root"
    );
    let output = Command::new("sh").args(["-c", &script]).current_dir(scene.path("")).output().unwrap();
    refused(&output, &["root: "]);
    assert_eq!(fs::read_to_string(scene.path("root/data")).unwrap(), "kept\n");
    scene.nothing_staged();
}

#[test]
fn a_root_with_something_mounted_below_is_left_as_it_is() {
    if !is_root() {
        return skip("only root mounts");
    }
    let scene = shared();
    fs::create_dir(scene.path("host")).unwrap();
    fs::write(scene.path("host/file"), "kept").unwrap();
    let prepare = "mount --make-rprivate /; mount --bind host root/mnt; mount --bind host/file root/etc/mark;";
    let output = with_mounts(&scene, &format!("{prepare} exec UNPACK --replace b.tar root"));
    let (first, second) = (scene.path("root/mnt"), scene.path("root/etc/mark"));
    refused(&output, &["mounted", first.to_str().unwrap(), second.to_str().unwrap(), "hint: umount them first"]);
    let output = with_mounts(&scene, "mount --bind host root/mnt; exec UNPACK --replace b.tar root");
    refused(&output, &["mounted", &format!("hint: umount {} first", first.display())]);
    // By any other name of the parent's, too.
    let alias =
        "ln -s . alias; mount --bind host root/mnt; UNPACK --replace b.tar alias/root || s=$?; rm alias; exit $s";
    refused(&with_mounts(&scene, alias), &["mounted"]);
    assert_eq!(mark(&scene.path("root")), b'a');
    assert_eq!(fs::read_to_string(scene.path("host/file")).unwrap(), "kept");
    scene.nothing_staged();
    // What is mounted beside it, below a name that begins alike, does not matter.
    fs::create_dir(scene.path("root2")).unwrap();
    ok(&with_mounts(&scene, "mount --bind host root2; UNPACK --replace b.tar root"));
    assert_eq!(mark(&scene.path("root")), b'b');
}

/// A run that was killed while it filled its staging directory.
fn dead_run(scene: &Scene) -> std::path::PathBuf {
    let mut child = scene.spawn_piped(&["-", "root"]);
    let mut stdin = child.stdin.take().unwrap();
    use std::io::Write;
    stdin.write_all(&Block::file("d/first", b"1").bytes()).unwrap();
    stdin.write_all(&Block::file("filler", &vec![7; 64 << 20]).bytes()).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    scene.staged().remove(0)
}

#[test]
fn the_sweep_removes_nothing_through_a_mount() {
    if !is_root() {
        return skip("only root mounts");
    }
    let scene = Scene::new();
    scene.write("img.tar", &image(b'a'));
    fs::create_dir(scene.path("host")).unwrap();
    fs::write(scene.path("host/file"), "kept").unwrap();
    let staged = dead_run(&scene);
    let at = staged.join("root/d");
    ok(&with_mounts(&scene, &format!("mount --bind host {0}; UNPACK -q img.tar root; umount {0}", at.display())));
    assert!(at.exists(), "what holds a mount was removed");
    assert_eq!(fs::read_to_string(scene.path("host/file")).unwrap(), "kept");
    // And a mount of the same filesystem's own directory is one as well.
    fs::write(at.join("own"), "kept").unwrap();
    ok(&with_mounts(&scene, &format!("mount --bind {0} {0}; UNPACK -q img.tar root; umount {0}", at.display())));
    assert!(at.join("own").exists());
    // With it gone, the next run is done with all of it.
    ok(&scene.unpack(&["-q", "img.tar", "root"]));
    scene.nothing_staged();
}

#[test]
fn what_is_only_named_like_staging_stays() {
    let scene = Scene::new();
    scene.write("img.tar", &image(b'a'));
    let named = "0123456789abcdef";
    let names = ["notes", "mine", "lock2", "0123456789ABCDEF", "0123456789abcdef0", named];
    for name in names {
        let dir = scene.path(&format!(".root.unpack-{name}"));
        fs::create_dir(&dir).unwrap();
        mode(&dir, 0o700);
        fs::create_dir(dir.join("root")).unwrap();
        fs::write(dir.join("root/thesis"), "kept").unwrap();
    }
    fs::write(scene.path(".root.unpack-lock.txt"), "kept").unwrap();
    // Staging has a mark, but not beside what unpack does not put there.
    let marked = scene.path(".root.unpack-fedcba9876543210");
    fs::create_dir(&marked).unwrap();
    mode(&marked, 0o700);
    for name in ["made-by-unpack", "thesis"] {
        fs::write(marked.join(name), "kept").unwrap();
    }
    let run = || ok(&scene.unpack(&["-q", "img.tar", "root"]));
    run();
    run();
    ok(&scene.unpack(&["-q", "--replace", "img.tar", "root"]));
    // A root may have such a name itself.
    ok(&scene.unpack(&["-q", "img.tar", ".root.unpack-00000000deadbeef"]));
    run();
    for name in names {
        assert!(scene.path(&format!(".root.unpack-{name}/root/thesis")).exists(), "{name}");
    }
    assert_eq!(mark(&scene.path(".root.unpack-00000000deadbeef")), b'a');
    assert!(scene.path(".root.unpack-lock.txt").exists() && marked.join("thesis").exists());
}

/// The owner of ROOT's parent may give any name in it to any directory there.
#[test]
fn a_root_that_looks_like_staging_is_not_swept() {
    let scene = Scene::new();
    let top = Block::new("./", b'5').mode(0o700).bytes();
    let looks =
        [top, Block::file("made-by-unpack", b"").mode(0o400).bytes(), Block::file("receipt.json", b"{}").bytes()];
    let like = [looks.concat(), Block::file("root/work", b"kept").bytes(), END.to_vec()].concat();
    scene.write("like.tar", &like);
    scene.write("img.tar", &image(b'a'));
    ok(&scene.unpack(&["-q", "like.tar", "made"]));
    let named = scene.path(".root.unpack-0123456789abcdef");
    fs::rename(scene.path("made"), &named).unwrap();
    ok(&scene.unpack(&["-q", "img.tar", "root"]));
    assert_eq!(fs::read_to_string(named.join("root/work")).unwrap(), "kept");
    // Nor with another staging directory's mark.
    fs::rename(&named, scene.path("made")).unwrap();
    fs::remove_dir_all(scene.path("root")).unwrap();
    let staged = dead_run(&scene);
    fs::rename(staged.join("made-by-unpack"), scene.path("made/made-by-unpack")).unwrap();
    fs::rename(scene.path("made"), &named).unwrap();
    ok(&scene.unpack(&["-q", "img.tar", "root"]));
    assert_eq!(fs::read_to_string(named.join("root/work")).unwrap(), "kept");
}

/// Holds unpack up as it returns from making its staging directory, and meanwhile gives that one's name to `kept`.
fn with_its_staging_swapped_for(scene: &Scene, kept: &Path, args: &[&str]) -> Output {
    let hold =
        ["-f", "-qq", "-o", "/dev/null", "-e", "trace=mkdirat", "-e", "inject=mkdirat:delay_exit=1000000:when=1"];
    let mut strace = Command::new("strace");
    strace.args(hold).arg(UNPACK).args(args).current_dir(scene.path(""));
    let mut strace = strace.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let staged = loop {
        match scene.staged().pop() {
            None if strace.try_wait().unwrap().is_none() => std::thread::yield_now(),
            staged => break staged,
        }
    };
    let aside = scene.path("aside");
    let swapped = staged.filter(|staged| fs::rename(staged, &aside).and_then(|()| fs::rename(kept, staged)).is_ok());
    let output = strace.wait_with_output().unwrap();
    if let Some(staged) = swapped {
        fs::rename(staged, kept).unwrap();
    }
    let _ = fs::remove_dir(aside);
    output
}

#[test]
fn a_directory_that_takes_the_name_of_staging_is_neither_filled_nor_emptied() {
    if !has("strace") {
        return skip("no strace");
    }
    let scene = Scene::new();
    scene.write("img.tar", &image(b'a'));
    let traced = ["-qq", "-o", "/dev/null", "true"];
    if !Command::new("strace").args(traced).output().unwrap().status.success() {
        return skip("strace may not trace here");
    }
    let kept = scene.path("kept");
    fs::create_dir(&kept).unwrap();
    fs::write(kept.join("thesis"), "kept").unwrap();
    mode(&kept, 0o700);
    ok(&with_its_staging_swapped_for(&scene, &kept, &["-q", "img.tar", "root"]));
    assert_eq!(fs::read_to_string(kept.join("thesis")).unwrap(), "kept");
    assert_eq!(fs::read_dir(&kept).unwrap().count(), 1, "something was made in it");
    scene.nothing_staged();
    if !is_root() {
        return;
    }
    // The owner of the parent could give ROOT's place to another tree.
    fs::remove_file(kept.join("thesis")).unwrap();
    chown(&kept, Some(OTHER), Some(OTHER)).unwrap();
    mode(&kept, 0o777);
    ok(&with_its_staging_swapped_for(&scene, &kept, &["-q", "img.tar", "root2"]));
    assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o7777, 0o777);
    assert_eq!(fs::read_dir(&kept).unwrap().count(), 0, "something was made in it");
    scene.nothing_staged();
}

#[test]
fn what_dead_runs_left_goes_whatever_moment_they_died_at() {
    let scene = Scene::new();
    scene.write("img.tar", &image(b'a'));
    dead_run(&scene);
    for mark in [false, true] {
        let dir = scene.path(&format!(".root.unpack-000000000000000{}", u8::from(mark)));
        fs::create_dir(&dir).unwrap();
        mode(&dir, 0o700);
        if mark {
            fs::write(dir.join("made-by-unpack"), "").unwrap();
        }
    }
    ok(&scene.unpack(&["-q", "img.tar", "root"]));
    scene.nothing_staged();
}

/// Names of unpack's lock, taken by another user in a directory where all may make names.
#[test]
fn another_users_lock_or_link_of_its_name_neither_blocks_nor_fails_us() {
    if !is_root() {
        return skip("only root can be two users");
    }
    let takes = [
        "for l in LOCKS; do : >$l; chmod 666 $l; exec 9>$l; flock -x 9; exec 9>&-; done; for l in LOCKS; do (flock -x 9; echo held >>ready; sleep 60) 9>$l & done",
        "for l in LOCKS; do ln -s /nonexistent/there $l; done; echo held >>ready; echo held >>ready",
        "for l in LOCKS; do ln -s img.tar $l; done; echo held >>ready; echo held >>ready",
        "for l in LOCKS; do mkdir $l; done; echo held >>ready; echo held >>ready",
        "for l in LOCKS; do mkfifo $l; done; echo held >>ready; echo held >>ready",
    ];
    for take in takes {
        let scene = shared();
        fs::write(scene.path("ready"), "").unwrap();
        mode(&scene.path("ready"), 0o666);
        let take = take.replace("LOCKS", ".root.unpack-lock .root.unpack-lock-0");
        let id = OTHER.to_string();
        let mut other = Command::new("setpriv")
            .args(["--reuid", &id, "--regid", &id, "--clear-groups", "--pdeathsig", "KILL", "sh", "-c"])
            .arg(format!("{take}; wait"))
            .current_dir(scene.path(""))
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        while fs::read_to_string(scene.path("ready")).unwrap().lines().count() < 2 {
            std::thread::yield_now();
        }
        let run = |args: &[&str]| {
            let output = Command::new("timeout").arg("20").arg(UNPACK).args(args).current_dir(scene.path("")).output();
            ok(&output.unwrap());
        };
        run(&["-q", "--replace", "b.tar", "root"]);
        assert_eq!(mark(&scene.path("root")), b'b', "{take}");
        run(&["-q", "b.tar", "root"]);
        run(&["-q", "img.tar", "fresh"]);
        killpg(Pid::from_raw(other.id() as i32), Signal::SIGKILL).unwrap();
        other.wait().unwrap();
        let taken = [".root.unpack-lock", ".root.unpack-lock-0"].map(|name| scene.path(name));
        assert!(taken.iter().all(|path| path.symlink_metadata().is_ok()), "{take}: another's was removed");
    }
}

#[test]
fn a_receipts_name_that_another_user_has_taken_is_an_error_before_anything_is_read() {
    if !is_root() {
        return skip("only root can be two users");
    }
    let scene = shared();
    for path in ["b.image.json", "c.image.json"] {
        fs::copy(scene.path("root.image.json"), scene.path(path)).unwrap();
        chown(scene.path(path), Some(OTHER), Some(OTHER)).unwrap();
    }
    refused(&scene.unpack(&["no-such-image.tar", "b"]), &["no-such-image.tar"]);
    refused(&scene.unpack(&["img.tar", "b"]), &["b.image.json belongs to another user", "hint: move it away"]);
    assert!(!scene.path("b").exists());
}

#[test]
fn status_125_of_a_replacement_means_that_the_old_root_is_as_it_was() {
    if !has("strace") {
        return skip("no strace");
    }
    let mut warned = 0;
    for call in ["unlinkat", "renameat2", "openat2", "flock", "fcntl"] {
        for number in 1..30 {
            let scene = shared();
            // What cannot be removed cannot be removed a moment later either.
            let more = if call == "unlinkat" { "+" } else { "" };
            let inject = format!("inject={call}:error=EIO:when={number}{more}");
            let output = Command::new("strace")
                .args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject, UNPACK, "-q"])
                .args(["--replace", "b.tar", "root"])
                .current_dir(scene.path(""))
                .output()
                .unwrap();
            let stderr = text(&output.stderr);
            if stderr.contains("strace") {
                return skip("strace may not trace here");
            }
            let status = output.status.code();
            let expected = if status == Some(0) { b'b' } else { b'a' };
            assert!(status == Some(0) || status == Some(125), "{call} {number}: {stderr}");
            assert_eq!(mark(&scene.path("root")), expected, "{call} {number}: {stderr}");
            let made_of = if status == Some(0) { "b.tar" } else { "img.tar" };
            ok(&scene.unpack(&["-q", made_of, "root"]));
            scene.nothing_staged();
            if stderr.contains("a later run tries again") {
                warned += 1;
            } else if status == Some(0) {
                break;
            }
        }
    }
    assert!(warned > 0, "no old root was kept from being removed");
}
