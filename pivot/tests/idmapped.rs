//! Volumes and roots whose files appear under other owners.

use chainroot_tests::scene::{scene, ways};
use chainroot_tests::{Work, is_root, kernel_at_least, needs_root, skip};

fn with_data() -> Option<Work> {
    let work = scene();
    work.sh("mkdir data; echo one >data/file; chown 1000:1001 data data/file").expect(0, "");
    if !work
        .sh("isolate --mount -- pivot --bind data:/mnt:idmap=0:1:1 root -- true")
        .stderr
        .contains("filesystem like this")
    {
        return Some(work);
    }
    println!("skipped: the filesystem of the tests has no idmapped mounts");
    None
}

#[test]
fn the_owners_of_a_volume_are_others_inside_and_as_before_outside() {
    needs_root!();
    let Some(work) = with_data() else { return };
    for next in ["", "mountclean --"] {
        let pivot = |options: &str, inside: &str| {
            work.sh(&format!("isolate --pid -- pivot --bind data:/mnt:{options} root -- {next} sh -c '{inside}'"))
        };
        pivot("'idmap=u:1000:0:1 g:1001:0:1'", "stat -c %u:%g /mnt/file; touch /mnt/new").expect(0, "0:0\n");
        work.sh("stat -c %u:%g data/file data/new; rm data/new").expect(0, "1000:1001\n1000:1001\n");
        pivot("idmap=1000:7:2,ro,nosuid", "stat -c %u:%g /mnt/file; touch /mnt/new").expect(1, "7:8\n");
        // An id that the map does not name.
        pivot("idmap=0:0:1", "stat -c %u:%g /mnt/file").expect(0, "65534:65534\n");
        pivot("idmap=/proc/self/ns/user", "true").expect_refusal(&["is an idmapped mount already, or"]);
    }
    // The map of a user namespace that is there.
    work.sh(
        "mkfifo up down; unshare --user sh -c 'echo $$ >up; read x <down' & read pid <up
         printf '1000 5 2\n' >/proc/$pid/uid_map; printf '1000 6 2\n' >/proc/$pid/gid_map
         pivot --no-handoff --bind data:/mnt:idmap=/proc/$pid/ns/user root -- stat -c %u:%g /mnt/file; echo >down; wait",
    )
    .expect(0, "5:7\n");
}

#[test]
fn an_overlay_takes_the_changes_of_such_a_volume() {
    needs_root!();
    if !kernel_at_least(5, 19) {
        skip!("an overlay over an idmapped mount is of Linux 5.19");
    }
    let Some(work) = with_data() else { return };
    let inside = "stat -c %u:%g /mnt/file; echo two >>/mnt/file; cat /mnt/file";
    for (options, next) in [("ephemeral", ""), ("ephemeral", "mountclean --"), ("overlay=changes", "mountclean --")] {
        work.sh(&format!(
            "isolate --pid -- pivot --bind data:/mnt:{options},idmap=1000:0:2 root -- {next} sh -c '{inside}'; cat data/file"
        ))
        .expect(0, "0:1\none\ntwo\none\n");
    }
    work.sh("stat -c %u:%g changes/upper/file").expect(0, "0:1\n");
}

#[test]
fn a_root_gets_the_owners_of_the_users_who_will_run_in_it() {
    needs_root!();
    let Some(work) = with_data() else { return };
    work.sh("chown 3:4 root/etc/image").expect(0, "");
    let user = "isolate --map-users 0:100000:10 --map-groups 0:100000:10 --setuid 0 --setgid 0 --";
    let inside = "stat -c %u:%g /etc/image; touch /etc/new && stat -c %u:%g /etc/new";
    for options in ["", "--ephemeral", "--nosuid --read-only --tmpfs /etc/x"] {
        if options == "--ephemeral" && !kernel_at_least(5, 19) {
            continue;
        }
        let outcome = work.sh(&format!(
            "mkdir -p root/etc/x; isolate --pid -- pivot --idmap 0:100000:10 {options} root -- mountclean -- {user} sh -c '{inside}'"
        ));
        match options.contains("--read-only") {
            true => outcome.expect(1, "3:4\n"),
            false => outcome.expect(0, "3:4\n0:0\n"),
        };
    }
    work.sh("stat -c %u:%g root/etc/new").expect(0, "0:0\n");
    // ROOT=/ has mounts below it, and this one volume of it does not.
    work.sh("isolate --pid --mount -- sh -c 'cd /; exec pivot --bind \"$OLDPWD/data:$OLDPWD/data:bind,idmap=1000:0:2\" / -- stat -c %u:%g \"$OLDPWD/data/file\"'")
        .expect(0, "0:1\n");
}

/// Where the kernel lets a user: on a filesystem that this user mounted.
#[test]
fn a_user_maps_the_owners_of_his_own_filesystem() {
    if !kernel_at_least(6, 3) {
        skip!("tmpfs has idmapped mounts since Linux 6.3");
    }
    let work = scene();
    work.sh("mkdir own; isolate --map-root --mount --pid -- sh -c 'mount -t tmpfs own own; echo x >own/file; \
         exec pivot --bind own:/mnt:idmap=0:0:1 --bind own:/tmp:idmap=1:0:1 root -- stat -c %u /mnt/file /tmp/file'")
        .expect(0, "0\n65534\n");
}

#[test]
fn what_cannot_be_mapped_is_refused_with_the_kernels_reason() {
    let work = scene();
    work.sh("mkdir data").expect(0, "");
    let user = "isolate --map-root --pid --";
    for options in ["--idmap 0:0:1", "--bind data:/mnt:idmap=0:0:1", "--bind data:/mnt:bind,idmap=0:0:1,ephemeral"] {
        let outcome = work.sh(&format!("{user} pivot {options} root -- true"));
        outcome.expect_refusal(&["idmap: Operation not permitted", "mounted outside this user namespace"]);
    }
    for way in ways() {
        work.sh(&format!("{way} pivot --bind /proc:/mnt:bind,idmap=0:0:1 root -- true"))
            .expect_refusal(&["idmap: Invalid argument", "no idmapped mounts of a filesystem like this (proc)"]);
    }
    if is_root() {
        let below = "mount -t proc proc data; exec pivot --bind .:/mnt:idmap=0:0:1 root -- true";
        work.sh(&format!("isolate --mount --pid -- sh -c '{below}'"))
            .expect_refusal(&["a mount below it cannot have other owners", "bind,idmap=MAP"]);
    }
}

#[test]
fn a_map_that_the_kernel_does_not_take_is_explained() {
    let work = scene();
    work.sh("mkdir data").expect(0, "");
    for way in ways() {
        let pivot = |map: &str| work.sh(&format!("{way} pivot --bind 'data:/mnt:idmap={map}' root -- true"));
        pivot("0:0:5 1:7:9").expect_refusal(&["uid_map: ", "hint: "]);
        pivot("0:1").expect_refusal(&["0:1 is not [u:|g:]ID:SHOWN:COUNT"]);
        pivot("u:0:0:1").expect_refusal(&["the map names no groups"]);
        pivot("/none").expect_refusal(&["idmap /none: No such file"]);
    }
    work.sh("isolate --map-root -- pivot --bind data:/mnt:idmap=0:7:1 root -- true")
        .expect_refusal(&["uid_map: Operation not permitted", "each SHOWN must be an id here"]);
}

/// The script takes util-linux 2.39; before it mount(8) ignores the option, and the script ends.
#[test]
fn the_script_maps_the_owners_or_says_what_it_lacks() {
    needs_root!();
    let Some(work) = with_data() else { return };
    let line = "--bind data:/mnt:idmap=1000:0:2,ro root -- stat -c %u:%g /mnt/file";
    let outcome = work.sh(&format!("pivot --explain {line} >script; unshare --mount sh script"));
    let lacks = outcome.stderr.contains("no idmap: it takes util-linux 2.39");
    assert!(lacks && outcome.status == 1 || outcome.stdout == "0:1\n", "{outcome:?}");
}
