//! Nobody inside outlives isolate, whatever they do and whatever state it is in.

use chainroot_tests::{Work, busybox_image, have, script, skip};

/// Blocks every signal, takes its parent-death signal back and floods its group.
const HOSTILE: &str = "
import ctypes, os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)
os.close(os.open('up', os.O_WRONLY))
while True:
    for number in (0, 1, 2, 10, 15, 20, 21): os.kill(0, number)";

#[test]
fn a_stopped_isolate_and_a_flood_leave_no_guard_and_nobody_inside() {
    if !have("python3") {
        skip!("no python3");
    }
    let work = Work::new();
    std::fs::write(work.join("hostile"), HOSTILE).expect("write");
    for option in ["--pid", "--init", "--pid --net"] {
        for last in ["KILL $pid", "KILL -- -$pid", "CONT $pid; kill -KILL $pid"] {
            let outcome = work.shell(
                "bash",
                &format!(
                    "mkfifo up; set -m; isolate {} {option} -- python3 hostile & pid=$!; set +m
                read x <up; kill -STOP $pid
                until grep -q '^State:.T' /proc/$pid/status; do :; done
                kill -{last}; wait $pid; rm up",
                    work.user()
                ),
            );
            work.wait_until(&format!("{option} {last}: all to end: {outcome:?}"), || work.processes().is_empty());
        }
    }
}

/// As GNU timeout ends a command that does not end by itself.
#[test]
fn a_container_that_ignores_its_signals_ends_with_timeout_k() {
    let work = Work::new();
    let floods = "trap \"\" HUP INT QUIT USR1 TERM TSTP TTIN TTOU; while :; do kill -TERM 0; kill -TSTP 0; done";
    let outcome = work.sh(&format!(
        "export XDG_CACHE_HOME=$PWD/cache; {0} '{1}' true
        timeout -k 1 1 {0} '{1}' sh -c '{floods}'; echo $?",
        script("container"),
        busybox_image().display()
    ));
    assert!(outcome.stdout.ends_with("137\n"), "{outcome:?}");
    work.wait_until("all to end", || work.processes().is_empty());
}

/// The kernel keeps nothing of a group's stop from those in it: isolate, its child and its guard.
#[test]
fn a_group_that_is_stopped_while_it_starts_ends_with_isolate() {
    let work = Work::new();
    for option in ["--fork", "--pid", "--init", "--all"] {
        for moment in 0..10 {
            let outcome = work.shell(
                "bash",
                &format!(
                    "set -m; isolate {} {option} -- sleep 1000 & set +m
                i=0; while [ $i -lt {moment} ]; do i=$((i + 1)); kill -0 $!; done
                kill -STOP -- -$!; kill -CONT $!; kill -TERM $!; wait $!; echo $?",
                    work.user()
                ),
            );
            assert_eq!(outcome.stdout, "143\n", "{option}: {outcome:?}");
            work.wait_until("all to end", || work.processes().is_empty());
        }
    }
}
