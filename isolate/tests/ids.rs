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
            exec setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups sh -c \\\"\\$script\\\"\"
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
        assert_eq!(seen, "0 65534 1 1 200000 1000 5", "{owner}");
    }
}

/// unshare(1) cuts the last id of the range, and so maps none of a range of one: https://github.com/util-linux/util-linux/pull/4457
/// https://github.com/util-linux/util-linux/blob/master/tests/ts/nsenter/env: a process that is another user outside shows
/// its environment to who has entered its user namespace.
#[test]
fn who_joins_a_user_of_another_range_gets_his_environment() {
    needs_root!();
    if !have("newuidmap") {
        skip!("no newuidmap");
    }
    let outcome = with_subordinate(
        "nobody:200000:1000\\n",
        "d=$(mktemp -d); mkfifo $d/up; as=\"--setuid 0 --setgid 0\"
        ROW=1 $ISOLATE -c --map-auto $as --status-fd 3 -- sh -c \"echo; exec sleep 1000\" 3>$d/status >$d/up &
        read x <$d/up; $ISOLATE --join $d/status:user,env $as -- sh -c \"echo row \\$ROW\"
        $ISOLATE --join $d/status:uts,env true 2>&1 | grep -o environ.*; kill $!; wait $!; rm -r $d",
    );
    assert_eq!(outcome.stdout, "row 1\nenviron: Permission denied\n", "{outcome:?}");
}

#[test]
fn map_auto_loses_no_id_beside_the_own_one() {
    needs_root!();
    if !have("newuidmap") {
        skip!("no newuidmap");
    }
    // The same file for users and groups.
    let map = |lines: &str, options: &str| {
        let outcome = with_subordinate(lines, &format!("$ISOLATE {options} cat /proc/self/uid_map /proc/self/gid_map"));
        assert_eq!(outcome.status, 0, "{outcome:?}");
        let numbers: Vec<&str> = outcome.stdout.split_whitespace().collect();
        let (users, groups) = numbers.split_at(numbers.len() / 2);
        assert_eq!(users, groups);
        (users.join(" "), outcome.stderr)
    };
    for (lines, options, wanted) in [
        ("nobody:200000:1000\\n", "-r --map-auto", "0 65534 1 1 200000 1000"),
        ("nobody:200000:70000\\n", "-c --map-auto", "65534 65534 1 0 200000 65534 65535 265534 4466"),
        ("nobody:200000:10\\n", "--map-user=5 --map-group=5 --map-auto", "5 65534 1 0 200000 5 6 200005 5"),
        // All ranges, in the order of the file, and what two of them have in common once.
        (
            "nobody:200000:10\\nnobody:300000:5\\n65534:300003:4\\n",
            "-r --map-auto",
            "0 65534 1 1 200000 10 11 300000 5 16 300005 2",
        ),
        ("nobody:200000:10\\nnobody:300000:5\\n", "--map-subids", "200000 200000 10 300000 300000 5"),
        ("nobody:200000:10\\n", "--map-users=auto --map-groups=auto", "0 200000 10"),
    ] {
        assert_eq!(map(lines, options), (wanted.to_owned(), String::new()), "{lines} {options}");
    }
    let (one, said) = map("nobody:200000:1\\n", "-r --map-auto");
    assert_eq!(one, "0 65534 1 1 200000 1");
    assert!(said.contains("/etc/subuid: the first range of user 65534 is one id, 200000"), "{said}");
    // More than the kernel takes.
    let many: String = (0..400).map(|n| format!("nobody:{}:2\\n", 200_000 + n * 4)).collect();
    let (taken, said) = map(&many, "-r --map-auto");
    let lines = taken.split(' ').count() / 3;
    assert!((100..=340).contains(&lines) && said.contains("ids of /etc/subuid are left out"), "{lines}: {said}");
}

/// What is printed for --explain maps the same.
#[test]
fn the_script_of_map_auto_loses_none_either() {
    needs_root!();
    if !have("newuidmap") {
        skip!("no newuidmap");
    }
    let line = |explain: &str| format!("$ISOLATE {explain} -r --map-auto -- cat /proc/self/uid_map /proc/self/gid_map");
    let lines = "nobody:200000:1000\\n";
    let real = with_subordinate(lines, &line("")).good();
    let script = with_subordinate(lines, &line("--explain")).good();
    assert!(script.contains("--map-root-user --map-users=200000,1,1000 --map-groups=200000,1,1000"), "{script}");
    assert_eq!(
        real.split_whitespace().collect::<Vec<_>>().join(" "),
        "0 65534 1 1 200000 1000 0 65534 1 1 200000 1000"
    );
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
fn chosen_groups_are_kept_where_the_kernel_lets_it() {
    needs_root!();
    for (options, wanted) in [
        ("--groups 27,100", "0 0 27 100"),
        ("--setuid 5 --setgid 6 --groups 27,users", "5 6 27 100"),
        ("--map-users=0:0:1000 --map-groups=0:0:1000 --setuid 5 --groups 27", "5 0 27"),
        ("--setgid 6", "0 6"),
    ] {
        let seen = sh(&format!("$ISOLATE {options} sh -c 'id -u; id -G'")).good();
        assert_eq!(seen.split_whitespace().collect::<Vec<_>>().join(" "), wanted, "{options}");
        // The unshare(1) of util-linux 2.38 maps ranges by newuidmap alone, which refuses these.
        if !options.contains("map-users") {
            let script = sh(&format!("$ISOLATE --explain {options} -- sh -c 'id -u; id -G' | sh")).good();
            assert_eq!(script, seen, "{options}");
        }
    }
    isolate(["--map-current", "--groups", "27", "true"]).refused("setgroups is denied in this user namespace");
    isolate(["--map-users=0:0:10", "--map-groups=0:0:10", "--groups", "27", "true"]).refused("27 is not mapped");
    isolate(["--groups", "no-such-group", "true"]).refused("--groups: no-such-group");
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
