//! Limits, and what is left of them afterwards: nothing.

mod bench;

use bench::{have, is_root, isolate, sh};

/// Whether this host lets us limit anything; the error says why it does not.
fn can_limit(option: &str, value: &str) -> bool {
    let outcome = isolate([option, value, "true"]);
    if outcome.status != 0 {
        eprintln!("skipped: {}", outcome.stderr.lines().next().unwrap_or_default());
    }
    outcome.status == 0
}

/// A new pid namespace, in the way that the user who runs the tests may have one.
fn pid_namespace() -> &'static str {
    if is_root() { "--pid" } else { "--map-root --pid" }
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
    let outcome = sh(&format!("$ISOLATE --pids-max 16 {} -- sh -c 'f() {{ f | f; }}; f; :'", pid_namespace()));
    assert!(outcome.stderr.contains("limit of processes was reached"), "{outcome:?}");
}

/// https://github.com/moby/moby/issues/41167, https://github.com/containers/crun/pull/635
#[test]
fn a_program_that_is_killed_before_it_starts_is_said_to_have_reached_the_limit() {
    if !can_limit("--memory", "256K") {
        return;
    }
    // The words alone are more than it may have.
    let outcome = sh("$ISOLATE $U --memory 256K -- true $(seq 20000)");
    assert_eq!(outcome.status, 128 + 9, "{outcome:?}");
    assert!(outcome.stderr.contains("limit of memory was reached"), "{outcome:?}");
}

#[test]
fn a_limit_inside_a_limit_is_inside() {
    if !can_limit("--memory", "64M") {
        return;
    }
    if !have("python3") {
        skip!("no python3");
    }
    let (pid, hog) = (pid_namespace(), "python3 -c 'x = bytearray(200 << 20)'");
    let outcome = sh(&format!("$ISOLATE --memory 50M {pid} -- sh -c \"$ISOLATE --memory 400M -- {hog}; exit \\$?\""));
    assert_eq!(outcome.status, 128 + 9, "{outcome:?}");
    // As its only program, which could be moved; and at the third level.
    for between in ["", "$ISOLATE --pids-max 100 --"] {
        let outcome = sh(&format!("$ISOLATE --memory 50M {pid} -- {between} $ISOLATE --memory 400M -- {hog}"));
        assert_eq!(outcome.status, 128 + 9, "{outcome:?}");
    }
    let bomb = "i=0; while [ $i -lt 30 ]; do sleep 1000 & i=$((i + 1)); done; echo all of them";
    let outcome = sh(&format!(
        "export BOMB='{bomb}'; $ISOLATE --pids-max 20 {pid} -- sh -c '$ISOLATE --pids-max 1000 -- sh -c \"$BOMB\"'"
    ));
    assert!(
        !outcome.stdout.contains("all") && outcome.stderr.contains("limit of processes was reached"),
        "{outcome:?}"
    );
}

/// The own group's directory, in the hierarchy that has its quota.
const CPU_GROUP: &str = "dir=/sys/fs/cgroup/cpu$(sed -n 's/^[0-9]*:[^:]*\\bcpu\\b[^:]*://p' /proc/self/cgroup)
    [ -e $dir/cpu.stat ] || dir=/sys/fs/cgroup$(sed -n 's|^0::\\(.*\\)/command|\\1|p' /proc/self/cgroup)";

#[test]
fn half_a_processor_does_half_the_work_in_the_same_time() {
    if !can_limit("--cpus", "0.5") {
        return;
    }
    if !have("python3") {
        skip!("no python3");
    }
    // One second of work. What else the machine does can only make it last longer.
    let work = "
import sys, time
begun, used = time.monotonic(), time.process_time()
while time.process_time() - used < 1: pass
lasted = time.monotonic() - begun
print(lasted, dict(line.split() for line in open(sys.argv[1]))['nr_throttled'])";
    let work = |cpus: &str| {
        // On a busy machine it would not come to the quota: so it goes before the others.
        let script = format!(
            "{CPU_GROUP}
            {{ echo 262144 >$dir/cpu.shares || echo 10000 >$dir/cpu.weight; }} 2>/dev/null
            exec python3 -c \"$1\" $dir/cpu.stat"
        );
        let seen = isolate(["--cpus", cpus, "sh", "-c", &script, "sh", work]).good();
        let (lasted, throttled) = seen.split_once(' ').expect("two numbers");
        (lasted.parse::<f64>().expect("seconds"), throttled.parse::<u64>().expect("a number"))
    };
    // The first of the periods of 100 ms begins with a whole share of 50 ms.
    let (lasted, throttled) = work("0.5");
    assert!(lasted > 1.8 && throttled > 0, "{lasted} s, throttled {throttled} times");
    // More than a single thread can want, even after it was held up.
    assert_eq!(work("100").1, 0);
}

#[test]
fn the_limit_that_ended_it_is_told() {
    if !can_limit("--memory", "64M") || !can_limit("--pids-max", "16") {
        return;
    }
    let told = |option: &str, command: &str| -> serde_json::Value {
        let pid = pid_namespace();
        let outcome = sh(&format!("$ISOLATE {option} {pid} --status-fd 3 -- {command} 3>&1 >/dev/null 2>/dev/null"));
        let last = outcome.stdout.lines().last().unwrap_or_default().to_owned();
        serde_json::from_str(&last).unwrap_or_else(|_| panic!("{outcome:?}"))
    };
    let bomb = told("--pids-max 16", "sh -c 'f() { f | f; }; f; exit 3'");
    assert_eq!((&bomb["event"], &bomb["limit"]), (&"exited".into(), &"pids".into()));
    if have("python3") {
        let memory = told("--memory 64M", "python3 -c 'x = bytearray(128 << 20)'");
        assert_eq!(
            memory,
            serde_json::json!({"event": "exited", "signal": "SIGKILL", "limit": "memory", "version": 1})
        );
    }
    assert_eq!(
        told("--pids-max 16 --memory 64M", "true"),
        serde_json::json!({"event": "exited", "code": 0, "version": 1})
    );
}

#[test]
fn the_group_is_removed_whatever_happens() {
    if !can_limit("--pids-max", "50") {
        return;
    }
    let pid = pid_namespace();
    let outcome = sh(&format!(
        "groups() {{ find /sys/fs/cgroup -name \"isolate-*-$1\" 2>/dev/null; }}
        dir=$(mktemp -d); mkfifo $dir/up
        $ISOLATE --pids-max 50 {pid} -- sh -c \"echo >$dir/up; exec sleep 1000\" & pid=$!
        read x <$dir/up; groups $pid | wc -l
        kill -9 $pid; wait $pid 2>/dev/null
        while groups $pid | grep -q .; do :; done
        $ISOLATE --pids-max 50 -- sh -c 'sleep 1000 & exit 3' & pid=$!
        wait $pid; echo $?; groups $pid | wc -l; rm -r $dir"
    ));
    assert_eq!(outcome.stdout, "1\n3\n0\n", "{outcome:?}");
}

/// Between a group's making and its use as well: the guard is there before it.
#[test]
fn a_kill_at_any_moment_of_the_start_leaves_no_group() {
    if !have("bash") {
        skip!("no bash");
    }
    if !can_limit("--pids-max", "50") {
        return;
    }
    let pid = pid_namespace();
    for (signal, whom) in [("KILL", "$pid"), ("TERM", "$pid"), ("TERM", "-$pid")] {
        // bash has job control without a terminal.
        let outcome = sh(&format!(
            "exec bash -c 'groups() {{ find /sys/fs/cgroup -name \"isolate-*-$1\" 2>/dev/null; }}
            set -m; n=0; while [ $n -lt 15 ]; do n=$((n + 1))
                $ISOLATE --pids-max 50 {pid} -- sleep 1000 & pid=$!
                i=0; while [ $i -lt $n ]; do i=$((i + 1)); kill -0 $pid; done
                kill -{signal} {whom}; wait $pid 2>/dev/null
                while groups $pid | grep -q .; do :; done
            done 2>/dev/null; echo none'"
        ));
        assert_eq!(outcome.stdout, "none\n", "{signal} {whom}: {outcome:?}");
    }
}

/// https://github.com/opencontainers/runc/issues/3225, https://github.com/opencontainers/runc/issues/4040
#[test]
fn groups_within_groups_are_removed_with_what_is_in_them() {
    if !can_limit("--pids-max", "50") {
        return;
    }
    let pid = pid_namespace();
    // COMMAND's own, where it may make any: in every hierarchy, one within another, and a process in it.
    let makes = "for dir in $(find /sys/fs/cgroup -path '*/isolate-*' -name cgroup.procs -exec grep -lx $$ {} + 2>/dev/null); do
            mkdir -p ${dir%/*}/a/b/c || continue
            sleep 1000 & echo $! >${dir%/*}/a/b/cgroup.procs
        done 2>/dev/null; :";
    let outcome = sh(&format!(
        "groups() {{ find /sys/fs/cgroup -path \"*/isolate-*-$1*\" 2>/dev/null; }}
        dir=$(mktemp -d); mkfifo $dir/up
        cat >$dir/inner <<'END'
        {makes}
END
        $ISOLATE --pids-max 50 $U -- $ISOLATE --pids-max 40 -- sh -c \". $dir/inner; echo >$dir/up; exec sleep 1000\" & pid=$!
        read x <$dir/up
        [ $(groups $pid | grep -c '/isolate-.*/isolate-.*/cgroup.procs') -gt 0 ] && echo one within another
        kill -9 $pid; wait $pid 2>/dev/null
        while groups $pid | grep -q .; do :; done; echo gone
        $ISOLATE --pids-max 50 {pid} -- $ISOLATE --pids-max 40 -- sh $dir/inner & pid=$!
        wait $pid; echo $?; groups $pid | wc -l; rm -r $dir"
    ));
    assert_eq!(outcome.stdout, "one within another\ngone\n0\n0\n", "{outcome:?}");
    assert_eq!(outcome.stderr, "");
}

#[test]
fn a_start_that_fails_leaves_no_group() {
    if !can_limit("--pids-max", "50") {
        return;
    }
    for (options, status) in [
        ("--join 99999999", 125),
        ("--join net=/proc/self/no-such", 125),
        ("--join net=/proc/self/cmdline", 125),
        ("--uts=/proc/no-such", 125),
        ("--map-users 0:4294967290:90", 125),
        ("-- /no-such-command", 127),
    ] {
        let outcome = sh(&format!(
            "$ISOLATE $U --memory 64M --pids-max 50 {options} true & pid=$!; wait $pid; echo $?
            find /sys/fs/cgroup -name \"isolate-*-$pid\" 2>/dev/null"
        ));
        assert_eq!(outcome.stdout, format!("{status}\n"), "{options}: {outcome:?}");
    }
}

#[test]
fn what_a_killed_isolate_and_its_guard_left_is_removed_by_the_next() {
    if !can_limit("--pids-max", "50") {
        return;
    }
    let outcome = sh("dir=$(mktemp -d); mkfifo $dir/up
        $ISOLATE $U --pids-max 50 -- sh -c \"echo \\$\\$ >$dir/up; exec sleep 1000\" & pid=$!
        read command <$dir/up
        # The guard is the other child of isolate, and knows no more of it afterwards.
        kill -STOP $pid; guard=$(pgrep -P $pid | grep -vx $command)
        kill -9 $guard $pid $command; wait $pid 2>/dev/null
        while kill -0 $command 2>/dev/null || kill -0 $guard 2>/dev/null; do :; done
        $ISOLATE $U --pids-max 50 true
        find /sys/fs/cgroup -name \"isolate-*-$pid\" 2>/dev/null; rm -r $dir");
    assert_eq!(outcome.stdout, "", "{outcome:?}");
}

/// https://github.com/opencontainers/runc/issues/2344
#[test]
fn who_joined_a_limited_command_ends_with_its_group() {
    if !can_limit("--pids-max", "50") {
        return;
    }
    let outcome = sh("dir=$(mktemp -d); mkfifo $dir/up $dir/in
        $ISOLATE $U --pids-max 50 --uts -- sh -c \"echo >$dir/up; exec sleep 1000\" & pid=$!
        read x <$dir/up
        $ISOLATE --join $pid -- sh -c \"echo >$dir/in; exec sleep 1000\" & joined=$!
        read x <$dir/in
        kill $pid; wait $pid; echo $?; wait $joined; echo $?
        find /sys/fs/cgroup -name \"isolate-*-$pid\" 2>/dev/null; rm -r $dir");
    assert_eq!(outcome.stdout, "143\n137\n", "{outcome:?}");
}

/// https://github.com/opencontainers/runc/issues/3828, https://github.com/containers/crun/pull/657
#[test]
fn a_group_that_another_of_the_same_pid_left_is_no_obstacle() {
    if !can_limit("--pids-max", "50") {
        return;
    }
    // A shell makes what such a one would have left, with a process in it, and becomes isolate.
    let outcome =
        sh("parent=$($ISOLATE $U --explain --pids-max 50 true | sed -n 's|^mkdir \\(/.*\\)/isolate-..$|\\1|p')
        export parent namespace=$(stat -Lc %i /proc/self/ns/pid)
        sh -c 'group=$parent/isolate-$namespace-$$; mkdir -p $group/command || exit
            sleep 1000 & echo $! >$group/command/cgroup.procs; exec $ISOLATE $U --pids-max 50 -- echo started' & pid=$!
        wait $pid; echo $?; find /sys/fs/cgroup -name \"isolate-*-$pid\" 2>/dev/null");
    assert_eq!(outcome.stdout, "started\n0\n", "{outcome:?}");
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
    for bad in ["0", "-1", "nan", "x", "100001", "0.001"] {
        isolate([&format!("--cpus={bad}"), "true"]).refused("--cpus");
    }
    // 512M was meant; the kernel would take it, and kill whatever starts.
    isolate(["--memory", "512", "true"]).refused("too small for any program to start: 512M?");
    isolate(["--cpus", "100001", "true"]).refused("0.01 to 100000");
    isolate(["--pids-max", "max", "true"]).refused("leave it out");
    isolate(["--pids-max", "4194305", "true"]).refused("4194304 is the kernel's highest");
}
