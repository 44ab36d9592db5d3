//! The process that waits: signals, ends, what it holds.

mod bench;

use bench::{as_root, have, isolate, sh};

#[test]
fn exit_statuses_and_signals_are_the_commands_own() {
    for options in [&["--fork"][..], &["--pid"], &["--init"]] {
        let run = |script: &str| as_root([options, &["--", "sh", "-c", script]].concat()).status;
        assert_eq!(run("exit 7"), 7, "{options:?}");
        assert_eq!(as_root([options, &["no-such-command"]].concat()).status, 127);
        assert_eq!(as_root([options, &["/etc/passwd"]].concat()).status, 126);
        // PID 1 does not die of its own signals; a child of it does.
        let by_signal = if options == ["--pid"] { "sh -c 'kill -SEGV $$'; exit $?" } else { "kill -SEGV $$" };
        assert_eq!(run(by_signal), 128 + 11, "{options:?}");
    }
}

#[test]
fn options_after_the_command_are_the_commands() {
    assert_eq!(as_root(["--uts", "echo", "--pid", "-x", "--"]).good(), "--pid -x --");
    assert_eq!(as_root(["--uts", "--", "echo", "--explain"]).good(), "--explain");
}

#[test]
fn the_callers_pipes_end_when_the_command_does() {
    assert_eq!(sh("set -e; yes | $ISOLATE $U --pid -- true; yes | $ISOLATE $U --init -- true").good(), "");
    // The process that waits does not hold an inherited descriptor open.
    let script = "{ $ISOLATE $U --pid -- sh -c 'exec 9>&- >&-; read x <&8' 9>&1 & } 8<&0 | cat; echo read";
    let outcome = bench::Outcome::of(
        std::process::Command::new("sh")
            .args(["-c", script])
            .env("ISOLATE", bench::ISOLATE)
            .env("U", if bench::is_root() { "" } else { "--map-root" })
            .stdin(std::process::Stdio::null())
            .output()
            .expect("sh"),
    );
    assert_eq!(outcome.stdout, "read\n", "{outcome:?}");
}

#[test]
fn a_stream_that_the_caller_closed_is_closed() {
    for option in ["--uts", "--fork", "--pid", "--init"] {
        let run = |command: &str, closed: &str| sh(&format!("$ISOLATE $U {option} -- {command} {closed}"));
        // What cannot be written is the command's to say.
        let outcome = run("$ISOLATE --uts -- env echo lost", ">&-");
        assert_ne!(outcome.status, 0, "{option}: {outcome:?}");
        assert!(outcome.stderr.contains("Bad file descriptor"), "{option}: {outcome:?}");
        for (stream, closed) in [(0, "<&-"), (1, ">&-"), (2, "2>&-")] {
            let command = format!("sh -c 'test ! -e /proc/self/fd/{stream} && exit 7'");
            assert_eq!(run(&command, closed).status, 7, "{option} {closed}");
        }
        assert_eq!(run("no-such-command", "<&- >&- 2>&-").status, 127, "{option}");
    }
}

#[test]
fn sigchld_may_be_ignored_by_the_caller() {
    if !have("bash") {
        skip!("no bash");
    }
    let script = "trap '' CHLD; exec \"$ISOLATE\" $U --pid -- sh -c 'exit 5'";
    let outcome = sh(&format!("bash -c '{}'; echo $?", script.replace('\'', r"'\''")));
    assert_eq!(outcome.stdout, "5\n", "{outcome:?}");
}

#[test]
fn init_reaps_what_is_left_to_it() {
    let count = std::env::var("ISOLATE_ZOMBIES").unwrap_or_else(|_| "1000".into());
    let script = format!(
        "i=0; while [ $i -lt {count} ]; do (: &); i=$((i + 1)); done
        while ps -eo stat= | grep -q ^Z; do :; done; ps -o comm= -p 1"
    );
    let outcome = as_root(["--init", "--mount-proc", "sh", "-c", &script]);
    assert_eq!(outcome.good(), "isolate");
}

#[test]
fn init_passes_signals_on_while_it_reaps() {
    // The command leaves its children to PID 1 without a pause, and counts what it is sent.
    let outcome = sh("dir=$(mktemp -d); mkfifo $dir/up $dir/told; exec 5<>$dir/told
        $ISOLATE $U --init --mount-proc -- sh -c \"
            trap 'echo told >&5' USR1; echo >$dir/up; while [ ! -e $dir/end ]; do (: &); (: &); (: &); done
            while ps -eo stat= | grep -q ^Z; do :; done; exit 3\" & pid=$!
        read x <$dir/up
        for n in $(seq 100); do kill -USR1 $pid; read x <&5; done; echo $n
        touch $dir/end; wait $pid; echo $?; rm -r $dir");
    assert_eq!(outcome.stdout, "100\n3\n", "{outcome:?}");
}

#[test]
fn init_passes_signals_on_and_the_command_has_them_at_their_default() {
    let script = "dir=$(mktemp -d); mkfifo $dir/up
        for signal in TERM HUP USR1; do
            $ISOLATE $U --init -- sh -c \"echo >$dir/up; exec sleep 1000\" & pid=$!
            read x <$dir/up; kill -$signal $pid; wait $pid; echo $(($? - 128))
        done
        $ISOLATE $U --init -- sh -c \"trap 'exit 9' TERM; echo >$dir/up; while :; do sleep 0.01; done\" & pid=$!
        read x <$dir/up; kill -TERM $pid; wait $pid; echo $?
        rm -r $dir";
    assert_eq!(sh(script).stdout, "15\n1\n10\n9\n");
}

/// Runs a Python program as PID 1, sends isolate a SIGTERM as soon as it says that it is there, and says how it ended.
fn terminated(program: &str) -> String {
    let script = format!(
        "dir=$(mktemp -d); mkfifo $dir/up
        timeout 60 $ISOLATE $U --pid -- python3 -c '{program}' >$dir/up 2>$dir/err & pid=$!
        exec 5<$dir/up; read x <&5; kill -TERM $(cat /proc/$pid/task/$pid/children); cat <&5; wait $pid; echo $?
        cat $dir/err; rm -r $dir"
    );
    let outcome = sh(&script);
    // dash tells of a job that a signal ended, if it is not gone before the shell waits for it.
    assert!(["", "Terminated\n"].contains(&&*outcome.stderr), "{outcome:?}");
    outcome.stdout
}

/// As the C library does it around fork(2): the kernel drops what comes meanwhile when the moment is over.
#[test]
fn a_signal_that_pid_1_blocks_for_a_moment_ends_it_all_the_same() {
    if !have("python3") {
        skip!("needs python3");
    }
    let program = r#"
import signal, time
print("up", flush=True)
def spin(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end: pass
while True:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    spin(0.05)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    spin(0.005)
"#;
    for _ in 0..5 {
        assert_eq!(terminated(program), "143\n");
    }
}

/// As reapers do it that are written for PID 1. While it is in sigwait(3) the signal does not show as blocked.
#[test]
fn a_signal_that_pid_1_waits_for_reaches_it() {
    if !have("python3") {
        skip!("needs python3");
    }
    let begin = "import select, signal, sys\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n";
    let waits = format!(
        "{begin}print(\"up\", flush=True)\nprint(int(signal.sigwait([signal.SIGTERM])), flush=True)\nsys.exit(3)"
    );
    assert_eq!(terminated(&waits), "15\n3\n");
    // Elsewhere than in it, with the signal blocked: it is there when it is asked for.
    let asks = format!(
        "{begin}print(\"up\", flush=True)\nwhile not signal.sigpending(): select.select([], [], [], 0.01)\nprint(int(signal.sigwait([signal.SIGTERM])), flush=True)\nsys.exit(3)"
    );
    assert_eq!(terminated(&asks), "15\n3\n");
}

#[test]
fn status_is_told_as_json_lines() {
    let outcome = sh("$ISOLATE $U --pid --status-fd 3 -- sh -c 'exit 3' 3>&1");
    let lines: Vec<serde_json::Value> =
        outcome.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 2, "{outcome:?}");
    assert_eq!(lines[0]["event"], "started");
    assert!(lines[0]["pid"].as_i64().is_some_and(|pid| pid > 1));
    assert_eq!(lines[0]["namespaces"].as_object().map(|all| all.len()), Some(8));
    assert_eq!(lines[1], serde_json::json!({"event": "exited", "code": 3, "version": 1}));
    let outcome = sh("$ISOLATE $U --fork --status-fd 3 -- sh -c 'kill -9 $$' 3>&1 2>/dev/null");
    assert!(outcome.stdout.contains("\"signal\":\"SIGKILL\""), "{outcome:?}");
    // The command has no part in it.
    assert_eq!(sh("$ISOLATE $U --fork --status-fd 3 -- sh -c 'echo x >&3' 3>/dev/null 2>/dev/null").status, 2);
    isolate(["--status-fd", "99", "true"]).refused("it is not open");
}

#[test]
fn a_signal_to_the_own_group_stays_inside() {
    // The script and isolate are in one group outside; a PID 1 that signals its group is not.
    let outcome = sh("$ISOLATE $U --pid -- sh -c 'kill -TERM 0; kill -KILL 0; exit 6'; echo $?");
    assert_eq!(outcome.stdout, "6\n", "{outcome:?}");
}

#[test]
fn a_real_time_signal_is_a_signal_like_any_other() {
    for number in [34, 35, 50, 64] {
        for options in ["--fork", "--init"] {
            let outcome = sh(&format!("$ISOLATE $U {options} -- sh -c 'kill -{number} $$'; echo $?"));
            assert_eq!(outcome.stdout, format!("{}\n", 128 + number), "{options}: {outcome:?}");
        }
        for options in ["--fork", "--pid", "--init"] {
            let outcome = sh(&format!(
                "dir=$(mktemp -d); mkfifo $dir/up
                $ISOLATE $U {options} -- sh -c \"echo >$dir/up; exec sleep 1000\" & read x <$dir/up
                kill -{number} $!; wait $!; echo $?; rm -r $dir"
            ));
            assert_eq!(outcome.stdout, format!("{}\n", 128 + number), "{options}: {outcome:?}");
        }
    }
    // An orphan's end is nothing to its reaper.
    let outcome = sh("$ISOLATE $U --init -- sh -c '(sh -c \"kill -34 \\$\\$\" &); sleep 0.2; echo alive'");
    assert_eq!(outcome.good(), "alive");
    assert_eq!(sh("$ISOLATE $U --pid --kill-child=RTMIN+1 -- true").good(), "");
}

/// What is mounted on /proc there is the outer namespace's.
#[test]
fn a_signal_reaches_a_command_in_nested_pid_namespaces() {
    for signal in ["TERM", "INT", "HUP", "USR1", "QUIT"] {
        let outcome = sh(&format!(
            "dir=$(mktemp -d); mkfifo $dir/up
            env --default-signal=INT,QUIT $ISOLATE $U --pid -- $ISOLATE --pid -- sh -c \"echo >$dir/up; exec sleep 1000\" &
            read x <$dir/up; kill -{signal} $!; wait $!; echo $(kill -l $?); rm -r $dir"
        ));
        assert_eq!(outcome.stdout, format!("{signal}\n"), "{outcome:?}");
    }
}

#[test]
fn many_options_and_a_small_stack_are_enough() {
    let many = "--rlimit nofile=1000 ".repeat(400);
    assert_eq!(sh(&format!("$ISOLATE $U --pid {many} -- true")).good(), "");
    assert_eq!(sh("ulimit -s 64; $ISOLATE $U --pid -- true").good(), "");
    let outcome = sh("ulimit -s 32; $ISOLATE $U --pid -- true");
    assert_eq!(outcome.status, 125, "{outcome:?}");
    assert!(outcome.stderr.starts_with("isolate: the stack may have 32 KiB\n"), "{outcome:?}");
}

#[test]
fn a_limit_that_is_too_low_is_named_or_enough() {
    // The kernel ends a program whose data does not fit before its first instruction: ours need little of it.
    assert_eq!(sh("ulimit -d 1000; $ISOLATE $U --pid -- true").good(), "");
    let lines = |limit: &str, options: &str| {
        let outcome = sh(&format!("{limit}; exec $ISOLATE $U {options} -- true"));
        match outcome.status {
            0 => outcome.good(),
            _ => {
                let lines: Vec<&str> = outcome.stderr.lines().collect();
                assert_eq!((outcome.status, lines.len()), (125, 2), "{limit} {options}: {outcome:?}");
                assert!(lines[0].starts_with("isolate: ") && lines[1].starts_with("isolate: hint: "), "{outcome:?}");
                outcome.stderr
            }
        }
    };
    for options in ["--fork", "--pid", "--init", "--all"] {
        for number in 3..16 {
            lines(&format!("ulimit -n {number}"), options);
        }
        assert!(lines("ulimit -n 3", options).contains("Too many open files"), "{options}");
    }
    // The program's own loader finds no descriptor, or it is one that needs none.
    let outcome = as_root(["--pid", "--rlimit", "nofile=3", "--", "true"]);
    assert!([0, 127].contains(&outcome.status) && !outcome.stderr.contains("isolate"), "{outcome:?}");
}

/// The limit counts all of a user's processes: a number of its own is nobody else's.
#[test]
fn a_user_who_may_have_no_further_process_is_told_so() {
    needs_root!();
    let run = |options: &str, limit: u32| {
        sh(&format!(
            "exec prlimit --nproc={limit} setpriv --reuid=3111222 --regid=3111222 --clear-groups $ISOLATE --map-root {options} -- true"
        ))
    };
    for options in ["--fork", "--pid", "--init"] {
        run(options, 1).refused("fork: too many processes");
        run(options, 2).refused("fork: too many processes");
        assert_eq!(run(options, 5).good(), "", "{options}");
    }
}

/// The reader is gone before isolate writes to it: that is no signal for the command.
#[test]
fn a_reader_of_the_status_that_is_gone_is_no_harm() {
    for options in ["--fork", "--pid", "--init"] {
        let outcome = sh(&format!(
            "{{ $ISOLATE $U {options} --status-fd 3 -- sh -c 'sleep 0.05; exit 6' 3>&1 >/dev/null; echo $? >&2; }} | true"
        ));
        assert_eq!(outcome.stderr, "6\n", "{options}: {outcome:?}");
    }
}

/// Reports that a reaper passes some signals on and not others, or ends of one that the command handles:
/// https://github.com/krallin/tini/issues/104, https://github.com/docker/cli/issues/3909
#[test]
fn init_passes_every_signal_on_to_a_command_that_handles_it() {
    let script = r#"dir=$(mktemp -d); mkfifo $dir/up $dir/told; exec 5<>$dir/told
        env --default-signal=INT,QUIT $ISOLATE $U --init -- bash -c "
            for n in 1 2 3 6 10 12 15 28 34 40 64; do trap \"echo \$n >&5\" \$n; done
            echo >$dir/up; while :; do sleep 0.01; done" & pid=$!
        read x <$dir/up
        for n in 1 2 3 6 10 12 15 28 34 40 64; do kill -$n $pid; read said <&5; [ $said = $n ] || echo $n: $said; done
        kill -9 $pid; echo done; rm -r $dir"#;
    let outcome = sh(script);
    assert_eq!(outcome.stdout, "done\n", "{outcome:?}");
}
