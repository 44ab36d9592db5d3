//! Users and groups in a new user namespace.

mod bench;

use bench::{NOBODY, as_nobody, have, isolate, sh};

#[test]
fn map_root_and_map_current_map_one_id() {
    assert_eq!(as_nobody(["--map-root", "sh", "-c", "id -u; id -g; cat /proc/self/setgroups"]).good(), "0\n0\ndeny");
    let current = as_nobody(["--map-current", "id", "-u"]).good();
    if bench::is_root() {
        assert_eq!(current, NOBODY.to_string());
    }
    assert_eq!(as_nobody(["--map-user", "5", "--map-group", "6", "sh", "-c", "id -u; id -g"]).good(), "5\n6");
}

#[test]
fn root_maps_ranges_in_both_of_unshares_forms() {
    needs_root!();
    let map = |option: &str| {
        let words = ["--map-users", option, "--map-groups", option, "sh", "-c", "cat /proc/self/uid_map"];
        let map = isolate(words).good();
        map.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(map("0:100000:10"), "0 100000 10");
    assert_eq!(map("100000,0,10"), "0 100000 10");
    let ids =
        isolate(["--map-users=0:7:10", "--map-groups=0:7:10", "--setuid=3", "--setgid=4", "sh", "-c", "id -u; id -g"]);
    assert_eq!(ids.good(), "3\n4");
}

#[test]
fn a_range_is_checked_before_anything_happens() {
    for bad in ["x", "1:2", "0:0:0", "4294967295:0:2"] {
        isolate(["--map-users", bad, "true"]).refused("--map-users");
    }
}

/// Runs a script as nobody, with these lines as /etc/subuid and /etc/subgid in a mount namespace.
fn with_subordinate(lines: &str, script: &str) -> bench::Outcome {
    sh(&format!(
        "f=$(mktemp); printf '{lines}' >$f; chmod 644 $f; export script='{script}'
        unshare --mount sh -c \"mount --bind $f /etc/subuid && mount --bind $f /etc/subgid && cd / &&
            exec setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups sh -c '{script}'\"
        s=$?; rm $f; exit $s"
    ))
}

#[test]
fn map_auto_takes_the_range_by_name_and_by_number() {
    needs_root!();
    if !have("newuidmap") {
        skip!("no newuidmap");
    }
    for owner in ["nobody", "65534"] {
        let outcome = with_subordinate(
            &format!("{owner}:200000:1000\\n"),
            "$ISOLATE --map-auto cat /proc/self/uid_map; $ISOLATE --map-auto --setuid 5 --setgid 5 id -u",
        );
        let seen = outcome.good().split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ");
        assert_eq!(seen, "0 65534 1 1 200000 999 5", "{owner}");
    }
}

#[test]
fn without_a_range_the_error_says_how_to_grant_one() {
    needs_root!();
    with_subordinate("other:1:2\\n", "$ISOLATE --map-auto true").refused("--add-subuids");
}

#[test]
fn without_newuidmap_the_error_names_its_package() {
    needs_root!();
    with_subordinate("nobody:200000:1000\\n", "PATH=/nowhere $ISOLATE --map-auto true").refused("package uidmap");
}

#[test]
fn names_are_looked_up_in_files_and_the_error_says_so() {
    isolate(["--setuid", "no-such-user", "true"]).refused("looked up in /etc/passwd alone");
    isolate(["--setgid", "no-such-group", "true"]).refused("looked up in /etc/group alone");
    needs_root!();
    assert_eq!(isolate(["--setuid", "nobody", "--setgid", "nogroup", "id", "-u"]).good(), NOBODY.to_string());
}

#[test]
fn setgroups_follows_the_kernels_rule() {
    needs_root!();
    let words = ["--map-users=0:0:10", "--map-groups=0:0:10", "--setgroups", "deny", "cat", "/proc/self/setgroups"];
    assert_eq!(isolate(words).good(), "deny");
    isolate(["--map-root", "--setgroups", "allow", "true"]).refused("--map-groups");
}

/// Behind a pivot it is the image's, and may be a link to what never ends, as it was for podman's library:
/// https://github.com/advisories/GHSA-wq2p-5pc6-wpgf
#[test]
fn a_passwd_that_is_no_file_is_refused_at_once() {
    let with = |make: &str, who: &str| {
        sh(&format!(
            "d=$(mktemp -d); cd $d; {make}; timeout 20 $ISOLATE $U --mount -- sh -c 'mount --bind passwd /etc/passwd &&
                exec $ISOLATE {who} true'; s=$?; rm -rf $d; exit $s"
        ))
    };
    with("mkfifo passwd", "--setuid daemon").refused("/etc/passwd: not a regular file");
    with("truncate -s 65M passwd", "--setuid daemon").refused("larger than 64 MiB");
    with("echo daemon:x:4294967295:1::/:/bin/sh >passwd", "--setuid daemon").refused("no such user");
    with("printf 'other:\\377\\ndaemon:x:0:0::/:/bin/sh\\n' >passwd", "--setuid daemon").good();
}

#[test]
fn the_last_number_is_no_id() {
    for option in ["--setuid", "--setgid", "--map-user", "--map-group"] {
        isolate([option, "4294967295", "true"]).refused("out of range");
    }
    for range in ["0:4294967295:1", "4294967295:0:1", "0:0:4294967296", "4294967290:0:6", "0,4294967295,1"] {
        isolate(["--map-users", range, "true"]).refused("--map-users");
    }
}
