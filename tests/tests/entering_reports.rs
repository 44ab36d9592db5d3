//! What others reported of entering a container, with a terminal or by a pipe, done here with scripts/enter.

use chainroot_tests::{Terminal, Work, busybox_image, script};

/// A chain that waits, and its isolate's number in the file "pid".
fn running(work: &Work) {
    let started = work.sh(&format!(
        "mkfifo up; unpack --quiet '{}' >/dev/null
        isolate {} --pid --init --uts --net -- pivot --ephemeral --dev ./root -- mountclean --mask -- \
            sh -c 'echo; exec sleep 1000' >up 2>/dev/null </dev/null & read -r line <up; echo $! >pid",
        busybox_image().display(),
        work.user()
    ));
    assert_eq!(started.status, 0, "{started:?}");
}

/// The same, and an interactive shell at a terminal outside of it.
fn beside_a_sandbox(work: &Work) -> Terminal<'_> {
    running(work);
    let mut terminal = work.terminal("dash", &["-i"]);
    terminal.prompt();
    terminal
}

fn enter(command: &str) -> String {
    format!("{} $(cat pid) {command}", script("enter"))
}

fn end(work: &Work, terminal: Option<Terminal>) {
    if let Some(mut terminal) = terminal {
        terminal.send("exit 0\n");
        let (rest, status) = terminal.end();
        assert_eq!(status, 0, "{rest}");
    }
    work.sh("kill $(cat pid)");
}

fn settings(work: &Work, terminal: &Terminal) -> String {
    work.sh(&format!("stty -F {0} -a; stty -F {0} size", terminal.name())).stdout
}

/// https://github.com/systemd/systemd/issues/5042: in a pipeline a terminal was made all the same, and the end of the input ended
/// the command; what it wrote to stderr was not seen.
/// https://github.com/systemd/systemd/issues/3837: of a slow input lines were lost, and of a fast one all.
#[test]
fn a_pipe_is_passed_on_as_a_pipe() {
    let work = Work::new();
    running(&work);
    work.sh(&format!("echo 'pwd; echo wrong >&2' | {}", enter("sh"))).expect(0, "/\n");
    assert_eq!(work.sh(&format!("echo 'echo wrong >&2' | {}", enter("sh"))).stderr, "wrong\n");
    for input in ["seq 10", "for i in 1 2 3 4 5 6 7 8 9 10; do echo $i; sleep 0.01; done"] {
        let tee = enter("sh -c 'tee /tmp/abc | cat; cat /tmp/abc; test -t 1 || echo no terminal'");
        let lines = "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n";
        work.sh(&format!("{{ {input}; }} | {tee}")).expect(0, &format!("{lines}{lines}no terminal\n"));
    }
    end(&work, None);
}

/// https://github.com/systemd/systemd/issues/7531: of a command that ended at once the output was not always shown.
/// https://github.com/opencontainers/runc/issues/1302: nor with a console that the caller had yet to fetch.
/// https://github.com/moby/moby/issues/33794, https://github.com/docker/cli/issues/1492: the size was 0 0, or came too late.
#[test]
fn a_command_that_ends_at_once_has_its_size_and_its_output() {
    let work = Work::new();
    let mut terminal = beside_a_sandbox(&work);
    terminal.run(&format!("stty -F {} rows 69 cols 208", terminal.name()));
    for _ in 0..20 {
        let said = terminal.run(&enter("stty size"));
        assert!(said.contains("69 208\r\n"), "{said}");
    }
    end(&work, Some(terminal));
}

/// https://github.com/systemd/systemd/issues/3915: where there was no such command, the terminal stayed open for ever.
/// https://github.com/kata-containers/agent/issues/370, https://github.com/canonical/lxd/pull/12229: a child in the background that
/// kept the terminal open was waited for.
/// https://github.com/systemd/systemd/issues/27480: the caller's settings were others afterwards.
#[test]
fn the_terminal_comes_back_whatever_is_left_of_the_command() {
    let work = Work::new();
    let mut terminal = beside_a_sandbox(&work);
    let before = settings(&work, &terminal);
    for (command, status) in
        [("no-such-command", 127), ("/etc", 126), ("sh -c 'trap \"\" HUP; sleep 1000 & exit 4'", 4)]
    {
        terminal.run(&enter(command));
        let said = terminal.run("echo =$?=");
        assert!(said.contains(&format!("={status}=")), "{command}: {said}");
        assert_eq!(settings(&work, &terminal), before, "{command}");
    }
    end(&work, Some(terminal));
}

/// https://github.com/systemd/systemd/pull/13572, https://github.com/systemd/systemd/pull/17070: a shell had no job control, and
/// Ctrl-C ended all of it.
#[test]
fn a_shell_that_enters_has_job_control_and_survives_ctrl_c() {
    let work = Work::new();
    let mut terminal = beside_a_sandbox(&work);
    terminal.send(&format!("{}\n", enter("env 'PS1=inside> ' sh -i")));
    let said = terminal.expect("inside> ");
    assert!(!said.contains("job control"), "{said}");
    terminal.send("sh -c 'echo be''gun; exec sleep 1000'\n");
    terminal.expect("begun\r\n");
    terminal.send("\x03");
    terminal.expect("inside> ");
    terminal.send("exit 3\n");
    terminal.prompt();
    assert!(terminal.run("echo =$?=").contains("=3="));
    end(&work, Some(terminal));
}

/// https://github.com/util-linux/util-linux/issues/4499: SIGALRM, which the relay had forgotten, left the terminal without echo.
#[test]
fn no_signal_leaves_the_terminal_without_echo() {
    let work = Work::new();
    let mut terminal = work.terminal("dash", &["-i"]);
    terminal.prompt();
    let before = settings(&work, &terminal);
    for signal in ["ALRM", "VTALRM", "PROF", "USR1", "USR2", "IO", "PWR", "XCPU", "QUIT", "ABRT", "SEGV", "TRAP", "SYS"]
    {
        terminal
            .send(&format!("isolate {} --pty -- sh -c 'echo be''gun; exec sleep 1000'; echo en''ded\n", work.user()));
        terminal.expect("begun\r\n");
        work.wait_until("the relay to begin", || settings(&work, &terminal).contains("-icanon"));
        let outer = format!("pgrep -x -P {} isolate", terminal.pid());
        let sent = work.sh(&format!("kill -{signal} $({outer})"));
        assert_eq!(sent.status, 0, "{signal}: {sent:?}");
        terminal.expect("ended");
        terminal.prompt();
        work.wait_until("the terminal to be as it was", || settings(&work, &terminal) == before);
        work.wait_until("the command to end", || work.processes().len() == 1);
    }
    terminal.send("exit 0\n");
    assert_eq!(terminal.end().1, 0);
}

/// https://github.com/netblue30/firejail/issues/2296: who joined had no filter.
/// https://github.com/netblue30/firejail/issues/907: and the PATH of the host's.
/// https://github.com/flatpak/flatpak/issues/4280: a whole environment came along.
#[test]
fn who_enters_has_the_filter_and_not_the_hosts_path() {
    let work = Work::new();
    running(&work);
    let look = enter("sh -c 'grep -e ^Seccomp: -e NoNewPrivs /proc/self/status; echo $PATH; echo ${ELSE-none}'");
    work.sh(&format!("PATH=$PATH:/only/here; export PATH ELSE=1; {look}"))
        .expect(0, "NoNewPrivs:\t1\nSeccomp:\t2\n/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nnone\n");
    end(&work, None);
}
