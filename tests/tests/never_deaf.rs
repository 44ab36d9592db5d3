//! isolate hears its signals at every moment: while its child starts, hangs in exec, or waits to write a message.

use std::time::Duration;

use chainroot_tests::{Terminal, Work, have, skip};

const OPTIONS: [&str; 3] = ["--fork", "--pid", "--init"];

fn shell(work: &Work) -> Terminal<'_> {
    let mut terminal = work.terminal("bash", &["--norc", "--noprofile", "-i"]);
    terminal.prompt();
    terminal
}

/// scripts/soak signals.
fn is_long() -> bool {
    std::env::var_os("CHAINROOT_SIGNALS").is_some()
}

/// The shell has its prompt again, as after unshare --fork. A key that is struck before the job has the terminal is the
/// shell's, which ignores it: then a person strikes it again.
#[test]
fn ctrl_z_in_the_first_millisecond_stops_the_job() {
    let work = Work::new();
    let mut terminal = shell(&work);
    let isolate = |option: &str| format!("isolate {} {option}", work.user());
    for line in [isolate("--fork"), isolate("--pid"), isolate("--init"), "unshare --fork".to_owned()] {
        for number in (0..1000).step_by(if is_long() { 3 } else { 120 }) {
            terminal.send(&format!("{line} -- sleep 1000\n"));
            terminal.expect("sleep 1000\r\n");
            std::thread::sleep(Duration::from_micros(number));
            let mut said = None;
            for _ in 0..20 {
                terminal.send("\x1a");
                said = terminal.look_for("ready> ", Duration::from_secs(2));
                if said.is_some() {
                    break;
                }
            }
            let said = said.unwrap_or_else(|| panic!("{line}: after {number} us the shell has no prompt"));
            assert!(said.contains("Stopped"), "{line}: {said}");
            // The child of an unshare that is killed would live on, and the list of children may leave one out
            // (proc_tid_children(5)). Until the shell has reaped it the job counts as stopped, for which wait does not wait.
            terminal.run(
                "pid=$(jobs -p %%); kill -9 -- $(cat /proc/$pid/task/$pid/children) -$pid; \
                 while kill -0 -- -$pid 2>/dev/null; do :; done; wait",
            );
        }
    }
    terminal.leave();
}

/// Somebody else's lease on COMMAND's file (fcntl(2), F_SETLEASE) has execve(2) wait for 45 seconds.
#[test]
fn a_signal_is_acted_on_while_exec_hangs() {
    if !have("python3") {
        skip!("no python3");
    }
    let work = Work::new();
    let holder = "
import fcntl, os, signal, sys
tell = os.open(sys.argv[2], os.O_RDWR)
signal.signal(signal.SIGIO, lambda *_: os.write(tell, b'exec hangs\\n'))
file = os.open(sys.argv[1], os.O_RDWR)
try: fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
except OSError as error: os.write(tell, b'no lease\\n'); sys.exit()
os.write(tell, b'held\\n')
for line in sys.stdin: os.write(tell, b'still\\n' if fcntl.fcntl(file, fcntl.F_GETLEASE) == fcntl.F_RDLCK else b'over\\n')";
    std::fs::write(work.join("holder"), holder).expect("write");
    for option in OPTIONS {
        let outcome = work.sh(&format!(
            "cp /bin/true leased; mkfifo told ask; exec 5<>told 6<>ask
            python3 holder leased told <ask 2>/dev/null & holder=$!
            read said <&5; echo \"$said\"; [ \"$said\" = held ] || exit
            isolate {} {option} -- ./leased & isolate=$!
            read said <&5; echo \"$said\"
            kill -TERM $isolate; wait $isolate; echo $?
            echo >&6; read said <&5; echo \"$said\"
            kill -9 $holder; rm leased told ask",
            work.user()
        ));
        if outcome.stdout == "no lease\n" {
            skip!("no leases on this filesystem");
        }
        assert_eq!(outcome.stdout, "held\nexec hangs\n143\nstill\n", "{option}: {outcome:?}");
    }
}

/// Its message stops the job, as any background job that writes to a terminal is stopped; the shell goes on.
#[test]
fn a_background_command_that_fails_under_tostop_loses_no_shell() {
    let work = Work::new();
    let mut terminal = shell(&work);
    terminal.run("stty tostop");
    for option in OPTIONS {
        terminal.run(&format!("isolate {} {option} -- ./no-such-command & pid=$!", work.user()));
        work.wait_until("the job to stop", || {
            terminal.run("jobs > ../$(basename $PWD)/jobs");
            std::fs::read_to_string(work.join("jobs")).expect("jobs").contains("Stopped")
        });
        let said = terminal.run("fg; echo status $?");
        assert!(said.contains("no-such-command: command not found") || said.contains("status 127"), "{option}: {said}");
    }
    terminal.leave();
}

/// A pipe that is full, and somebody who does not read it.
const FULL: &str = "import os, sys
pipe = int(sys.argv[1])
os.set_blocking(pipe, False)
try:
    while True: os.write(pipe, b' ' * 4096)
except BlockingIOError: os.set_blocking(pipe, True)";

#[test]
fn a_message_that_finds_its_pipe_full_holds_nobody_up() {
    if !have("python3") {
        skip!("no python3");
    }
    let work = Work::new();
    std::fs::write(work.join("fill"), FULL).expect("write");
    for option in OPTIONS {
        // The child waits to say why COMMAND does not run: a signal ends it, a reader has its message.
        let outcome = work.sh(&format!(
            "mkfifo pipe; exec 5<>pipe; python3 fill 5
            isolate {0} {option} -- ./no-such-command 2>&5 & kill -TERM $!; wait $!; echo $?
            isolate {0} {option} -- ./no-such-command 2>&5 & head -c 65536 <&5 >/dev/null; wait $!; echo $?
            exec 6<&5; timeout 5 head -n 1 <&6; rm pipe",
            work.user()
        ));
        let lines: Vec<&str> = outcome.stdout.lines().collect();
        assert_eq!(lines[..2], ["143", "127"], "{option}: {outcome:?}");
        assert!(outcome.stdout.contains("no-such-command: "), "{option}: {outcome:?}");
        // isolate itself has a last line to write: a signal has it end as COMMAND did.
        let outcome = work.sh(&format!(
            "mkfifo pipe up; exec 5<>pipe
            isolate {} {option} --status-fd 5 -- sh -c 'python3 fill 6; echo >up; exit 3' 6>&5 & pid=$!
            read x <up
            while kill -0 $pid 2>/dev/null && [ -n \"$(cat /proc/$pid/task/$pid/children)\" ]; do :; done
            kill -TERM $pid; wait $pid; echo $?; rm pipe up",
            work.user()
        ));
        assert_eq!(outcome.stdout, "3\n", "{option}: {outcome:?}");
    }
}
