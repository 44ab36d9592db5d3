//! Limits where systemd owns the cgroups: in units with and without delegation, as root and as a user
//! with a session. scripts/test-systemd boots a machine for these.

mod bench;

use bench::systemd::{here, unit};
use bench::{ISOLATE, have, is_root};

/// Uses 200 MB.
const HOG: &str = "busybox dd if=/dev/zero of=/dev/null bs=200M count=1";

/// https://github.com/podman-container-tools/podman/issues/8330, https://github.com/podman-container-tools/podman/issues/7938
#[test]
fn in_a_unit_without_delegation_a_limit_is_refused_and_the_way_is_named() {
    needs_systemd!();
    let outcome = unit(
        &[],
        "$ISOLATE $U --pids-max 5 true; status=$?; ls -d /sys/fs/cgroup/isolate-* \
        /sys/fs/cgroup$(sed s/0::// /proc/self/cgroup)/isolate-* 2>/dev/null; exit $status",
    );
    assert_eq!(outcome.stdout, "");
    let scope =
        if is_root() { "systemd-run --scope -p Delegate=yes" } else { "systemd-run --user --scope -p Delegate=yes" };
    assert!(outcome.stderr.contains("Delegate=yes in the unit") && outcome.stderr.contains(scope), "{outcome:?}");
    outcome.refused("systemd has not delegated this cgroup");
}

/// Not being told is not being told no.
#[test]
fn where_systemd_cannot_be_asked_the_refusal_says_so() {
    needs_systemd!();
    let outcome = unit(&[], "PATH=/nonexistent $ISOLATE $U --pids-max 5 /bin/true");
    assert!(outcome.stderr.contains("Delegate=yes in the unit"), "{outcome:?}");
    outcome.refused("systemd does not say whether this cgroup is delegated: systemctl: No such file");
}

#[test]
fn the_way_that_the_refusal_names_works() {
    needs_systemd!();
    let user = if is_root() { "" } else { "--user" };
    let outcome = here(&format!(
        "systemd-run {user} --quiet --scope -p Delegate=yes -- $ISOLATE $U --pids-max 7 -- \
            sh -c 'cat /sys/fs/cgroup$(sed s/0::// /proc/self/cgroup)/../pids.max'"
    ));
    assert_eq!((outcome.status, outcome.stdout.as_str()), (0, "7\n"), "{outcome:?}");
}

#[test]
fn a_script_in_a_delegated_unit_may_limit_and_does_not_leave_its_unit() {
    needs_systemd!();
    let script = "own=$(cat /proc/self/cgroup)
        for limit in '--pids-max 50' '--memory 64M'; do
            inner=$($ISOLATE $U $limit -- cat /proc/self/cgroup)
            case $inner in $own/isolate-*/command) echo inside ;; *) echo $inner is not in $own ;; esac
        done
        # Nothing is left, but for the leaf that this script was moved to.
        ls -d /sys/fs/cgroup${own#0::}/isolate-[0-9]* 2>/dev/null; :";
    let outcome = unit(&["Delegate=yes"], script);
    assert_eq!((outcome.status, outcome.stdout.as_str()), (0, "inside\ninside\n"), "{outcome:?}");
}

#[test]
fn a_caller_without_an_environment_may_limit_all_the_same() {
    needs_systemd!();
    // The second time in the leaf that the first has moved the script to.
    let script = "for time in first second; do env -i PATH=$PATH $ISOLATE $U --pids-max 50 -- echo $time; done";
    let outcome = unit(&["Delegate=yes"], script);
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("first\nsecond\n", ""), "{outcome:?}");
}

/// The first to limit in a unit moves the unit's processes; a command that is in its limited group by then stays there.
#[test]
fn limits_that_start_side_by_side_all_hold() {
    needs_systemd!();
    let script = "unit=/sys/fs/cgroup$(sed 's/0:://' /proc/self/cgroup)
        for round in 1 2 3 4; do
            for one in 1 2 3 4 5 6; do $ISOLATE $U --pids-max 50 -- cat /proc/self/cgroup & done; wait
            # As it was before the first one.
            for pid in $(cat $unit/isolate-waiting/cgroup.procs); do echo $pid >$unit/cgroup.procs; done 2>/dev/null
        done";
    let outcome = unit(&["Delegate=yes"], script);
    let inside = outcome.stdout.lines().filter(|line| line.contains("/isolate-") && line.ends_with("/command")).count();
    assert_eq!((inside, outcome.stdout.lines().count(), outcome.stderr.as_str()), (24, 24, ""), "{outcome:?}");
}

/// The race of the test above, step by step: the first isolate is stopped between finding the second's child in the unit's
/// group and moving it, and the second goes on as far as it can.
#[test]
fn a_child_that_has_gone_to_its_group_meanwhile_is_not_taken_out_of_it() {
    needs_systemd!();
    if !have("strace") {
        skip!("no strace");
    }
    let script = r#"unit=/sys/fs/cgroup$(sed 's/0:://' /proc/self/cgroup); waiting=$unit/isolate-waiting
        cd $(mktemp -d); mkfifo down; touch first second
        stops() { grep -c 'stopped by SIGSTOP' $1; }
        below() { pgrep -n -P $1; }
        strace -f -o second -P $waiting -e trace=/^mkdir -e inject=/^mkdir:signal=SIGSTOP:when=1 \
            $ISOLATE $U --pids-max 50 -- sh -c ': >started; read x <down; cat /proc/self/cgroup' &
        strace=$!; until [ $(stops second) = 1 ]; do :; done
        second=$(below $strace); child=$(below $second)
        strace -f -o first -P $waiting/cgroup.procs -e trace=openat -e inject=openat:signal=SIGSTOP \
            $ISOLATE $U --pids-max 50 -- cat /proc/self/cgroup >done &
        strace=$!; stop=1; until [ $(stops first) = $stop ]; do :; done; first=$(below $strace)
        until [ "$(head -n 1 $unit/cgroup.procs)" = $child ]; do
            kill -CONT $first; stop=$((stop + 1)); until [ $(stops first) = $stop ]; do :; done
        done
        kill -CONT $second; until [ -e started ] || grep -q -- "-> FLOCK .* $second " /proc/locks; do :; done
        until [ -s done ]; do kill -CONT $first; done; until [ -e started ]; do :; done
        echo >down; wait; cat done; rm -r $PWD"#;
    let outcome = unit(&["Delegate=yes"], script);
    let inside = outcome.stdout.lines().filter(|line| line.contains("/isolate-") && line.ends_with("/command")).count();
    assert_eq!((inside, outcome.stdout.lines().count()), (2, 2), "{outcome:?}");
}

#[test]
fn the_units_own_limits_hold_for_what_is_limited_in_it() {
    needs_systemd!();
    // More than the unit may use, and less than isolate would allow.
    let script = format!("$ISOLATE $U --memory 1500M -- {HOG}; echo $?");
    let outcome = unit(&["Delegate=yes", "MemoryMax=100M", "MemorySwapMax=0", "OOMPolicy=continue"], &script);
    assert_eq!(outcome.stdout, "137\n", "{outcome:?}");
    let forks = "i=0; while [ $i -lt 30 ]; do sleep 1000 & i=$((i + 1)); done 2>/dev/null; echo all of them";
    let script = format!("$ISOLATE $U --pids-max 1000 -- sh -c '{forks}'; :");
    let outcome = unit(&["Delegate=yes", "TasksMax=20"], &script);
    assert_eq!(outcome.stdout, "", "{outcome:?}");
}

#[test]
fn stopping_a_unit_ends_what_is_limited_in_it() {
    needs_systemd!();
    let name = format!("isolate-test-stop-{}", std::process::id());
    let user = if is_root() { "" } else { "--user" };
    // The unit's command is a file: a reload of systemd may change the dollars in a command line.
    let outcome = here(&format!(
        "dir=$(mktemp -d); mkfifo $dir/up
        echo \"$ISOLATE $U --pids-max 50 -- sh -c 'echo \\$\\$ \\$PPID >$dir/up; exec sleep 1000' 2>$dir/said
            echo >$dir/up\" >$dir/script
        timeout -v 100 systemd-run {user} --quiet --collect --unit={name} -p Delegate=yes -- sh $dir/script &&
            read command parent <$dir/up; cat $dir/said
        group=$(systemctl {user} show -P ControlGroup {name})
        [ -n \"$group\" ] && [ -d /sys/fs/cgroup$group ] && kill -0 $command && kill -0 $parent && echo started
        systemctl {user} stop {name}
        [ -d /sys/fs/cgroup$group ] || echo gone
        for pid in $command $parent; do kill -0 $pid 2>/dev/null || echo ended; done; rm -r $dir"
    ));
    assert_eq!(outcome.stdout, "started\ngone\nended\nended\n", "{outcome:?}");
}

/// https://github.com/moby/moby/issues/51446, https://github.com/moby/moby/issues/41233,
/// https://github.com/opencontainers/runc/issues/1605, https://github.com/containers/crun/issues/1011
#[test]
fn reloading_systemd_and_setting_properties_leaves_a_limit_where_it_is() {
    needs_systemd!();
    let script = "dir=$(mktemp -d); mkfifo $dir/up $dir/down
        $ISOLATE $U --pids-max 50 --memory 100M -- sh -c \"cat /proc/self/cgroup >$dir/group; echo >$dir/up; read x <$dir/down\" &
        read x <$dir/up
        group=/sys/fs/cgroup$(sed 's/0:://' $dir/group)/..
        unit=$(sed 's/0:://; s|/isolate-.*||; s|.*/||' $dir/group)
        cat $group/pids.max $group/memory.max
        $SYSTEMCTL daemon-reload
        $SYSTEMCTL set-property --runtime $unit TasksMax=200 MemoryMax=500M CPUWeight=50
        cat $group/pids.max $group/memory.max
        echo >$dir/down; wait; rm -r $dir";
    let outcome = unit(&["Delegate=yes"], script);
    assert_eq!(outcome.stdout, "50\n104857600\n50\n104857600\n", "{outcome:?}");
}

/// What systemd starts next must find the unit's own group free to be entered: one that hands controllers down is not
/// (cgroups(7), "no internal processes").
///
/// https://github.com/systemd/systemd/issues/10482, https://github.com/systemd/systemd/issues/23164
#[test]
fn a_unit_goes_on_to_its_next_command_after_one_that_was_limited() {
    needs_systemd!();
    let before = format!("ExecStartPre={ISOLATE} {} --pids-max 50 true", if is_root() { "" } else { "--map-root" });
    let outcome = unit(&["Delegate=yes", &before, &before], "echo next");
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("next\n", ""), "{outcome:?}");
}

/// As a desktop names the scope of a terminal, and containerd its groups.
///
/// https://github.com/opencontainers/runc/pull/904, https://github.com/uber-go/automaxprocs/pull/31
#[test]
fn a_unit_whose_name_is_escaped_is_limited_in_as_any_other() {
    needs_systemd!();
    let user = if is_root() { "" } else { "--user" };
    let outcome = here(&format!(
        "systemd-run {user} --quiet --scope -p Delegate=yes --unit='isolate\\x2dtest-{}:1.scope' -- \
            $ISOLATE $U --pids-max 7 -- sh -c 'cat /proc/self/cgroup; cat /sys/fs/cgroup$(sed s/0::// /proc/self/cgroup)/../pids.max'",
        std::process::id()
    ));
    assert!(outcome.stdout.contains("/isolate\\x2dtest-") && outcome.stdout.ends_with("\n7\n"), "{outcome:?}");
}

#[test]
fn a_unit_that_delegates_one_controller_is_limited_in_by_that() {
    needs_systemd!();
    let outcome = unit(&["Delegate=pids"], "exec $ISOLATE $U --pids-max 7 -- echo limited");
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("limited\n", ""), "{outcome:?}");
}

#[test]
fn a_limit_holds_while_systemd_reloads() {
    needs_systemd!();
    let script = "while [ -e $0 ]; do $SYSTEMCTL daemon-reload; done & reloads=$!
        for i in $(seq 40); do $ISOLATE $U --pids-max 50 -- echo limited; done 2>&1 | sort | uniq -c
        kill $reloads";
    let outcome = unit(&["Delegate=yes"], script);
    assert_eq!(outcome.stdout.trim(), "40 limited", "{outcome:?}");
}
