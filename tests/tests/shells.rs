//! A person types the canonical line at a terminal, in each of the usual shells.

use chainroot_tests::{Terminal, Work, busybox_image, have, skip};

/// An interactive shell at a terminal that has said it is ready.
fn shell<'a>(work: &'a Work, words: &str) -> Terminal<'a> {
    std::os::unix::fs::symlink(busybox_image(), work.join("img.tar")).expect("symlink");
    let mut words = words.split(' ');
    let mut terminal = work.terminal(words.next().expect("a shell"), &words.collect::<Vec<_>>());
    terminal.sync();
    terminal
}

fn line(work: &Work) -> String {
    format!("unpack --quiet img.tar | isolate {} --pid --uts -- pivot ./root -- sh", work.user())
}

fn in_shell(words: &str) {
    if !have(words.split(' ').next().expect("a shell")) {
        skip!("no {words}");
    }
    let work = Work::new();
    let mut terminal = shell(&work, words);
    // Typed three times, and the shell that it was typed to goes on.
    for _ in 0..3 {
        terminal.send(&format!("{}\n", line(&work)));
        let said = terminal.run("echo pid $$ of $(cat /etc/image)");
        assert!(said.contains("pid 1 of busybox"), "{said}");
        assert!(!said.contains("job control"), "{said}");
        // Ctrl-C ends what runs in the foreground, not the shell.
        terminal.send("sleep 1000\n");
        terminal.wait_for_foreground("sleep");
        terminal.send("\x03");
        assert!(terminal.run("echo pid $$").contains("pid 1\r\n"));
        // Ctrl-Z stops it, and fg goes on with it.
        terminal.send("sleep 1000\n");
        terminal.wait_for_foreground("sleep");
        terminal.send("\x1a");
        assert!(terminal.run("jobs").contains("Stopped"));
        terminal.send("fg\n");
        terminal.wait_for_foreground("sleep");
        terminal.send("\x03");
        terminal.sync();
        terminal.send("exit 3\n");
        let said = terminal.run("echo status $?");
        assert!(said.contains("status 3\r\n"), "{said}");
    }
    terminal.send("exit\n");
    let (rest, status) = terminal.end();
    assert_eq!(status, 0, "{rest}");
}

#[test]
fn bash() {
    in_shell("bash --norc --noprofile -i");
}

#[test]
fn dash() {
    in_shell("dash -i");
}

#[test]
fn zsh() {
    in_shell("zsh -f -i");
}

#[test]
fn busybox_sh() {
    in_shell("busybox sh -i");
}

#[test]
fn ksh93() {
    in_shell("ksh93 -i");
}

#[test]
fn with_an_ampersand_it_waits_for_the_terminal_as_any_reader_does() {
    let work = Work::new();
    let mut terminal = shell(&work, "bash --norc --noprofile -i");
    terminal.run("exec 3>&1");
    terminal.send(&format!("{} &\n", line(&work)));
    // bash tells of the stop before one of its next prompts.
    let mut said = String::new();
    work.wait_until("the job to stop", || {
        said.push_str(&terminal.run("jobs"));
        said.contains("Stopped")
    });
    assert!(terminal.run("echo still $((40 + 2))").contains("still 42\r\n"), "the shell has lost its terminal");
    terminal.send("fg\n");
    assert!(terminal.run("echo pid $$ of $(cat /etc/image)").contains("pid 1 of busybox"));
    terminal.send("exit\n");
    assert!(terminal.run("echo back $((40 + 2))").contains("back 42\r\n"));
    terminal.send("exit\n");
    terminal.end();
}

#[test]
fn ctrl_z_on_the_whole_chain_stops_it_and_fg_continues_it() {
    let work = Work::new();
    let mut terminal = shell(&work, "bash --norc --noprofile -i");
    terminal.send(&format!("{} -c 'echo be''gun; cat'\n", line(&work)));
    terminal.expect("begun\r\n");
    terminal.send("\x1a");
    terminal.expect("Stopped");
    assert!(terminal.run("echo still $((40 + 2))").contains("still 42\r\n"));
    terminal.send("fg\n");
    terminal.send("to cat\n");
    terminal.expect("to cat\r\nto cat\r\n");
    terminal.send("\x03");
    let said = terminal.run("echo status $?");
    assert!(said.contains("status 130\r\n"), "{said}");
    terminal.send("exit\n");
    terminal.end();
}

#[test]
fn after_it_a_read_in_the_same_script_still_reads() {
    let work = Work::new();
    std::os::unix::fs::symlink(busybox_image(), work.join("img.tar")).expect("symlink");
    for shell in ["sh", "bash", "ksh93", "zsh"] {
        if !have(shell) {
            eprintln!("skipped: no {shell}");
            continue;
        }
        let script = format!("{}; echo 'status '$?; read x; echo \"got <$x>\"", line(&work));
        let mut terminal = work.terminal(shell, &["-c", &script]);
        terminal.run("echo pid $$");
        terminal.send("exit 4\n");
        terminal.expect("status 4\r\n");
        terminal.send("for the script\n");
        terminal.expect("got <for the script>\r\n");
        assert_eq!(terminal.end().1, 0, "{shell}");
    }
}

#[test]
fn with_an_ampersand_in_a_script_the_input_stays_the_scripts() {
    let work = Work::new();
    std::os::unix::fs::symlink(busybox_image(), work.join("img.tar")).expect("symlink");
    for shell in ["sh", "bash"] {
        let script = format!(
            "{} -c 'cat; echo e''nd of input' & echo rea''dy; read x; echo \"got <$x>\"; wait $!; echo 'status '$?",
            line(&work)
        );
        let mut terminal = work.terminal(shell, &["-c", &script]);
        terminal.expect("ready\r\n");
        terminal.expect("end of input\r\n");
        terminal.send("for the script\n");
        terminal.expect("got <for the script>\r\n");
        terminal.expect("status 0\r\n");
        assert_eq!(terminal.end().1, 0, "{shell}");
    }
}

#[test]
fn killing_isolate_gives_the_terminal_back() {
    let work = Work::new();
    let mut terminal = shell(&work, "bash --norc --noprofile -i");
    terminal.send(&format!("{}\n", line(&work)));
    terminal.run("echo pid $$");
    // Of the isolates that run now, this test's own.
    let own = work.processes();
    let isolate = own.iter().find(|line| line.contains(" isolate ")).expect("an isolate that waits");
    let pid = isolate.split(' ').next().expect("pid");
    work.sh(&format!("kill -TERM {pid}"));
    assert!(terminal.run("echo back $((40 + 2))").contains("back 42\r\n"));
    terminal.send("exit\n");
    terminal.end();
}
