//! scripts/box at a terminal: COMMAND has one of its own, and it behaves as the caller's.
//!
//! https://github.com/containers/bubblewrap/issues/573: with a session of its own there was neither job control nor a new size.

use chainroot_tests::{Person, Terminal, script};

fn at_a_terminal(person: &Person) -> Terminal<'_> {
    let words = format!("cd '{}' && exec {}dash -i", person.dir().display(), person.prefix());
    let mut terminal = person.work.terminal("sh", &["-c", &words]);
    terminal.prompt();
    terminal.run(&format!("box() {{ {} -e CHAINROOT_TEST -e PS1 \"$@\"; }}", script("box")));
    terminal
}

#[test]
fn the_terminal_is_another_one_and_has_job_control_and_the_new_size() {
    let person = Person::new();
    let mut terminal = at_a_terminal(&person);
    terminal.run("tty >outside");
    // Spelled so that its echo is no answer.
    terminal.send("box dash -i; echo le''ft\n");
    terminal.prompt();
    terminal.run("tty >inside; set -m");
    let inside = std::fs::read_to_string(person.dir().join("inside")).expect("its name");
    assert_eq!(inside, "/dev/console\n");
    // The caller's has no name in here.
    assert!(terminal.run("echo names: $(ls /dev/pts)").contains("names: ptmx\r\n"));
    terminal.send("sleep 4323\n");
    wait_for(&person, "sleep 4323");
    terminal.send("\x1a");
    terminal.prompt();
    assert!(terminal.run("jobs").contains("Stopped"), "no job is stopped");
    terminal.send("fg\n");
    // The shell names the job before it hands over the terminal, and continues it last.
    wait_for(&person, "sleep 4323");
    terminal.send("\x03");
    terminal.prompt();
    // A new size of the caller's is one of COMMAND's.
    terminal.run("trap 'stty size; echo changed' WINCH");
    let resized = person.work.sh(&format!("stty -F {} rows 33 cols 99", terminal.name()));
    assert_eq!(resized.status, 0, "{resized:?}");
    terminal.send("\n");
    assert!(terminal.expect("changed").contains("33 99"));
    terminal.prompt();
    // Not by a prompt: the trap may have brought another one, and what is typed while the box ends is the box's.
    terminal.send("exit 0\n");
    terminal.expect("left\r\n");
    terminal.prompt();
    terminal.leave();
}

#[test]
fn keys_reach_the_command_and_stop_and_end_it() {
    let person = Person::new();
    let mut terminal = at_a_terminal(&person);
    terminal.send("box sh -c 'echo up; read line; echo got $line; sleep 4324'\n");
    terminal.expect("up\r\n");
    terminal.send("typed\n");
    terminal.expect("got typed\r\n");
    wait_for(&person, "sleep 4324");
    terminal.send("\x1a");
    terminal.prompt();
    assert!(terminal.run("jobs").contains("Stopped"));
    terminal.send("fg\n");
    wait_for(&person, "sleep 4324");
    terminal.send("\x03");
    terminal.prompt();
    assert!(terminal.run("echo status $?").contains("status 130"));
    terminal.leave();
}

/// Waits until the sleep(1) of these words runs, and is not stopped.
fn wait_for(person: &Person, words: &str) {
    person.work.wait_until("sleep to run", || {
        let processes = person.work.processes();
        // A shell that waits for its vfork(2) cannot stop.
        let sleep = processes
            .iter()
            .filter_map(|line| line.strip_suffix(&format!(" {words} ")))
            .find(|pid| pid.parse::<u32>().is_ok());
        sleep.is_some_and(|pid| {
            std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") S "))
        })
    });
}

#[test]
fn without_a_terminal_there_is_none_inside() {
    let person = Person::new();
    person
        .sh("echo data | box sh -c 'tty; cat; (: </dev/tty) 2>/dev/null || echo none'")
        .expect(0, "not a tty\ndata\nnone\n");
}
