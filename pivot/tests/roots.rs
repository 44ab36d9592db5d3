//! What ROOT may be, and what becomes of changes to it.

use chainroot_tests::scene::{has_overlay_for, removes_directories, scene, ways, ways_for};
use chainroot_tests::{is_root, needs_root};

#[test]
fn the_root_is_the_image_and_so_is_what_lies_above_it() {
    for way in ways() {
        let work = scene();
        work.sh(&format!("{way} pivot root -- sh -c 'cat /etc/image /../etc/image /../../etc/image; pwd'"))
            .expect(0, "busybox\nbusybox\nbusybox\n/\n");
    }
}

#[test]
fn a_read_only_root_is_read_only_with_the_mounts_below_it() {
    for way in ways() {
        let work = scene();
        let below = "mount -t tmpfs tmpfs root/var && mkdir root/var/x && mount -t tmpfs tmpfs root/var/x";
        let inside = "for d in / /var /var/x /tmp; do touch $d/f 2>/dev/null && echo wrote $d; done; echo done";
        let way = way.replace("--pid", "--pid --mount");
        work.sh(&format!("{way} sh -c '{below}; exec pivot --read-only root -- sh -c \"{inside}\"'"))
            .expect(0, "done\n");
    }
}

#[test]
fn changes_to_an_ephemeral_root_vanish_and_the_root_keeps_its_checksum() {
    for way in ways_for("--ephemeral") {
        let work = scene();
        let sum = "tar --format=gnu --sort=name -cf - root | cksum";
        let before = work.sh(sum).stdout;
        let usr = if removes_directories(way) { "rm -r /usr; mkdir /usr" } else { "rm -r /usr/*" };
        let change = format!("rm /etc/passwd; {usr}; echo new >/new; chmod 700 /etc; ls /usr | wc -l; cat /new");
        for _ in 0..2 {
            work.sh(&format!("{way} pivot --ephemeral root -- sh -c '{change}'")).expect(0, "0\nnew\n");
        }
        assert_eq!(work.sh(sum).stdout, before);
    }
}

#[test]
fn several_containers_share_one_ephemeral_root_without_seeing_each_other() {
    for way in ways_for("--ephemeral") {
        let work = scene();
        let script = format!(
            "mkdir seen; for n in 1 2 3 4; do {way} pivot --ephemeral --bind seen:/mnt root -- sh -c \"\
             echo $n >/mine; touch /mnt/$n; until [ \\$(ls /mnt | wc -l) = 4 ]; do sleep 0.05; done; cat /mine\" & done | sort; wait"
        );
        work.sh(&script).expect(0, "1\n2\n3\n4\n");
    }
}

#[test]
fn an_overlay_keeps_changes_in_its_directory_and_brings_them_back() {
    for way in ways_for("--overlay") {
        let work = scene();
        let pivot = format!("{way} pivot --overlay changes root --");
        work.sh(&format!("{pivot} sh -c 'echo kept >/kept; rm /etc/passwd; rm -r /usr; mkdir /usr'")).expect(0, "");
        work.sh(&format!("{pivot} sh -c 'cat /kept; ls /etc/passwd /usr 2>&1'"))
            .expect(1, "kept\nls: /etc/passwd: No such file or directory\n/usr:\n");
        work.sh("ls root/kept 2>/dev/null; ls root/etc/passwd; cat changes/upper/kept")
            .expect(0, "root/etc/passwd\nkept\n");
    }
}

/// By pivot's own lock: of a directory that two overlays use the kernel only warns, in its log.
#[test]
fn an_overlay_directory_takes_one_container_at_a_time() {
    if !chainroot_tests::kernel_at_least(5, 12) {
        chainroot_tests::skip!("before Linux 5.12 no lock can be held that is no door to the directory");
    }
    for way in ways_for("--overlay") {
        let work = scene();
        let pivot = format!("{way} pivot --no-handoff --overlay changes root --");
        let script = format!(
            "mkfifo up down; {pivot} sh -c 'echo up; cat' <down >up & exec 3>down; read _ <up; {pivot} true; s=$?; exec 3>&-; wait; exit $s"
        );
        work.sh(&script).expect_refusal(&["changes: in use by another container", "hint: "]);
        work.sh(&format!("{pivot} echo again")).expect(0, "again\n");
    }
}

#[test]
fn the_merged_root_has_the_mode_and_times_of_root() {
    for way in ways_for("--ephemeral") {
        let work = scene();
        let pivot = |options: &str| {
            work.sh(&format!("{way} pivot {options} root -- stat -c '%a %Y' /")).expect(0, "751 981173106\n");
        };
        work.sh("chmod 751 root; touch -d '2001-02-03 04:05:06.789 UTC' root").expect(0, "");
        pivot("--ephemeral");
        pivot("--overlay changes");
        work.sh("touch -d '2002-02-03 04:05:06 UTC' root").expect(0, "");
        // The directory has its own from then on.
        pivot("--overlay changes");
        work.sh("stat -c %y changes/upper | cut -d . -f 2 | cut -c 1-3").expect(0, "789\n");
    }
}

#[test]
fn the_current_root_can_be_a_root_too() {
    for way in ways() {
        let work = scene();
        let marker = work.join("marker");
        let marker = marker.display();
        for option in ["", "--ephemeral", "--read-only"] {
            // Before 5.12 mounts are made read-only by their paths, and the machine's may hide one another.
            if !has_overlay_for(way, option) || option == "--read-only" && !chainroot_tests::kernel_at_least(5, 12) {
                continue;
            }
            if option == "--ephemeral" && way.contains("user") {
                // It would show what the host's mounts hide.
                work.sh(&format!("{way} pivot {option} / -- echo started"))
                    .expect_refusal(&["locked in a user namespace"]);
                continue;
            }
            // Below the root's own mount is whatever filesystem the test's directory is on.
            work.sh(&format!("{way} pivot {option} / -- sh -c '(echo x >{marker}) 2>/dev/null; ls -d /etc /../etc'; ls marker 2>/dev/null; rm -f marker"))
                .expect(0, if option.is_empty() { "/../etc\n/etc\nmarker\n" } else { "/../etc\n/etc\n" });
            let outcome = work.sh(&format!("{way} pivot {option} / -- mountclean -- sh -c 'ls -d /etc'"));
            outcome.expect(0, "/etc\n");
        }
    }
}

#[test]
fn an_overlay_directory_in_the_root_is_refused() {
    for way in ways() {
        let work = scene();
        for dir in ["root/changes", "root", "root/../root/tmp"] {
            work.sh(&format!("{way} pivot --overlay {dir} root -- echo started"))
                .expect_refusal(&["lies in ROOT", "hint: "]);
            work.sh("ls -d root/changes root/upper root/tmp/upper 2>/dev/null").expect(2, "");
        }
    }
}

/// The kernel's own, each with its cause found by looking.
#[test]
fn an_overlay_directory_that_others_could_have_filled_is_refused() {
    for way in ways_for("--overlay") {
        let work = scene();
        let pivot = format!("{way} pivot --overlay changes root -- echo started");
        for mode in ["775", "757", "1777"] {
            work.sh(&format!("mkdir -p changes && chmod {mode} changes && {pivot}"))
                .expect_refusal(&["--overlay DIR can be written by others", "hint: anyone who can write there"]);
        }
        assert!(!work.join("changes/upper").exists(), "made in it all the same");
        work.sh(&format!("chmod 755 changes && {pivot}")).expect(0, "started\n");
        if is_root() {
            work.sh(&format!("chown 31347 changes && {pivot}")).expect_refusal(&["--overlay DIR belongs to "]);
        }
    }
}

#[test]
fn refusals_of_the_overlay_are_explained() {
    // What a user needs and older kernels do not know.
    let userxattr = if chainroot_tests::kernel_at_least(5, 11) { ",userxattr" } else { "" };
    let overlay = |lower: &str, upper: &str, work: &str, at: &str| {
        format!(
            "mkdir -p {upper} {work} {at}; mount -t overlay -o lowerdir={lower},upperdir={upper},workdir={work}{userxattr} overlay {at}"
        )
    };
    for way in ways_for("--overlay") {
        let run = |before: &str, pivot: &str| {
            let work = scene();
            let way = way.replace("--pid", "--pid --mount");
            work.sh(&format!("{way} sh -ec '{before}; exec pivot {pivot} -- echo started'"))
        };
        let (once, twice) = (overlay("root", "u1", "w1", "m1"), overlay("m1", "u2", "w2", "m2"));
        run(&once, "--overlay m1/changes root").expect_refusal(&["hint: the changes would be on an overlay"]);
        run(&once, "--ephemeral m1").expect(0, "started\n");
        run(&format!("{once}; {twice}"), "--ephemeral m2")
            .expect_refusal(&["hint: ROOT is on an overlay over an overlay"]);
        for mount in ["mount -t tmpfs tmpfs c/work", "mkdir other; mount --bind other c/work"] {
            run(&format!("mkdir -p c/upper c/work; {mount}"), "--overlay c root")
                .expect_refusal(&["hint: upper and work", "must be on one mount"]);
        }
        run("mkdir -p c/upper; mv root c/upper/", "--overlay c c/upper/root")
            .expect_refusal(&["hint: the directories of an overlay"]);
        run("mkdir c; mount -t tmpfs -o ro,mode=755 tmpfs c", "--overlay c root")
            .expect_refusal(&["Read-only file system"]);
        // Without extended attributes it works in part, and the kernel says nothing.
        let outcome = run("mkdir c; mount -t ramfs ramfs c", "--overlay c root");
        if !way.contains("user") {
            outcome.expect(0, "started\n");
            assert!(outcome.stderr.contains("no extended attributes"), "{}", outcome.stderr);
        }
    }
}

/// With the kernel's index on, which is a setting of the whole machine, these are real.
#[test]
fn refusals_of_an_overlay_with_an_index_are_explained() {
    if !chainroot_tests::have("strace") {
        chainroot_tests::skip!("needs strace");
    }
    let ways = ways_for("--overlay");
    if ways.is_empty() {
        return;
    }
    let way = if chainroot_tests::is_root() { "" } else { ways[0] };
    let work = scene();
    for (errno, words) in [
        ("EBUSY", "another overlay uses the directory"),
        ("ESTALE", "was used over another ROOT"),
        ("ENODEV", "the kernel has no overlay filesystem"),
        ("EINVAL", "the last lines of the kernel's log say why"),
    ] {
        let call = if errno == "ENODEV" { "fsopen" } else { "fsconfig" };
        let strace = format!("strace -o /dev/null -e trace={call} -e inject={call}:error={errno}");
        work.sh(&format!("{way} {strace} pivot --overlay changes root -- echo started"))
            .expect_refusal(&["hint: ", words]);
    }
}

#[test]
fn root_given_as_a_dash_is_the_one_that_the_line_names() {
    for way in ways() {
        let work = scene();
        work.sh(&format!("echo \"$PWD/root\" | {way} pivot - -- sh -c 'cat /etc/image; cat'")).expect(0, "busybox\n");
        work.sh(&format!("echo elsewhere | {way} pivot - -- true")).expect_refusal(&["pivot: "]);
        work.sh(&format!("printf %s \"$PWD/root\" | {way} pivot - -- true")).expect_refusal(&["did not finish"]);
    }
}

#[test]
fn root_may_be_a_mount_point_or_lie_on_another_filesystem() {
    for way in ways() {
        let mounted = way.replace("--pid", "--pid --mount");
        let work = scene();
        let made = [
            ("a mount point", "mount --rbind root root"),
            ("tmpfs", "mkdir t; mount -t tmpfs tmpfs t; cp -a root t/; mount --rbind t/root root"),
            ("overlay", "mkdir u w; mount -t overlay -o lowerdir=root,upperdir=u,workdir=w,userxattr overlay root"),
        ];
        for (what, mount) in made {
            for option in ["", "--read-only", "--ephemeral"] {
                if !has_overlay_for(way, option) || !has_overlay_for(way, &format!("--{what}")) {
                    continue;
                }
                let outcome = work.sh(&format!(
                    "{mounted} sh -c '{mount}; exec pivot {option} root -- cat /etc/image'; rm -rf t u w"
                ));
                assert_eq!(outcome.stdout, "busybox\n", "{way}: {what} {option}: {}", outcome.stderr);
            }
        }
    }
}

#[test]
fn nothing_propagates_out_of_a_shared_tree() {
    needs_root!();
    let work = scene();
    // The host of this chain has a shared / and looks at its own table afterwards.
    let script = "mount --make-rshared /; before=$(cat /proc/self/mountinfo); \
         pivot --ephemeral --dev --etc resolv --tmpfs /run --bind root/bin:/x root -- mountclean -- true; \
         [ \"$before\" = \"$(cat /proc/self/mountinfo)\" ] && echo same";
    work.sh(&format!("unshare --mount --pid --fork --kill-child sh -c '{script}'")).expect(0, "same\n");
}

#[test]
fn root_may_be_a_symbolic_link() {
    for way in ways() {
        let work = scene();
        work.sh(&format!("ln -s root link; {way} pivot link -- cat /etc/image")).expect(0, "busybox\n");
        work.sh(&format!("{way} pivot ./root/../link/ -- cat /etc/image")).expect(0, "busybox\n");
    }
}

#[test]
fn what_cannot_be_a_root_is_refused_with_its_path_and_a_hint() {
    for way in ways() {
        let work = scene();
        work.sh("touch file; ln -s nowhere dangling");
        let refused = |root: &str, words: &[&str]| {
            work.sh(&format!("{way} pivot {root} -- echo started")).expect_refusal(words);
        };
        refused("file", &["pivot: ", "file", "ot a directory", "hint: ", "unpack"]);
        refused("missing", &["missing", "No such file", "hint: ", "unpack"]);
        refused("dangling", &["dangling", "hint: ", "link"]);
        refused("missing/below", &["missing/below", "No such file"]);
    }
}

#[test]
fn a_root_without_execute_permission_is_refused() {
    needs_root!();
    let work = scene();
    work.sh("chmod 700 . && chmod 600 root && chown -R 65534 . ");
    // Without the capabilities that would override the mode.
    let plain = "setpriv --reuid=65534 --clear-groups";
    work.sh(&format!("{plain} unshare --user --map-user=65534 --mount --keep-caps setpriv --bounding-set -dac_override,-dac_read_search --inh-caps -dac_override,-dac_read_search --ambient-caps -dac_override,-dac_read_search pivot root -- true"))
        .expect_refusal(&["root", "ermission"]);
}

#[test]
fn without_privilege_the_error_says_what_gives_it() {
    needs_root!();
    let work = scene();
    work.sh("chmod 755 .; setpriv --reuid=65534 --clear-groups pivot root -- echo started").expect_refusal(&[
        "pivot: ",
        "new mount namespace",
        "not permitted",
        "isolate --user --map-root",
    ]);
}
