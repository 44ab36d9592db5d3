//! Why ids, groups and limits are refused: each cause has its own hint.

mod bench;

use bench::{ISOLATE, as_nobody, isolate, sh};

#[test]
fn why_ids_cannot_be_set_is_told() {
    let inside = |words: &[&str]| isolate([&["--map-root", "--", ISOLATE], words, &["true"]].concat());
    inside(&["--setuid", "5"]).refused("become user 5: Invalid argument");
    inside(&["--setuid", "5"]).refused("5 is not mapped in this user namespace: --map-auto, --map-users");
    inside(&["--setgid", "5"]).refused("5 is not mapped in this user namespace");
    as_nobody(["--setuid", "5", "true"]).refused("this takes CAP_SETUID: root, or a user namespace");
    as_nobody(["--setgid", "5", "true"]).refused("this takes CAP_SETGID: root, or a user namespace");
    needs_root!();
    // With the one capability, and not with the other.
    let without = |name: &str, words: &str| {
        sh(&format!("setpriv --bounding-set=-{name} --inh-caps=-{name} $ISOLATE {words} true"))
    };
    without("setgid", "--setgid 5").refused("leave the supplementary groups: Operation not permitted");
    without("setgid", "--setgid 5").refused("this takes CAP_SETGID");
    without("setuid", "--setuid 5").refused("this takes CAP_SETUID");
    without("setuid", "--setgid 5").good();
}

#[test]
fn where_setgroups_is_denied_it_is_not_allowed_again() {
    needs_root!();
    let maps = |count: u32| format!("--map-users 0:0:{count} --map-groups 0:0:{count}");
    let (outer, inner) = (maps(10), maps(5));
    let run = |denied: &str, allowed: &str| {
        sh(&format!("$ISOLATE {outer} {denied} -- $ISOLATE {inner} {allowed} -- cat /proc/self/setgroups"))
    };
    run("--setgroups deny", "--setgroups allow").refused("setgroups is denied in the user namespace around this one");
    assert_eq!(run("--setgroups deny", "").good(), "deny");
    assert_eq!(run("", "--setgroups allow").good(), "allow");
    assert_eq!(run("", "--setgroups deny").good(), "deny");
}

#[test]
fn why_a_limit_is_refused_is_told() {
    isolate(["--rlimit", "nofile=4000000000", "true"]).refused("and not even root may have more: sysctl fs.nr_open");
    as_nobody(["--rlimit", "nofile=64", "--", ISOLATE, "--rlimit", "nofile=128", "true"])
        .refused("the hard limit is 64, and only CAP_SYS_RESOURCE can raise it");
}

/// Since Linux 3.1 the exec says it, and not the change of user (execve(2)).
#[test]
fn a_user_with_too_many_processes_is_named_at_the_exec() {
    needs_root!();
    let outcome = sh("d=$(mktemp -d); chmod 777 $d; mkfifo $d/up; chmod 666 $d/up
        for n in 1 2; do setpriv --reuid=3111223 --clear-groups sh -c \"echo >$d/up; exec sleep 1000\" & pids=\"$pids $!\"; read x <$d/up; done
        prlimit --nproc=1 $ISOLATE --setuid 3111223 -- true; s=$?; kill $pids; rm -r $d; exit $s");
    assert_eq!((outcome.status, outcome.stdout.as_str()), (126, ""), "{outcome:?}");
    assert_eq!(
        outcome.stderr,
        "isolate: true: this user has more processes than allowed\n\
         isolate: hint: RLIMIT_NPROC is too low for this user: ulimit -u N\n"
    );
}

#[test]
fn too_many_ranges_are_counted() {
    needs_root!();
    let maps: Vec<String> =
        (0..341).map(|n| format!("--map-users={}:{}:1", n * 2, n * 2)).chain(["--map-groups=0:0:1".into()]).collect();
    let words: Vec<&str> = maps.iter().map(String::as_str).collect();
    isolate([&words[1..], &["true"]].concat()).good();
    isolate([&words[..], &["true"]].concat()).refused("these are 341 ranges, and the kernel takes 340");
}
