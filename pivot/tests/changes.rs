//! Volumes whose changes go elsewhere: to a directory, or nowhere.

use chainroot_tests::scene::{has_overlay_for, removes_directories, scene, ways, ways_for};
use chainroot_tests::{Work, is_root, kernel_at_least, needs_root};

fn with_data() -> Work {
    let work = scene();
    work.sh("mkdir -p data/sub; echo one >data/file; echo two >data/sub/file; chmod 750 data").expect(0, "");
    work
}

const UNCHANGED: &str = ".\n./file\n./sub\n./sub/file\none\n";

#[test]
fn a_volume_keeps_its_changes_apart_and_has_them_the_next_time() {
    for way in ways_for("--overlay") {
        for next in ["", "mountclean --"] {
            let work = with_data();
            let pivot = |inside: &str| {
                work.sh(&format!("{way} pivot --bind data:/mnt:overlay=changes root -- {next} sh -c '{inside}'"))
            };
            pivot("stat -c %a /mnt; echo more >>/mnt/file; echo new >/mnt/new; rm /mnt/sub/file; cat /mnt/file")
                .expect(0, "750\none\nmore\n");
            pivot("cat /mnt/file /mnt/new; ls /mnt/sub").expect(0, "one\nmore\nnew\n");
            work.sh("cd data; find . | sort; cat file").expect(0, UNCHANGED);
            // The kernel's own directory in it hinders nobody who removes it.
            work.sh("rm -r changes && ls -d changes").expect(2, "");
        }
    }
}

#[test]
fn a_user_removes_what_the_kernel_left_in_his_directory() {
    needs_root!();
    let work = with_data();
    let user = "setpriv --reuid=4321 --regid=4321 --clear-groups";
    work.sh("chmod 755 . root data; mkdir mine; chown 4321 mine").expect(0, "");
    for options in ["--overlay mine/changes", "--bind data:/mnt:overlay=mine/changes"] {
        if has_overlay_for("--user", "--overlay") {
            work.sh(&format!(
                "{user} isolate --map-root --pid -- pivot {options} root -- true; {user} rm -r mine/changes; ls mine"
            ))
            .expect(0, "");
        }
    }
}

#[test]
fn an_ephemeral_volume_loses_its_changes_at_the_end() {
    for way in ways_for("--ephemeral") {
        for options in ["", "--read-only", "--ephemeral"] {
            let work = with_data();
            let inside = "echo more >>/mnt/file; echo x >/mnt/sub/x; cat /mnt/file";
            for _ in 0..2 {
                work.sh(&format!(
                    "{way} pivot {options} --bind data:/mnt:ephemeral root -- mountclean -- sh -c '{inside}'"
                ))
                .expect(0, "one\nmore\n");
            }
            if removes_directories(way) {
                work.sh(&format!(
                    "{way} pivot {options} --bind data:/mnt:ephemeral root -- sh -c 'rm -r /mnt/sub; ls /mnt'"
                ))
                .expect(0, "file\n");
            }
            work.sh("cd data; find . | sort; cat file").expect(0, UNCHANGED);
        }
    }
}

#[test]
fn one_source_can_be_several_volumes() {
    for way in ways_for("--ephemeral") {
        let work = with_data();
        let volumes = "--bind data:/mnt/a:ephemeral --bind data:/mnt/b:overlay=changes --bind data:/mnt/c:ro";
        work.sh(&format!(
            "{way} pivot {volumes} root -- sh -c 'echo a >/mnt/a/file; echo b >/mnt/b/file; cat /mnt/a/file /mnt/b/file /mnt/c/file'"
        ))
        .expect(0, "a\nb\none\n");
    }
}

#[test]
fn with_the_hosts_own_root_as_well() {
    needs_root!();
    let work = with_data();
    let inside = "echo more >>\"$D/data/file\"; cat \"$D/data/file\"";
    work.sh(&format!(
        "export D=$PWD; isolate --pid -- pivot --bind \"$D/data::overlay=$D/changes\" / -- sh -c '{inside}'; cat data/file changes/upper/file"
    ))
    .expect(0, "one\nmore\none\none\nmore\n");
    // A directory on another filesystem does not lie in an overlay of the root.
    work.sh(
        "isolate --pid --mount -- sh -c 'mkdir other && mount -t tmpfs tmpfs other && exec pivot --no-handoff --overlay other/changes / -- sh -c \"echo x >/srv/row && cat /srv/row\"'; ls /srv/row 2>/dev/null",
    )
    .expect(2, "x\n");
}

#[test]
fn the_directory_is_ours_alone_and_a_file_has_no_overlay() {
    for way in ways_for("--overlay") {
        let work = with_data();
        let pivot = |volume: &str| work.sh(&format!("{way} pivot --bind {volume} root -- true"));
        pivot("data/file:/etc/image:ephemeral").expect_refusal(&["data/file: an overlay is over a directory"]);
        pivot("data:/mnt:overlay=data/changes").expect_refusal(&["data/changes: ", "lies in ROOT or SRC"]);
        work.sh("ls -d data/changes").expect(2, "");
        work.sh("mkdir -m 777 open; chmod 777 open").expect(0, "");
        pivot("data:/mnt:overlay=open").expect_refusal(&["can be written by others"]);
        if is_root() && !way.contains("--user") {
            let line = format!("{way} pivot --no-handoff --bind data:/mnt:overlay=changes root --");
            work.sh(&format!("mkfifo up down; {line} sh -c 'echo up; cat' <down >up & exec 3>down; read x <up; {line} true; s=$?; exec 3>&-; wait; exit $s"))
                .expect(125, "");
        }
    }
}

#[test]
fn an_empty_destination_is_the_same_place() {
    for way in ways() {
        let work = with_data();
        work.sh(&format!(
            "{way} pivot --read-only --bind \"$PWD/data::ro\" root -- sh -c \"cat $PWD/data/file; touch $PWD/data/x 2>/dev/null || echo read-only\""
        ))
        .expect(0, "one\nread-only\n");
    }
}

#[test]
fn directories_show_below_the_source_the_first_one_above() {
    for way in ways_for("--ephemeral") {
        let work = with_data();
        work.sh(
            "mkdir low lower; echo low >low/file; echo low >low/low; echo lower >lower/low; echo lower >lower/lower",
        )
        .expect(0, "");
        let pivot = |options: &str, inside: &str| {
            work.sh(&format!("{way} pivot --bind data:/mnt:{options} root -- mountclean -- sh -c '{inside}'"))
        };
        let all = "cat /mnt/file /mnt/low /mnt/lower /mnt/sub/file";
        pivot("lower=low,lower=lower", &format!("{all}; touch /mnt/x 2>/dev/null || echo read-only"))
            .expect(0, "one\nlow\nlower\ntwo\nread-only\n");
        for options in ["ephemeral,lower=low,lower=lower", "lower=low,overlay=changes,lower=lower"] {
            pivot(options, &format!("{all}; echo x >>/mnt/lower; cat /mnt/lower"))
                .expect(0, "one\nlow\nlower\ntwo\nlower\nx\n");
        }
        pivot("overlay=changes,lower=low,lower=lower", "cat /mnt/lower").expect(0, "lower\nx\n");
        work.sh("cat data/file low/* lower/*").expect(0, "one\nlow\nlow\nlower\nlower\n");
        pivot("lower=none", "true").expect_refusal(&["none: No such file"]);
        pivot("lower=data/file", "true").expect_refusal(&["data/file: an overlay is over a directory"]);
        pivot("lower=low,overlay=low/changes", "true").expect_refusal(&["low/changes", "lies in ROOT or SRC"]);
        pivot("lower=data", "true").expect_refusal(&["the directories of an overlay must not lie in each other"]);
    }
}

/// A value of fsconfig(2) has 255 bytes; behind that each directory is a value of its own (Linux 6.8).
#[test]
fn a_volume_can_have_many_lower_directories() {
    for way in ways_for("--ephemeral") {
        let work = with_data();
        work.sh("for n in $(seq 100); do mkdir low$n; echo $n >low$n/n; touch low$n/$n; done").expect(0, "");
        let lower: String = (1..=100).map(|n| format!(",lower=low{n}")).collect();
        let outcome = work
            .sh(&format!("{way} pivot --bind data:/mnt:ephemeral{lower} root -- sh -c 'cat /mnt/n; ls /mnt | wc -l'"));
        match kernel_at_least(6, 8) {
            true => outcome.expect(0, "1\n103\n"),
            false => outcome.expect_refusal(&["that many directories in an overlay take Linux 6.8"]),
        };
    }
}

#[test]
fn bind_leaves_out_what_is_mounted_below() {
    needs_root!();
    let work = with_data();
    let line = |word: &str| {
        work.sh(&format!(
            "isolate --pid --mount -- sh -c 'mount -t tmpfs tmpfs data/sub; exec pivot --bind data:/mnt{word} root -- ls /mnt/sub'"
        ))
    };
    line("").expect(0, "");
    line(":bind").expect(0, "file\n");
    line(":bind,ro").expect(0, "file\n");
}

#[test]
fn the_script_does_the_same() {
    for way in ways_for("--ephemeral") {
        let work = with_data();
        let options = "--bind data:/mnt/a:ephemeral,nosuid,lower=low --bind data:/mnt/b:overlay=changes,lower=low --bind data:/mnt/c:bind,ro --bind data:/mnt/d:lower=low";
        work.sh("mkdir low; echo low >low/low").expect(0, "");
        let options = if way.contains("--user") { options.replace("bind,", "") } else { options.into() };
        let inside = "for d in a b c; do echo more 2>/dev/null >>/mnt/$d/file; cat /mnt/$d/file; done; cat /mnt/[abd]/low; ls -d /mnt/d/new; cut -d\" \" -f5,6 /proc/self/mountinfo | sort";
        let chain = |explain: &str| format!("pivot {explain} {options} root -- mountclean -- sh -c '{inside}'");
        let unshare = if way.contains("user") {
            "unshare --user --map-root-user --pid --fork --kill-child --"
        } else {
            "unshare --pid --fork --kill-child --"
        };
        let real = work.sh(&format!("{unshare} {}; rm -r changes", chain("")));
        assert!(real.stdout.starts_with("one\nmore\none\nmore\none\n"), "{real:?}");
        work.sh(&format!("{} >script && {unshare} sh script", chain("--explain"))).expect(0, &real.stdout);
        work.sh("stat -c %a changes/work/work").expect(0, "700\n");
        work.sh("cat data/file").expect(0, "one\n");
    }
}
