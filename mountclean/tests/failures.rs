//! A failure at any step leaves the host as it was, and COMMAND does not start.

use chainroot_tests::faults::{behind_a_wall, fail_every_step};
use chainroot_tests::scene::{scene, ways_for};
use chainroot_tests::{is_root, needs_root};

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
