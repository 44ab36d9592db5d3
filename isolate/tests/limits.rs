//! Limits, and what is left of them afterwards: nothing.

mod bench;

use bench::{have, isolate, sh};

/// Whether this host lets us limit anything; the error says why it does not.
fn can_limit(option: &str, value: &str) -> bool {
    let outcome = isolate([option, value, "true"]);
    if outcome.status != 0 {
        eprintln!("skipped: {}", outcome.stderr.lines().next().unwrap_or_default());
    }
    outcome.status == 0
}

#[test]
fn memory_ends_an_allocation_of_twice_as_much() {
    if !can_limit("--memory", "64M") {
        return;
    }
    if !have("python3") {
        skip!("no python3");
    }
    let allocate = |size: &str| isolate(["--memory", "64M", "python3", "-c", &format!("x = bytearray({size} << 20)")]);
    assert_eq!(allocate("16").status, 0);
    let outcome = allocate("128");
    assert_eq!(outcome.status, 128 + 9, "{outcome:?}");
    assert!(outcome.stderr.contains("limit of memory was reached: the kernel killed 1 process"), "{outcome:?}");
}

#[test]
fn pids_max_ends_a_fork_bomb_and_says_so() {
    if !can_limit("--pids-max", "16") {
        return;
    }
    let outcome = isolate(["--pids-max", "16", "--pid", "sh", "-c", "f() { f | f & }; f; f; wait; :"]);
    assert!(outcome.stderr.contains("limit of processes was reached"), "{outcome:?}");
}

#[test]
fn cpus_are_a_quota_of_the_group() {
    if !can_limit("--cpus", "0.5") {
        return;
    }
    let script = "g=$(sed -n 's/^[0-9]*:[^:]*\\bcpu\\b[^:]*://p' /proc/self/cgroup)
        cat /sys/fs/cgroup/cpu$g/cpu.cfs_quota_us 2>/dev/null ||
            cat /sys/fs/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)/cpu.max";
    let quota = isolate(["--cpus", "0.5", "sh", "-c", script]);
    assert!(quota.stdout.starts_with("50000"), "{quota:?}");
}

#[test]
fn the_group_is_removed_whatever_happens() {
    if !can_limit("--pids-max", "50") {
        return;
    }
    let outcome = sh("groups() { find /sys/fs/cgroup -name \"isolate-*-$1\" 2>/dev/null; }
        dir=$(mktemp -d); mkfifo $dir/up
        $ISOLATE --pids-max 50 --pid -- sh -c \"echo >$dir/up; exec sleep 1000\" & pid=$!
        read x <$dir/up; groups $pid | wc -l
        kill -9 $pid; wait $pid 2>/dev/null
        while groups $pid | grep -q .; do :; done
        $ISOLATE --pids-max 50 -- sh -c 'sleep 1000 & exit 3' & pid=$!
        wait $pid; echo $?; groups $pid | wc -l; rm -r $dir");
    assert_eq!(outcome.stdout, "1\n3\n0\n", "{outcome:?}");
}

#[test]
fn explain_says_which_version_of_cgroups_is_used() {
    let outcome = isolate(["--explain", "--pids-max", "5", "true"]);
    if outcome.status != 0 {
        skip!("{}", outcome.stderr);
    }
    assert!(outcome.stdout.contains("# cgroup version "), "{outcome:?}");
    assert!(outcome.stdout.contains("echo 5 >"), "{outcome:?}");
}

#[test]
fn rlimits_are_soft_and_hard() {
    assert_eq!(isolate(["--rlimit", "nofile=64:128", "sh", "-c", "ulimit -Sn; ulimit -Hn"]).good(), "64\n128");
    assert_eq!(isolate(["--rlimit", "nofile=64,core=0", "sh", "-c", "ulimit -n; ulimit -c"]).good(), "64\n0");
    isolate(["--rlimit", "nofile=9:8", "true"]).refused("soft limit is above the hard one");
    isolate(["--rlimit", "nonesuch=1", "true"]).refused("no such limit");
}

#[test]
fn a_size_is_checked_before_anything_happens() {
    for bad in ["0", "x", "1X", "99999999999T"] {
        isolate(["--memory", bad, "true"]).refused("--memory");
    }
    for bad in ["0", "-1", "nan", "x"] {
        isolate([&format!("--cpus={bad}"), "true"]).refused("--cpus");
    }
}
