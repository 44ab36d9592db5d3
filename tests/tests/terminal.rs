//! isolate between a shell and its job: what the terminal sends arrives once, stops stop all of the
//! job, and an end that is missing is no harm.

use chainroot_tests::{Terminal, Work, have, skip};

/// An interactive shell at a terminal.
fn shell(work: &Work) -> Terminal<'_> {
    let mut terminal = work.terminal("bash", &["--norc", "--noprofile", "-i"]);
    terminal.prompt();
    terminal
}

const OPTIONS: [&str; 7] = ["--uts", "--fork", "--pid", "--init", "--pty", "--pty --pid", "--pty --init"];

/// What /proc says of the process with this one word as its command line.
fn state_of(work: &Work, word: &str) -> Option<char> {
    let own = work.processes();
    let (pid, _) = own.iter().filter_map(|line| line.split_once(' ')).find(|(_, words)| words.trim_end() == word)?;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Leaves the shell.
#[track_caller]
fn leave(mut terminal: Terminal) {
    terminal.send("exit\n");
    let (rest, status) = terminal.end();
    assert_eq!(status, 0, "{rest}");
}

#[test]
fn ctrl_c_arrives_once() {
    if !have("python3") {
        skip!("no python3");
    }
    let work = Work::new();
    let mut terminal = shell(&work);
    let script = "
import os, signal, time
count = 0
def interrupt(*_):
    global count
    count += 1
    print('interrupt', count, flush=True)
def quit(*_):
    print('total', count, flush=True)
    os._exit(3)
signal.signal(signal.SIGINT, interrupt)
signal.signal(signal.SIGQUIT, quit)
print('begun', flush=True)
while True: time.sleep(0.05)";
    std::fs::write(work.join("script"), script).expect("write");
    for option in OPTIONS {
        terminal.send(&format!("isolate {} {option} -- python3 script\n", work.user()));
        terminal.expect("begun\r\n");
        for number in 1..=5 {
            terminal.send("\x03");
            terminal.expect(&format!("interrupt {number}\r\n"));
        }
        terminal.send("\x1c");
        terminal.expect("total 5\r\n");
        terminal.prompt();
        let said = terminal.run("echo status $?");
        assert!(said.contains("status 3"), "{option}: {said}");
    }
    leave(terminal);
}

#[test]
fn ctrl_z_stops_a_command_with_a_child_of_its_own_and_fg_continues_both() {
    let work = Work::new();
    let mut terminal = shell(&work);
    for option in OPTIONS {
        terminal.send(&format!("isolate {} {option} -- sh -c 'echo be''gun; cat; echo af''ter'\n", work.user()));
        terminal.expect("begun\r\n");
        // A shell that has just forked for cat waits for it to be executed, and stops only then.
        work.wait_until(&format!("{option}: cat to be there"), || state_of(&work, "cat").is_some());
        for _ in 0..2 {
            terminal.send("\x1a");
            let said = terminal.prompt();
            assert!(said.contains("Stopped"), "{option}: {said}");
            // Until it has stopped as well, it reads what is typed.
            work.wait_until(&format!("{option}: cat to stop"), || state_of(&work, "cat") == Some('T'));
            terminal.send("fg\n");
            terminal.expect("ter'\r\n");
            // Until it goes on, two terminals may echo what is typed, and a stop that comes before its SIGCONT is discarded
            // by that (signal(7)).
            work.wait_until(&format!("{option}: cat to go on"), || state_of(&work, "cat").is_some_and(|s| s != 'T'));
            terminal.send("typed\n");
            terminal.expect("typed\r\ntyped\r\n");
        }
        terminal.send("\x04");
        terminal.expect("after\r\n");
        terminal.prompt();
        assert!(terminal.run("echo status $?").contains("status 0"), "{option}");
    }
    leave(terminal);
}

#[test]
fn an_interactive_shell_inside_stops_and_continues_its_own_jobs() {
    let work = Work::new();
    let mut terminal = shell(&work);
    for option in ["--fork", "--pid", "--init"] {
        terminal.run(&format!("isolate {} {option} -- bash --norc --noprofile -i", work.user()));
        for _ in 0..2 {
            terminal.send("sleep 1000\n");
            terminal.wait_for_foreground("sleep");
            terminal.send("\x1a");
            assert!(terminal.prompt().contains("Stopped"), "{option}");
            terminal.run("bg");
            assert!(terminal.run("jobs").contains("Running"), "{option}");
            terminal.send("fg\n");
            terminal.wait_for_foreground("sleep");
            terminal.send("\x03");
            terminal.prompt();
        }
        // The shell inside is the command: what it suspends itself with is for the one outside.
        terminal.run("exit 5");
        assert!(terminal.run("echo status $?").contains("status 5"), "{option}");
    }
    leave(terminal);
}

#[test]
fn a_job_that_nobody_could_continue_is_not_stopped() {
    let work = Work::new();
    // An orphaned process group: the kernel stops nothing there (setpgid(2)), and we do not either.
    for option in ["--fork", "--pid", "--init"] {
        let outcome = work.sh(&format!(
            "mkfifo up told
            setsid sh -c 'isolate {} {option} -- sh -c \"trap \\\"echo alive >told\\\" USR1; echo >up; while :; do sleep 0.01; done\" & echo $! >pid'
            read x <up; pid=$(cat pid)
            for n in 1 2 3; do kill -TSTP $pid; kill -USR1 $pid; cat told; done
            kill -KILL $pid; rm up told",
            work.user()
        ));
        outcome.expect(0, "alive\nalive\nalive\n");
        work.wait_until("the command to end", || work.processes().is_empty());
    }
}

#[test]
fn a_pipeline_without_its_reader_ends() {
    if !have("yes") {
        skip!("no yes");
    }
    let work = Work::new();
    for option in ["--uts", "--fork", "--pid", "--init", "--new-session"] {
        // The command writes into a pipe that nobody reads any more, and that isolate does not hold.
        let outcome = work.sh(&format!(
            "{{ isolate {0} {option} -- yes; echo $? >status; }} | head -n 1; cat status
            {{ isolate {0} {option} -- sh -c 'yes; exit $?'; echo $? >status; }} | head -n 1; cat status",
            work.user()
        ));
        // As PID 1 it does not die of a signal: it sees that the write failed.
        let alone = if option == "--pid" { "1" } else { "141" };
        let seen: Vec<&str> = outcome.stdout.lines().collect();
        assert_eq!((seen[0], seen[2], seen[3]), ("y", "y", "141"), "{option}: {outcome:?}");
        assert!(seen[1] == alone || seen[1] == "141", "{option}: {outcome:?}");
    }
    assert!(work.processes().is_empty());
}
