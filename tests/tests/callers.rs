//! Who holds the other end of standard input: a caller that may never write is not waited for, an unpack
//! that starts late is, and one that makes another root is refused.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use chainroot_tests::{Work, busybox_image, have, is_root, needs_root, skip};

const SHELLS: [&str; 6] = ["sh", "bash", "dash", "busybox sh", "zsh", "ksh93"];

fn with_root() -> Work {
    let work = Work::new();
    work.sh(&format!("unpack --quiet '{}' && echo ./root", busybox_image().display()));
    work
}

fn chain(work: &Work) -> String {
    format!("isolate {} --pid -- pivot ./root -- echo hi", work.user())
}

fn spawn(work: &Work, words: &[&str], stdin: impl Into<Stdio>) -> Child {
    let mut command = work.command("setsid");
    command.arg("--wait").args(words).stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::inherit());
    command.spawn().expect("spawn")
}

/// Everything that the chain prints, while the other end of its standard input stays open: a chain that
/// waits for it is killed after a minute.
#[track_caller]
fn says_hi(mut child: Child) {
    let mut stdout = child.stdout.take().expect("stdout");
    let (said, saying) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).expect("read");
        let _ = said.send(text);
    });
    let said = saying.recv_timeout(Duration::from_secs(60));
    if said.is_err() {
        let _ = child.kill();
    }
    assert_eq!(said.as_deref(), Ok("hi\n"), "the chain waits for its caller");
    assert!(child.wait().expect("wait").success());
    reader.join().expect("reader");
}

#[test]
fn a_program_that_holds_a_pipe_does_not_delay_the_chain() {
    // https://github.com/moby/moby/issues/11957, https://github.com/moby/moby/issues/12546
    let work = with_root();
    let line = chain(&work);
    for shell in SHELLS.into_iter().filter(|shell| have(shell.split(' ').next().expect("a word"))) {
        // The shell becomes the chain, or stays above it.
        for script in [line.clone(), format!("{line}; true"), format!("( {line} ); true")] {
            let words: Vec<&str> = shell.split(' ').chain(["-c", &script]).collect();
            let mut child = spawn(&work, &words, Stdio::piped());
            let held = child.stdin.take();
            says_hi(child);
            drop(held);
        }
    }
    let words: Vec<&str> = line.split(' ').filter(|word| !word.is_empty()).collect();
    let mut child = spawn(&work, &words, Stdio::piped());
    let held = child.stdin.take();
    says_hi(child);
    drop(held);
}

#[test]
fn nor_where_the_chain_has_a_proc_and_a_network_of_its_own() {
    let work = with_root();
    let line = format!("isolate {} --pid --net --mount-proc -- pivot ./root -- echo hi", work.user());
    let mut child = spawn(&work, &["sh", "-c", &line], Stdio::piped());
    let held = child.stdin.take();
    says_hi(child);
    drop(held);
    let (held, given) = UnixStream::pair().expect("a pair");
    says_hi(spawn(&work, &["sh", "-c", &line], OwnedFd::from(given)));
    drop(held);
}

#[test]
fn nor_does_another_child_of_the_same_caller() {
    let work = with_root();
    for isolate in ["--pid", "--map-root --pid"] {
        let line = format!("isolate {isolate} -- pivot ./root -- echo hi");
        if !is_root() && isolate == "--pid" {
            continue;
        }
        // One shell has both, without job control: one session and one process group.
        let mut child = spawn(&work, &["sh", "-c", &format!("mkfifo end; cat end & {line}; true")], Stdio::piped());
        let held = child.stdin.take();
        let mut said = [0; 3];
        child.stdout.as_mut().expect("stdout").read_exact(&mut said).expect("read");
        assert_eq!(&said, b"hi\n");
        File::create(work.join("end")).expect("the other child's end");
        assert!(child.wait().expect("wait").success());
        work.sh("rm end").expect(0, "");
        drop(held);
    }
}

/// A fork that has not exec'd yet has a copy of each of its parent's descriptors.
#[test]
fn nor_does_a_fork_of_the_caller_that_has_not_execd() {
    if !have("python3") {
        skip!("no python3");
    }
    let work = with_root();
    std::fs::write(
        work.join("caller.py"),
        "import os, signal, subprocess, sys\nr, w = os.pipe()\nchild = os.fork()\nif child == 0:\n    signal.pause()\n\
         subprocess.run(sys.argv[1:], stdin=r, check=True)\nos.kill(child, 9)\n",
    )
    .expect("write");
    for options in ["--pid", "--pid --mount-proc", "--pid --net --mount-proc"] {
        let line = format!("isolate {} {options} -- pivot ./root -- echo hi", work.user());
        let words: Vec<&str> = ["python3", "caller.py"].into_iter().chain(line.split_whitespace()).collect();
        says_hi(spawn(&work, &words, Stdio::null()));
    }
}

#[test]
fn nor_do_sockets_of_a_caller() {
    let work = with_root();
    let line = format!("{}; true", chain(&work));
    let (held, given) = UnixStream::pair().expect("a pair");
    says_hi(spawn(&work, &["sh", "-c", &line], OwnedFd::from(given)));
    drop(held);
    let listener = UnixListener::bind(work.join("socket")).expect("bind");
    let held = UnixStream::connect(work.join("socket")).expect("connect");
    let (given, _) = listener.accept().expect("accept");
    says_hi(spawn(&work, &["sh", "-c", &line], OwnedFd::from(given)));
    drop(held);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let held = std::net::TcpStream::connect(listener.local_addr().expect("address")).expect("connect");
    let (given, _) = listener.accept().expect("accept");
    says_hi(spawn(&work, &["sh", "-c", &line], OwnedFd::from(given)));
    drop(held);
}

#[test]
fn nor_does_a_caller_outside_the_pid_namespace() {
    let work = with_root();
    let line = format!("unshare {} --pid --fork --mount-proc sh -c '{}; true'", unshared(), chain(&work));
    let mut child = spawn(&work, &["sh", "-c", &line], Stdio::piped());
    let held = child.stdin.take();
    says_hi(child);
    drop(held);
}

fn unshared() -> &'static str {
    if is_root() { "" } else { "--user --map-root-user" }
}

#[test]
fn nor_does_a_foreign_unshare_hide_that_it_is_a_caller() {
    let work = with_root();
    let mut child = spawn(
        &work,
        &["unshare", "--user", "--map-root-user", "--pid", "--fork", "pivot", "./root", "echo", "hi"],
        Stdio::piped(),
    );
    let held = child.stdin.take();
    says_hi(child);
    drop(held);
}

/// How often each race is run; scripts/test-kernels, whose processors are emulated, asks for fewer.
fn runs() -> u32 {
    std::env::var("CHAINROOT_RUNS").map_or(200, |runs| runs.parse().expect("CHAINROOT_RUNS is a number"))
}

#[test]
fn another_roots_line_is_refused_however_its_unpack_ends() {
    let work = with_root();
    let image = busybox_image().display().to_string();
    work.sh(&format!("head -c 100000 '{image}' >cut.tar")).expect(0, "");
    let (own, user) = (work.join("root").display().to_string(), work.user());
    for (source, other) in [("cut.tar", "fails"), (image.as_str(), "succeeds")] {
        let line =
            format!("unpack --quiet '{source}' {other} 2>/dev/null | isolate {user} --pid -- pivot ./root -- echo ran");
        let path = work.join(other).display().to_string();
        for run in 0..runs() {
            let outcome = work.sh(&line);
            outcome.expect_refusal(&["COMMAND was not started", &own, &path]);
            // Each time anew, and once more where it is there already.
            if run % 2 == 0 {
                work.sh(&format!("rm -rf {other} {other}.image.json"));
            }
        }
    }
}

#[test]
fn lists_of_paths_and_of_roots_are_data() {
    let work = with_root();
    let root = work.join("root").display().to_string();
    for data in [
        format!("{root}/etc/image\n"),
        format!("{root}/etc\n{root}/bin\n"),
        format!("{root}/../root\n{root}\n"),
        "/etc/\n".into(),
    ] {
        work.with_input("sh", &format!("cat | isolate {} --pid -- pivot ./root -- cat", work.user()), data.as_bytes())
            .expect(0, &data);
    }
    work.sh(&format!("unpack --quiet '{}' other", busybox_image().display()));
    let other = work.join("other").display().to_string();
    let line = format!("printf '%s\\n' {other} {root} | isolate {} --pid -- pivot ./root -- cat", work.user());
    work.sh(&line).expect(0, &format!("{other}\n{root}\n"));
}

/// `ls -d roots/* | while read -r root; do …`: the last line that is left looks as unpack's would.
#[test]
fn a_loop_over_a_list_of_roots_is_told_how_to_keep_its_list() {
    let work = with_root();
    work.sh("for copy in a b c; do cp -a root $copy; sed s,/root,/$copy, root.image.json >$copy.image.json; done")
        .expect(0, "");
    let each = |pivot: &str| {
        work.sh(&format!(
            "ls -d $PWD/[abc] | while read -r root; do isolate {} --pid -- pivot {pivot} $root -- echo in; done",
            work.user()
        ))
    };
    each("--no-handoff").expect(0, "in\nin\nin\n");
    let refused = each("");
    assert_eq!(refused.stdout, "in\nin\n", "{refused:?}");
    for part in ["standard input names another root", "but ROOT is", "a list that a loop reads, pivot --no-handoff"] {
        assert!(refused.stderr.contains(part), "{part}: {refused:?}");
    }
}

#[test]
fn messages_in_the_pipe_are_no_data() {
    let work = with_root();
    let line = format!("unpack nonesuch.tar 2>&1 | isolate {} --pid -- pivot ./root -- cat", work.user());
    work.sh(&line).expect_refusal(&["a message of unpack's", "nonesuch.tar"]);
}

#[test]
fn path_and_message_never_share_a_line_of_a_log() {
    let work = Work::new();
    work.sh("unpack nonesuch.tar >log 2>&1; cat log").expect(0, "unpack: nonesuch.tar: No such file or directory\n");
    work.sh(&format!("unpack --quiet '{}' >log 2>&1; cat log", busybox_image().display()))
        .expect(0, &format!("{}\n", work.join("root").display()));
    let log = work.sh(&format!("unpack '{}' >log 2>&1; cat log", busybox_image().display())).stdout;
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!((lines.len(), lines[1]), (2, work.join("root").display().to_string().as_str()), "{log}");
    assert!(lines[0].starts_with("unpack: "), "{log}");
}

#[test]
fn a_script_says_what_the_handoff_finds() {
    let work = with_root();
    let line = format!("isolate {} --pid --explain -- pivot ./root -- sh", work.user());
    let said = |script: &str| work.sh(script).stdout;
    assert!(said(&format!("{line} </dev/null")).contains("# standard input is no pipe"));
    assert!(said(&line).contains("a pipe of the caller's"));
    let piped = said(&format!("mkfifo go; {{ cat go; }} | {{ {line}; : >go; }}"));
    assert!(piped.contains(&format!("wait for the line {}", work.join("root").display())), "{piped}");
}

/// A server of the test's own, on a port of the loopback and with keys of its own.
struct Sshd(Child);

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn ssh_host_runs_the_chain_with_and_without_n() {
    needs_root!();
    if !std::path::Path::new("/usr/sbin/sshd").exists() {
        skip!("no sshd");
    }
    let work = with_root();
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
    work.sh("ssh-keygen -q -t ed25519 -N '' -f host && ssh-keygen -q -t ed25519 -N '' -f key && cp key.pub authorized")
        .expect(0, "");
    let dir = work.path().display();
    let config = format!(
        "Port {port}\nListenAddress 127.0.0.1\nHostKey {dir}/host\nPidFile none\nUsePAM no\nStrictModes no\nAuthorizedKeysFile {dir}/authorized\nPermitRootLogin yes\n"
    );
    std::fs::write(work.join("config"), config).expect("write");
    std::fs::create_dir_all("/run/sshd").expect("sshd's own directory");
    let sshd =
        Command::new("/usr/sbin/sshd").args(["-D", "-e", "-f"]).arg(work.join("config")).stderr(Stdio::null()).spawn();
    let _sshd = Sshd(sshd.expect("sshd"));
    work.wait_until("sshd to listen", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    let path = work.tool("isolate").parent().expect("a directory").display().to_string();
    for n in ["", "-n "] {
        let remote = format!("cd {dir} && PATH={path}:$PATH; isolate --pid -- pivot ./root -- mountclean -- echo hi");
        let line = format!(
            "ssh {n}-i key -o UserKnownHostsFile=known -o StrictHostKeyChecking=no -o LogLevel=ERROR -p {port} root@127.0.0.1 '{remote}'"
        );
        let mut child = spawn(&work, &["sh", "-c", &line], Stdio::piped());
        let held = child.stdin.take();
        says_hi(child);
        drop(held);
        // What is sent is the command's.
        let line = line.replace("echo hi", "cat").replace("ssh -n ", "ssh ");
        work.with_input("sh", &line, b"data\n").expect(0, "data\n");
    }
}

#[test]
fn tasks_that_share_one_new_root_say_nothing_of_it_and_a_later_run_says_one_line() {
    let work = Work::new();
    let image = busybox_image().display().to_string();
    // Each has looked for ROOT before its image ends, and that is once all of them have begun.
    let script = "for n in $(seq 20); do mkfifo p$n; unpack --quiet - root <p$n >/dev/null 2>>log & done; \
                  for n in $(seq 20); do eval \"exec $((n + 100))>p$n\"; head -c 1000 IMAGE >&$((n + 100)); done; \
                  until [ $(ls -d .root.unpack-* | wc -l) = 20 ]; do sleep 0.01; done; \
                  for n in $(seq 20); do tail -c +1001 IMAGE >&$((n + 100)); eval \"exec $((n + 100))>&-\"; done; wait; cat log";
    work.shell("bash", &script.replace("IMAGE", &image)).expect(0, "");
    work.sh("rm -r root root.image.json").expect(0, "");
    let first = work.sh(&format!("unpack '{image}' >/dev/null"));
    let again = work.sh(&format!("unpack '{image}' >/dev/null"));
    assert!(first.stderr.lines().count() <= 1, "{}", first.stderr);
    assert_eq!(again.stderr.lines().count(), 1, "{}", again.stderr);
    assert!(again.stderr.contains("reusing the existing root"), "{}", again.stderr);
}
