//! `isolate --pty` and `--new-session`: a session of COMMAND's own, with a terminal or without, and what a sandbox can then do to
//! the caller's: nothing.
//!
//! https://github.com/containers/bubblewrap/issues/142: a sandbox pushed keys into the caller's terminal.
//! https://github.com/containers/bubblewrap/issues/555: with a session of its own there is no job control, without it there is a hole.

use chainroot_tests::{Terminal, Work, busybox_image, script, skip};

/// A shell that leaves the terminal as its jobs left it.
fn shell(work: &Work) -> Terminal<'_> {
    let mut terminal = work.terminal("dash", &["-i"]);
    terminal.prompt();
    terminal
}

fn settings(work: &Work, terminal: &Terminal) -> String {
    let settings = work.sh(&format!("stty -F {0} -a; stty -F {0} size", terminal.name()));
    assert_eq!(settings.status, 0, "{settings:?}");
    settings.stdout
}

/// Waits until every key passes on to the session, and none is the caller's own any more.
fn wait_for_relay(work: &Work, terminal: &Terminal) {
    work.wait_until("the keys to pass on", || settings(work, terminal).contains("-icanon"));
}

const WAYS: [&str; 3] = ["--pty", "--pty --pid", "--pty --init"];

#[test]
fn the_terminal_inside_is_another_of_the_same_size_and_settings() {
    let work = Work::new();
    let mut terminal = shell(&work);
    terminal.run(&format!("stty -F {} rows 31 cols 97 erase ^H", terminal.name()));
    for way in WAYS {
        let said = terminal.run(&format!(
            "isolate {} {way} -- sh -c 'tty; stty size; stty -a; ls -l /proc/self/fd' 2>/dev/tty",
            work.user()
        ));
        assert!(said.contains("31 97\r\n") && said.contains("erase = ^H"), "{way}: {said}");
        assert!(!said.contains(&format!("{}\r", terminal.name())), "{way}: {said}");
        assert!(terminal.run(&format!("isolate {} {way} -- sh -c 'exit 7'; echo =$?=", work.user())).contains("=7="));
    }
    terminal.leave();
}

#[test]
fn a_new_size_arrives_inside() {
    let work = Work::new();
    let mut terminal = shell(&work);
    for (way, size) in WAYS.into_iter().zip(["41 101", "42 102", "43 103"]) {
        let script = "trap 'stty size' WINCH; echo be''gun; while :; do sleep 0.02; done";
        terminal.send(&format!("isolate {} {way} -- sh -c \"{script}\"\n", work.user()));
        terminal.expect("begun\r\n");
        let (rows, columns) = size.split_once(' ').expect("a size");
        let set = format!("stty -F {} rows {rows} cols {columns}", terminal.name());
        assert_eq!(work.sh(&set).status, 0);
        terminal.expect(&format!("{size}\r\n"));
        terminal.send("\x03");
        terminal.prompt();
    }
    terminal.leave();
}

/// https://github.com/podman-container-tools/podman/issues/3179: what the inner terminal had put out, the outer one put out again.
#[test]
fn flow_control_is_the_inner_terminals_and_binary_output_passes() {
    let work = Work::new();
    let mut terminal = shell(&work);
    for way in WAYS {
        terminal.send(&format!(
            "isolate {} {way} -- sh -c 'echo be''gun; read -r line; echo \"got $line\"'\n",
            work.user()
        ));
        terminal.expect("begun\r\n");
        wait_for_relay(&work, &terminal);
        // Stopped by Ctrl-S, the answer waits for Ctrl-Q.
        terminal.send("\x13");
        terminal.send("word\n");
        terminal.send("\x11");
        terminal.expect("got word\r\n");
        terminal.prompt();
        // All of it, in order, with what was written last before the end.
        let said = terminal.run(&format!("isolate {} {way} -- sh -c 'seq 1 20000'", work.user()));
        let expected: String = (1..=20000).map(|number| format!("{number}\r\n")).collect();
        assert!(said.ends_with(&expected), "{way}: {} of {}", said.len(), expected.len());
    }
    terminal.leave();
}

/// https://github.com/docker/cli/pull/6058: a client that left in a hurry left the terminal without echo.
#[test]
fn the_callers_terminal_is_restored_whatever_dies() {
    let work = Work::new();
    let mut terminal = shell(&work);
    terminal.run("set +m");
    let before = settings(&work, &terminal);
    for way in WAYS {
        for (victim, signal) in
            [("outer", "KILL"), ("leader", "KILL"), ("command", "KILL"), ("outer", "TERM"), ("outer", "HUP")]
        {
            terminal.send(&format!(
                "isolate {} {way} -- sh -c 'echo be''gun; exec sleep 987'; echo en''ded\n",
                work.user()
            ));
            terminal.expect("begun\r\n");
            wait_for_relay(&work, &terminal);
            // The shell has printed before it is sleep.
            work.wait_until("the victim to be there", || pid_of(&work, &terminal, victim).is_some());
            let pid = pid_of(&work, &terminal, victim).expect("it runs");
            assert_eq!(work.sh(&format!("kill -{signal} {pid}")).status, 0);
            // Of a relay killed with SIGKILL the shell may hear before the terminal is restored.
            terminal.expect("ended");
            terminal.prompt();
            work.wait_until("the terminal to be as it was", || settings(&work, &terminal) == before);
            work.wait_until("the command to end", || work.processes().len() == 1);
        }
    }
    terminal.leave();
}

/// The isolate that the shell started, the one that leads the session, or COMMAND.
fn pid_of(work: &Work, terminal: &Terminal, which: &str) -> Option<i32> {
    let processes = work.processes();
    let mut found = processes.iter().filter_map(|line| {
        let pid: i32 = line.split(' ').next()?.parse().ok()?;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (name, fields) = stat.split_once('(')?.1.rsplit_once(") ")?;
        // Its parent and its session.
        let fields: Vec<i32> = fields.split(' ').filter_map(|field| field.parse().ok()).collect();
        let is = match which {
            "command" => name == "sleep",
            "leader" => name == "isolate" && fields[2] == pid,
            _ => name == "isolate" && fields[0] == terminal.pid(),
        };
        is.then_some(pid)
    });
    found.next()
}

#[test]
fn a_terminal_that_hangs_up_hangs_up_the_one_inside() {
    let work = Work::new();
    for way in WAYS {
        let mut terminal = shell(&work);
        let script = "trap 'echo hup >>told; exit' HUP; echo be''gun; while :; do sleep 0.02; done";
        terminal.send(&format!("isolate {} {way} -- sh -c \"{script}\"\n", work.user()));
        terminal.expect("begun\r\n");
        wait_for_relay(&work, &terminal);
        terminal.hang_up();
        work.wait_until("the command to hear of it", || work.join("told").exists());
        work.wait_until("the command to end", || work.processes().is_empty());
        std::fs::remove_file(work.join("told")).expect("the file");
    }
}

#[test]
fn jobs_of_a_shell_inside_are_controlled_there() {
    let work = Work::new();
    let mut terminal = shell(&work);
    for way in WAYS {
        terminal.run(&format!("isolate {} {way} -- bash --norc --noprofile -i", work.user()));
        terminal.send("sleep 1000\n");
        let is_foreground = |word: &str| {
            let stat = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/stat")).ok();
            work.processes().iter().any(|line| {
                let Some(stat) = line.trim_end().ends_with(word).then(|| stat(line.split(' ').next()?)).flatten()
                else {
                    return false;
                };
                let fields: Vec<&str> = stat.rsplit_once(") ").expect("a name").1.split(' ').collect();
                fields[2] == fields[5]
            })
        };
        work.wait_until("sleep to be in the foreground", || is_foreground("sleep 1000"));
        terminal.send("\x1a");
        assert!(terminal.prompt().contains("Stopped"), "{way}");
        terminal.run("bg");
        assert!(terminal.run("jobs").contains("Running"), "{way}");
        terminal.send("fg\n");
        work.wait_until("sleep to be in the foreground", || is_foreground("sleep 1000"));
        terminal.send("\x03");
        terminal.prompt();
        terminal.run("exit 5");
        assert!(terminal.run("echo =$?=").contains("=5="), "{way}");
    }
    terminal.leave();
}

#[test]
fn the_handoff_reopens_the_new_terminal() {
    let work = Work::new();
    let mut terminal = shell(&work);
    terminal.send(&format!(
        "unpack --quiet '{}' | isolate {} --pty --pid --uts -- pivot --dev ./root -- mountclean -- \
         sh -c 'test -t 0 && stty size && echo be''gun; read -r line; echo \"got $line\"'\n",
        busybox_image().display(),
        work.user()
    ));
    terminal.expect("24 80\r\nbegun\r\n");
    terminal.send("word\n");
    terminal.expect("got word\r\n");
    terminal.prompt();
    terminal.leave();
}

#[test]
fn without_a_terminal_pty_is_refused_and_new_session_runs() {
    let work = Work::new();
    let outcome = work.sh(&format!("isolate {} --pty -- echo started", work.user()));
    outcome.expect_refusal(&["--pty: /dev/tty: ", "--new-session"]);
    for way in ["--new-session", "--new-session --pid", "--new-session --init"] {
        let line =
            format!("isolate {} {way} -- sh -c 'cat; (: </dev/tty) 2>/dev/null || echo none; exit 4'", work.user());
        work.with_input("sh", &line, b"input\n").expect(4, "input\nnone\n");
        work.sh(&format!("isolate {} {way} --status-fd 3 -- true 3>&1 | grep -c event", work.user())).expect(0, "2\n");
        // What it dies of is what isolate dies of, and what is sent to isolate it gets.
        let killed = format!("isolate {} {way} --fork -- sh -c 'kill -KILL $$' 2>/dev/null; echo $?", work.user());
        work.sh(&killed).expect(0, if way == "--new-session --pid" { "0\n" } else { "137\n" });
        work.sh(&format!(
            "mkfifo up; isolate {} {way} -- sh -c 'trap \"exit 9\" TERM; echo >up; while :; do sleep 0.01; done' & read -r x <up
            rm up; kill -TERM $!; wait $!; echo $?",
            work.user()
        ))
        .expect(0, "9\n");
    }
}

/// Builds tests/escape/terminal.c into ./volume.
fn attacker(work: &Work) -> bool {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/escape/terminal.c");
    work.sh(&format!("mkdir volume && cc -static -O1 -o volume/terminal '{source}'")).status == 0
}

fn sandbox(name: &str, command: &str) -> String {
    let image = busybox_image();
    match name {
        "container" => format!("{} -v ./volume:/work -w /work '{}' {command}", script(name), image.display()),
        _ => format!("{} '{}' volume {command}", script(name), image.display()),
    }
}

#[test]
fn a_sandbox_in_the_background_neither_reads_nor_sets_the_callers_terminal() {
    let work = Work::new();
    if !attacker(&work) {
        skip!("no cc that links statically");
    }
    for name in ["container", "ci-sandbox"] {
        let mut terminal = work.terminal("bash", &["--norc", "--noprofile", "-i"]);
        terminal.prompt();
        terminal.run("export XDG_CACHE_HOME=$PWD/cache");
        let before = settings(&work, &terminal);
        terminal.send(&format!("{} &\n", sandbox(name, "./terminal /work/end")));
        assert!(!terminal.expect("attacked 0\r\n").contains("TAKEN"), "{name}");
        terminal.send("\n");
        terminal.prompt();
        terminal.send("read -rs password; echo got $password\n");
        work.wait_until("the password to be asked for", || settings(&work, &terminal).contains("-echo "));
        terminal.send("secret\n");
        let said = terminal.expect("got secret\r\n");
        assert!(!said.contains("TAKEN") && !said.contains("pushed"), "{name}: {said}");
        terminal.prompt();
        assert_eq!(work.sh("touch volume/end").status, 0);
        terminal.run("wait");
        std::fs::remove_file(work.join("volume/end")).expect("the file");
        let now = settings(&work, &terminal);
        let lines = |text: &str| text.lines().next().map(str::to_owned).zip(text.lines().last().map(str::to_owned));
        assert_eq!(lines(&now), lines(&before), "{name}");
        terminal.leave();
    }
}

#[test]
fn a_sandbox_in_the_foreground_sets_its_own_terminal_alone() {
    let work = Work::new();
    if !attacker(&work) {
        skip!("no cc that links statically");
    }
    for name in ["container", "ci-sandbox"] {
        let mut terminal = shell(&work);
        terminal.run("export XDG_CACHE_HOME=$PWD/cache");
        let before = settings(&work, &terminal);
        let said = terminal.run(&sandbox(name, "./terminal"));
        let has_terminal = !said.contains("attacked 0");
        assert_eq!((said.contains("attacked"), has_terminal), (true, name == "container"), "{name}: {said}");
        assert_eq!(settings(&work, &terminal), before, "{name}");
        let next = terminal.run("echo do''ne");
        assert!(next.contains("done\r\n") && !next.contains("pushed\r\n"), "{name}: {next}");
        terminal.leave();
    }
}

#[test]
fn signals_and_priorities_of_a_group_reach_nobody_outside() {
    let work = Work::new();
    if !attacker(&work) {
        skip!("no cc that links statically");
    }
    for name in ["container", "ci-sandbox"] {
        let script = format!(
            "trap 'echo hit' USR1; export XDG_CACHE_HOME=$PWD/cache; {}; ps -o nice= -p $$",
            sandbox(name, "./terminal")
        );
        let nice = nice();
        work.sh(&script).expect(0, &format!("attacked 0\n{nice}\n"));
        // And into a pipe, at a terminal: there COMMAND had shared its caller's group.
        std::fs::write(work.join("script"), script.replace("./terminal;", "./terminal | cat;")).expect("write");
        let mut terminal = shell(&work);
        let said = terminal.run("sh script");
        assert!(said.contains("attacked") && !said.contains("hit") && said.ends_with(&format!("{nice}\r\n")), "{said}");
        terminal.leave();
    }
}

/// https://github.com/docker/cli/issues/2189: of the keys for the pager some went to the container.
#[test]
fn in_a_pipeline_the_keys_are_for_the_reader_of_the_output() {
    let work = Work::new();
    std::fs::create_dir(work.join("volume")).expect("mkdir");
    let mut terminal = shell(&work);
    terminal.run("export XDG_CACHE_HOME=$PWD/cache");
    let before = settings(&work, &terminal);
    // As less does: everything first, then the keys.
    std::fs::write(work.join("reader"), "cat; echo re''ady; read -r key </dev/tty; echo \"got $key\"").expect("write");
    for command in ["true", "cat", "sh -c 'cat </dev/tty'", "sh -c 'stty raw; exec cat'"] {
        terminal.send(&format!("{} | sh reader\n", sandbox("container", command)));
        terminal.expect("ready\r\n");
        assert_eq!(settings(&work, &terminal), before, "{command}");
        terminal.send("typed\n");
        terminal.expect("got typed\r\n");
        terminal.prompt();
    }
    terminal.leave();
}

#[test]
fn a_terminal_that_is_asked_for_is_there_in_a_pipeline_too() {
    let work = Work::new();
    let mut terminal = shell(&work);
    terminal.run("export XDG_CACHE_HOME=$PWD/cache");
    let image = busybox_image();
    let container = |options: &str| {
        let read = "sh -c 'read -r line; echo got $line'";
        format!("{} {options} '{}' {read}", script("container"), image.display())
    };
    terminal.send(&format!("{} | tee log\n", container("-t")));
    wait_for_relay(&work, &terminal);
    terminal.send("typed\n");
    terminal.expect("got typed\r\n");
    terminal.prompt();
    // A file has no reader that could want the keys.
    terminal.send(&format!("{} >file\n", container("")));
    wait_for_relay(&work, &terminal);
    terminal.send("typed\n");
    terminal.prompt();
    assert!(terminal.run("cat log file").ends_with("got typed\r\ngot typed\r\n"));
    let refused = terminal.run(&format!("{} </dev/null", container("-t")));
    assert!(refused.contains("container: -t: standard input is not a terminal"), "{refused}");
    terminal.leave();
}

/// As ps(1) prints it.
fn nice() -> String {
    let own = rustix::process::getpriority_process(None).expect("a priority");
    format!("{own:3}")
}

#[test]
fn what_enters_a_sandbox_gets_no_terminal_of_the_callers() {
    let work = Work::new();
    if !attacker(&work) {
        skip!("no cc that links statically");
    }
    let mut terminal = shell(&work);
    let before = settings(&work, &terminal);
    let image = busybox_image();
    let chain = format!(
        "mkfifo up; unpack --quiet '{}' >/dev/null; isolate {} --pid --uts --net -- pivot --dev --bind ./volume:/volume ./root -- \
         mountclean -- sh -c 'echo; exec sleep 1000' >up 2>&1 </dev/null & read -r x <up; echo re''ady",
        image.display(),
        work.user()
    );
    terminal.send(&format!("{chain}\n"));
    terminal.expect("ready\r\n");
    terminal.prompt();
    for line in
        [format!("{} $! /volume/terminal", script("enter")), "isolate --pty --join $! -- /volume/terminal".into()]
    {
        let said = terminal.run(&line);
        assert!(said.contains("attacked") && !said.contains("attacked 0"), "{said}");
        assert_eq!(settings(&work, &terminal), before, "{line}");
        let next = terminal.run("echo do''ne");
        assert!(next.contains("done\r\n") && !next.contains("pushed\r\n"), "{line}: {next}");
    }
    terminal.run("kill -TERM $!; wait");
    terminal.leave();
}
