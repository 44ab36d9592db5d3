//! What is sent to isolate or typed has its effect: at every moment of the start, without a /proc, from an orphaned group.

use std::time::Duration;

use chainroot_tests::{Work, busybox_image};

/// So many starts of each kind: 2,000 under scripts/soak signals.
fn starts() -> u64 {
    if std::env::var_os("CHAINROOT_SIGNALS").is_some() { 2_000 } else { 20 }
}

#[test]
fn ctrl_c_in_the_first_microseconds_ends_a_command_in_isolates_own_group() {
    let work = Work::new();
    for option in ["--fork", "--uts", "--net --fork"] {
        for number in 0..starts() {
            let line = format!("exec isolate {} {option} -- sleep 1000", work.user());
            let mut terminal = work.terminal("sh", &["-c", &line]);
            std::thread::sleep(Duration::from_micros(number * 100 / starts()));
            terminal.send("\x03");
            let (said, status) = terminal.end();
            assert_eq!(status, 130, "{option}: {said}");
        }
    }
}

#[test]
fn a_signal_at_a_fixed_moment_of_the_start_ends_isolate_of_it() {
    let work = Work::new();
    for option in ["--fork", "--pid", "--init", "--pid --status-fd 2"] {
        let outcome = work.sh(&format!(
            "trap '' CHLD; for signal in TERM HUP USR1 PIPE 40; do n=0; while [ $n -lt {} ]; do n=$((n + 1))
                env --default-signal=INT,QUIT,PIPE isolate {} {option} -- sleep 1000 2>/dev/null & pid=$!
                i=0; while [ $i -lt $((n % 20)) ]; do i=$((i + 1)); kill -0 $pid; done
                kill -$signal $pid; wait $pid; status=$?
                [ $(kill -l $status) = $signal ] || [ $status = $((128 + 40)) ] || echo $signal: $status
            done; done; echo done",
            starts(),
            work.user()
        ));
        assert_eq!(outcome.stdout, "done\n", "{option}: {outcome:?}");
    }
}

/// As in a chroot that somebody has made by hand, and in an initramfs. (--init says that it needs /proc.)
#[test]
fn a_signal_reaches_pid_1_where_there_is_no_proc() {
    let work = Work::new();
    work.sh(&format!("unpack '{}' root", busybox_image().display()))
        .expect(0, &format!("{}/root\n", work.path().display()));
    // Not by this process: what another test forks meanwhile would keep it busy (execve(2), ETXTBSY).
    work.sh(&format!("cp '{}' root/isolate", work.tool("isolate").display())).expect(0, "");
    for signal in ["TERM", "INT", "HUP", "USR1", "QUIT"] {
        for option in ["--pid", "--pid --uts"] {
            // The shell of busybox ignores QUIT until it becomes the command.
            let outcome = work.sh(&format!(
                "mkfifo root/up
                env --default-signal=INT,QUIT isolate {} --mount --root root -- /isolate {option} -- sh -c 'echo >up; exec sleep 1000' & pid=$!
                read x <root/up
                until cat $(printf '/proc/%s/comm ' $(cat /proc/$pid/task/$pid/children)) 2>/dev/null | grep -qx sleep; do :; done
                kill -{signal} $pid; wait $pid; status=$?; kill -l $status; rm root/up",
                work.user()
            ));
            assert_eq!(outcome.stdout, format!("{signal}\n"), "{option}: {outcome:?}");
        }
    }
}

#[test]
fn a_real_time_signal_is_one_where_namespaces_are_joined() {
    let work = Work::new();
    for number in [34, 50, 64] {
        let outcome = work.sh(&format!(
            "mkfifo up up2
            isolate {0} --pid --uts -- sh -c 'echo >up; exec sleep 1000' & pid=$!
            read x <up
            isolate --join $pid -- sh -c 'kill -{number} $$'; echo $?
            isolate --join $pid --fork -- sh -c 'echo >up2; exec sleep 1000' & joined=$!
            read x <up2; kill -{number} $joined; wait $joined; echo $?
            kill -{number} $pid; wait $pid; echo $?; rm up up2",
            work.user()
        ));
        let status = 128 + number;
        assert_eq!(outcome.stdout, format!("{status}\n{status}\n{status}\n"), "{outcome:?}");
    }
}

/// setpgid(2), orphaned process groups: a reader in the background gets EIO, as cat does by itself and under unshare --fork.
#[test]
fn an_orphaned_group_that_reads_the_terminal_gets_an_error_and_ends() {
    let work = Work::new();
    let mut terminal = work.terminal("bash", &["--norc", "--noprofile", "-i"]);
    terminal.prompt();
    let isolate = |option: &str| format!("isolate {} {option} --", work.user());
    for line in ["", "unshare --fork --", &isolate("--fork"), &isolate("--pid"), &isolate("--init")] {
        for output in [">out", ""] {
            terminal.run(&format!("( outer=$BASHPID; ( while kill -0 $outer; do :; done 2>/dev/null; {line} cat </dev/tty {output} 2>error; \
                echo $? >part; mv part status ) & )"));
            work.wait_until(&format!("{line} cat to end"), || work.join("status").exists());
            let read = |name: &str| std::fs::read_to_string(work.join(name)).expect("read");
            assert_eq!(read("status"), "1\n", "{line}: {}", read("error"));
            assert!(read("error").contains("Input/output error"), "{line}: {}", read("error"));
            std::fs::remove_file(work.join("status")).expect("remove");
        }
    }
    terminal.send("exit 0\n");
    assert_eq!(terminal.end().1, 0);
}
