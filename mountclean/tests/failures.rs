//! A failure at any step leaves the host as it was, and COMMAND does not start.

use chainroot_tests::faults::{behind_a_wall, fail_every_step};
use chainroot_tests::scene::{scene, ways_for};
use chainroot_tests::{have, is_root, needs_root, skip};

fn nothing_is_left(pivot: &str, mountclean: &str) {
    if is_root() {
        behind_a_wall();
    }
    for way in ways_for(pivot) {
        let work = scene();
        work.sh("mkdir data");
        let way = way.replace("--pid", "--pid --net");
        fail_every_step(
            &work,
            "mountclean",
            &format!("{way} pivot {pivot} root -- mountclean {mountclean} -- echo done"),
        );
    }
}

#[test]
fn whatever_fails_behind_a_pivot_leaves_the_hosts_mounts_as_they_were() {
    nothing_is_left("--bind data:/mnt", "--proc-opts hidepid=2");
}

#[test]
fn whatever_fails_while_masks_are_made_leaves_the_hosts_mounts_as_they_were() {
    nothing_is_left("--ephemeral", "--sys --mask");
}

#[test]
fn whatever_fails_while_a_kept_host_goes_leaves_its_mounts_as_they_were() {
    nothing_is_left("--put-old /mnt", "");
}

#[test]
fn whatever_fails_without_a_pivot_leaves_the_hosts_mounts_as_they_were() {
    needs_root!();
    behind_a_wall();
    let work = scene();
    fail_every_step(&work, "mountclean", "isolate --pid -- mountclean --sys=ro -- echo done");
}

/// Out of descriptors, and with the place still there.
#[test]
fn a_place_that_cannot_be_opened_is_never_left_unmasked() {
    needs_root!();
    if !have("strace") {
        skip!("no strace");
    }
    let work = scene();
    let look =
        "for place in keys interrupts timer_list; do grep -q . /proc/$place && echo $place is in sight; done; true";
    for when in 4..40 {
        let inject = format!("strace -f -o /dev/null -e inject=openat2:error=ENFILE:when={when}");
        let outcome = work.sh(&format!("{inject} isolate --pid -- pivot root -- mountclean --mask -- sh -c '{look}'"));
        assert_eq!(outcome.stdout, "", "at call {when}");
        if outcome.status == 0 && when > 8 {
            return;
        }
        assert!(outcome.status == 0 || outcome.stderr.contains("File table overflow"), "at call {when}: {outcome:?}");
    }
    panic!("no run came to its end");
}

#[test]
fn a_proc_that_is_covered_in_part_is_named_with_what_uncovers_it() {
    let work = scene();
    let masked = "unshare --user --map-root-user --mount sh -c 'mount --bind /dev/null /proc/version; ";
    for line in [
        "exec isolate --map-root --pid -- pivot root -- mountclean -- echo started'",
        "exec isolate --map-root --pid --mount-proc -- echo started'",
    ] {
        work.sh(&format!("{masked}{line}")).expect_refusal(&["/proc/version is covered", "unmask=ALL"]);
    }
    work.sh("isolate --map-root --mount-proc -- echo started").expect_refusal(&["add --pid"]);
}

/// As docker and podman mount it: read-only, and with masks.
#[test]
fn a_sys_that_is_covered_or_read_only_outside_is_named() {
    let work = scene();
    let line = "exec isolate --map-root --pid --net -- pivot root -- mountclean SYS -- echo started";
    let run = |before: &str, sys: &str| {
        let line = line.replace("SYS", sys);
        work.sh(&format!(
            "unshare --user --map-root-user --mount --net sh -ec 'mount -t sysfs s /sys; {before}; {line}'"
        ))
    };
    run(":", "--sys").expect(0, "started\n");
    run("mount --bind /dev/null /sys/kernel/notes", "--sys").expect_refusal(&[
        "Operation not permitted",
        "hint: /sys/kernel/notes is covered",
        "--sys=ro",
    ]);
    run("mount -o remount,bind,ro /sys", "--sys").expect_refusal(&[
        "Operation not permitted",
        "hint: the /sys outside is read-only",
        "--sys=ro",
    ]);
    run("mount -o remount,bind,ro /sys", "--sys=ro").expect(0, "started\n");
}

#[test]
fn a_new_proc_keeps_times_of_access_as_the_one_that_is_there() {
    // In a user namespace the kernel wants it so (mnt_already_visible).
    needs_root!();
    let work = scene();
    for atime in ["noatime", "strictatime", "relatime", "noatime,nodiratime"] {
        let outer =
            format!("unshare --pid --fork --mount sh -c 'mount -t proc -o nosuid,nodev,noexec,{atime} proc /proc; ");
        let line = format!("{outer}exec isolate --map-root --pid --mount-proc -- echo started'");
        work.sh(&line).expect(0, "started\n");
        let line = format!("{outer}exec isolate --map-root --pid -- pivot root -- mountclean -- echo started'");
        work.sh(&line).expect(0, "started\n");
    }
}
