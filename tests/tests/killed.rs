//! Signals and deaths: nothing outlives isolate, and isolate dies as its command died.

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Stdio};

use chainroot_tests::{Work, busybox_image, needs_root};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn with_root() -> Work {
    let work = Work::new();
    assert_eq!(work.sh(&format!("unpack --quiet '{}'", busybox_image().display())).status, 0);
    work
}

/// Starts a chain whose command says that it runs, and waits for that.
fn started(work: &Work, chain: &str) -> Child {
    let mut command = work.command("setsid");
    // As from a terminal: what runs the tests in the background may have them ignore signals.
    command
        .args(["env", "--default-signal=INT,QUIT,TERM,HUP", "sh", "-c", &format!("exec {chain}")])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut child = command.spawn().expect("spawn");
    let mut ready = [0; 6];
    std::io::Read::read_exact(child.stdout.as_mut().expect("stdout"), &mut ready).expect("the command starts");
    assert_eq!(&ready, b"ready\n");
    // What is sent to a shell that is just becoming another program is lost with the shell's handler.
    if chain.ends_with(SLEEP) {
        work.wait_until("the command to be there", || {
            work.processes().iter().any(|line| line.split_once(' ').is_some_and(|(_, words)| words == "sleep 1000 "))
        });
    }
    child
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id() as i32), signal).expect("kill");
}

const SLEEP: &str = "sh -c 'echo ready; exec sleep 1000'";

#[test]
fn kill_9_of_isolate_ends_the_container() {
    let work = with_root();
    let mut child =
        started(&work, &format!("isolate {} --pid --uts -- pivot ./root -- mountclean -- {SLEEP}", work.user()));
    signal(&child, Signal::SIGKILL);
    assert_eq!(child.wait().expect("wait").signal(), Some(9));
    work.wait_until("the container to end", || work.processes().is_empty());
}

#[test]
fn kill_9_of_isolate_ends_a_container_that_changed_its_user() {
    needs_root!();
    let work = with_root();
    let mut child = started(
        &work,
        &format!("isolate --pid -- pivot ./root -- mountclean -- isolate --setgid 1000 --setuid 1000 -- {SLEEP}"),
    );
    signal(&child, Signal::SIGKILL);
    assert_eq!(child.wait().expect("wait").signal(), Some(9));
    work.wait_until("the container to end", || work.processes().is_empty());
}

#[test]
fn a_fatal_signal_to_isolate_ends_the_container_and_isolate_of_that_signal() {
    let work = with_root();
    for init in ["", "--init"] {
        for fatal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT] {
            let mut child = started(
                &work,
                &format!("isolate {} --pid {init} -- pivot ./root -- mountclean -- {SLEEP}", work.user()),
            );
            signal(&child, fatal);
            assert_eq!(child.wait().expect("wait").signal(), Some(fatal as i32), "{fatal} {init}");
            work.wait_until("the container to end", || work.processes().is_empty());
        }
    }
}

#[test]
fn a_signal_that_the_command_handles_is_the_commands() {
    let work = with_root();
    let command = "sh -c 'trap \"echo caught; exit 3\" TERM; echo ready; while :; do sleep 0.01; done'";
    let child = started(&work, &format!("isolate {} --pid -- pivot ./root -- mountclean -- {command}", work.user()));
    signal(&child, Signal::SIGTERM);
    let output = child.wait_with_output().expect("wait");
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(3), &b"caught\n"[..]));
}

#[test]
fn a_stop_stops_both_and_cont_continues_both() {
    let work = with_root();
    // A job of a shell: the kernel stops nothing in a group that nobody is there to continue (setpgid(2)).
    let mut command = work.command("setsid");
    let job = format!(
        "set -m; isolate {} --pid -- pivot --no-handoff ./root -- mountclean -- sh -c 'echo ready; while :; do sleep 0.01; done' </dev/null & read x; wait $!",
        work.user()
    );
    command.args(["bash", "-c", &job]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut shell = command.spawn().expect("spawn");
    let mut ready = [0; 6];
    std::io::Read::read_exact(shell.stdout.as_mut().expect("stdout"), &mut ready).expect("the command starts");
    let stat = |pid: i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let (name, rest) = stat.split_once('(').and_then(|(_, rest)| rest.rsplit_once(") ")).unwrap_or_default();
        (name.to_owned(), rest.chars().next())
    };
    let child = |parent: i32, name: &str| -> i32 {
        let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).expect("children");
        let mut children = children.split_whitespace().map(|pid| pid.parse().expect("a number"));
        children.find(|&pid| stat(pid).0 == name).unwrap_or_else(|| panic!("no {name}"))
    };
    let isolate = child(shell.id() as i32, "isolate");
    let inside = child(isolate, "sh");
    let send = |signal| kill(Pid::from_raw(isolate), signal).expect("kill");
    for _ in 0..3 {
        send(Signal::SIGTSTP);
        work.wait_until("both to stop", || stat(isolate).1 == Some('T') && stat(inside).1 == Some('T'));
        send(Signal::SIGCONT);
        work.wait_until("both to go on", || stat(isolate).1 != Some('T') && stat(inside).1 != Some('T'));
    }
    send(Signal::SIGTERM);
    // The shell waits for its input and then for the job: Child::wait closes the one.
    assert_eq!(shell.wait().expect("wait").code(), Some(128 + 15));
}

#[test]
fn the_commands_status_and_signal_are_isolates_own() {
    let work = with_root();
    let run =
        |command: &str| work.sh(&format!("isolate {} --pid -- pivot ./root -- sh -c '{command}'", work.user())).status;
    for status in [0, 1, 7, 125, 126, 127, 255] {
        assert_eq!(run(&format!("exit {status}")), status);
    }
    // PID 1 does not die of a signal that it sends itself; a child of --init does, and so does one without --pid.
    let outcome = work.sh(&format!("isolate {} --pid --init -- sh -c 'kill -SEGV $$'", work.user()));
    assert_eq!(outcome.status, 128 + 11, "{}", outcome.stderr);
    let outcome = work.sh(&format!("isolate {} --uts -- sh -c 'kill -KILL $$'", work.user()));
    assert_eq!(outcome.status, 128 + 9, "{}", outcome.stderr);
}

#[test]
fn a_missing_command_is_127_and_one_that_is_no_program_126() {
    let work = with_root();
    let run =
        |command: &str| work.sh(&format!("isolate {} --pid -- pivot ./root -- mountclean -- {command}", work.user()));
    let missing = run("no-such-command");
    missing.expect(127, "");
    assert!(missing.stderr.contains("no-such-command: command not found"), "{}", missing.stderr);
    run("/etc/passwd").expect(126, "");
    run("/etc").expect(126, "");
    let work2 = Work::new();
    work2.sh(&format!("isolate {} no-such-command", work2.user())).expect(127, "");
    work2
        .sh("isolate --no-such-option")
        .expect_refusal(&["isolate: --no-such-option: unknown option", "isolate: hint: "]);
}
