//! A failure at any step leaves the host as it was.

use chainroot_tests::faults::{behind_a_wall, fail_every_step};
use chainroot_tests::is_root;
use chainroot_tests::scene::{scene, ways_for};

/// Each step fails, in each of its calls that changes a mount or leads to one.
fn nothing_is_left(options: &str) {
    if is_root() {
        behind_a_wall();
    }
    for way in ways_for(options) {
        // The scene compares the host's mount table too when it is dropped.
        let work = scene();
        work.sh("mkdir data");
        fail_every_step(&work, "pivot", &format!("{way} pivot {options} root -- echo done"));
        if options.contains("--ephemeral") {
            work.sh("find root/mnt root/run root/dev -mindepth 1 2>/dev/null; :").expect(0, "");
        }
    }
}

#[test]
fn whatever_fails_on_the_way_to_a_root_leaves_the_hosts_mounts_as_they_were() {
    nothing_is_left("--chdir /tmp");
}

#[test]
fn whatever_fails_on_the_way_to_a_read_only_root_with_volumes_leaves_the_hosts_mounts_as_they_were() {
    nothing_is_left("--read-only --bind data:/mnt/new:ro --tmpfs /run");
}

#[test]
fn whatever_fails_on_the_way_to_an_ephemeral_root_leaves_the_hosts_mounts_as_they_were() {
    nothing_is_left("--ephemeral --bind data:/mnt/new");
}

#[test]
fn whatever_fails_on_the_way_to_an_overlay_leaves_the_hosts_mounts_as_they_were() {
    nothing_is_left("--overlay changes");
}

#[test]
fn whatever_fails_while_a_dev_and_files_are_made_leaves_the_hosts_mounts_as_they_were() {
    nothing_is_left("--dev --etc hosts,hostname");
}

#[test]
fn whatever_fails_while_the_host_is_kept_leaves_its_mounts_as_they_were() {
    nothing_is_left("--put-old /mnt");
}

#[test]
fn a_root_that_is_made_for_the_run_alone_gets_nothing_made_in_it() {
    for way in ways_for("--ephemeral") {
        let work = scene();
        let before = work.sh("find root | sort | cksum").stdout;
        work.sh(&format!(
            "{way} pivot --ephemeral --bind /etc:/a/b/c --tmpfs /d/e --dev --etc hosts,hostname root -- true"
        ))
        .expect(0, "");
        assert_eq!(work.sh("find root | sort | cksum").stdout, before);
    }
}
