//! A person types the canonical line at a terminal, in each of the usual shells.

use chainroot_tests::{Terminal, Work, busybox_image, have, skip};

/// An interactive shell at a terminal that has said it is ready.
fn shell<'a>(work: &'a Work, words: &str) -> Terminal<'a> {
    std::os::unix::fs::symlink(busybox_image(), work.join("img.tar")).expect("symlink");
    let mut words = words.split(' ');
    let mut terminal = work.terminal(words.next().expect("a shell"), &words.collect::<Vec<_>>());
    terminal.prompt();
    terminal
}

fn line(work: &Work) -> String {
    format!("unpack --quiet img.tar | isolate {} --pid --uts -- pivot ./root -- sh", work.user())
}

/// Where the shell at the prompt runs, and as which process.
#[track_caller]
fn inside(terminal: &mut Terminal) {
    let said = terminal.run("echo pid $$ of $(cat /etc/image)");
    assert!(said.contains("pid 1 of busybox"), "{said}");
}

#[track_caller]
fn outside(terminal: &mut Terminal) {
    let said = terminal.run("test ! -e /etc/image && echo out $((40 + 2))");
    assert!(said.contains("out 42"), "{said}");
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
        // ksh93 scrolls a long line sideways, with its prompt: the banner comes from inside.
        terminal.expect("built-in commands.\r\n");
        let said = terminal.prompt();
        assert!(!said.contains("job control"), "{said}");
        inside(&mut terminal);
        // Ctrl-C ends what runs in the foreground, not the shell.
        terminal.send("sleep 1000\n");
        terminal.wait_for_foreground("sleep");
        terminal.send("\x03");
        terminal.prompt();
        inside(&mut terminal);
        // Ctrl-Z stops it, and fg goes on with it.
        terminal.send("sleep 1000\n");
        terminal.wait_for_foreground("sleep");
        terminal.send("\x1a");
        terminal.prompt();
        let said = terminal.run("jobs");
        assert!(said.contains("Stopped"), "{said}");
        terminal.send("fg\n");
        terminal.wait_for_foreground("sleep");
        terminal.send("\x03");
        terminal.prompt();
        terminal.run("exit 3");
        let said = terminal.run("echo status $?");
        assert!(said.contains("status 3"), "{said}");
        outside(&mut terminal);
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
    terminal.run(&format!("{} &", line(&work)));
    // bash tells of the stop before one of its next prompts.
    work.wait_until("the job to stop", || terminal.run("jobs").contains("Stopped"));
    outside(&mut terminal);
    terminal.run("fg");
    inside(&mut terminal);
    terminal.run("exit");
    outside(&mut terminal);
    terminal.send("exit\n");
    terminal.end();
}

#[test]
fn ctrl_z_on_the_whole_chain_stops_it_and_fg_continues_it() {
    let work = Work::new();
    let mut terminal = shell(&work, "bash --norc --noprofile -i");
    terminal.send(&format!("{} -c 'echo be''gun; cat'\n", line(&work)));
    terminal.expect("begun\r\n");
    for _ in 0..2 {
        terminal.send("\x1a");
        assert!(terminal.prompt().contains("Stopped"));
        outside(&mut terminal);
        terminal.send("fg\n");
        terminal.expect("cat'\r\n");
        terminal.send("to cat\n");
        terminal.expect("to cat\r\nto cat\r\n");
    }
    terminal.send("\x03");
    terminal.prompt();
    let said = terminal.run("echo status $?");
    assert!(said.contains("status 130"), "{said}");
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
        eprintln!("in {shell}");
        let script = format!("export PS1='ready> '; {}; echo 'status '$?; read x; echo \"got <$x>\"", line(&work));
        let mut terminal = work.terminal(shell, &["-c", &script]);
        terminal.prompt();
        inside(&mut terminal);
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
    // An interactive shell ignores SIGTERM, in a container too.
    for signal in ["HUP", "KILL"] {
        let work = Work::new();
        let mut terminal = shell(&work, "bash --norc --noprofile -i");
        terminal.run(&line(&work));
        inside(&mut terminal);
        let own = work.processes();
        let isolate = own.iter().find(|line| line.contains(" isolate ")).expect("an isolate that waits");
        let pid = isolate.split(' ').next().expect("pid");
        work.sh(&format!("kill -{signal} {pid}")).expect(0, "");
        terminal.prompt();
        outside(&mut terminal);
        terminal.send("exit\n");
        terminal.end();
    }
}
