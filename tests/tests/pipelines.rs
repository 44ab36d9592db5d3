//! Pivot waits for unpack, whatever made the pipe between them and however late unpack comes.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Stdio};

use nix::libc;

use chainroot_tests::{Work, busybox_image, have, needs_root, skip};

const SHELLS: [&str; 6] = ["sh", "bash", "dash", "busybox sh", "zsh", "ksh93"];

fn spawn(work: &Work, words: &[&str]) -> Child {
    let mut command = work.command("setsid");
    command.arg("--wait").args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    command.spawn().expect("spawn")
}

/// Runs a line in which `UNPACK` starts once `go` can be read, and CHAIN is what must wait for it.
fn late(work: &Work, shell: &str, line: &str, isolate: &str) {
    work.sh("rm -rf root root.image.json go; mkfifo go").expect(0, "");
    let unpack = format!("unpack --quiet '{}'", busybox_image().display());
    let chain = format!("isolate {isolate} -- pivot ./root -- cat /etc/image");
    let line = line.replace("UNPACK", &unpack).replace("CHAIN", &chain);
    let words: Vec<&str> = shell.split(' ').chain(["-c", &line]).collect();
    let mut child = spawn(work, &words);
    work.wait_until("pivot to wait", || work.processes().iter().any(|line| line.split(' ').nth(1) == Some("pivot")));
    // Not a plain open, which would wait for ever where the line has failed (fifo(7)).
    let mut go = None;
    work.wait_until("the line to wait for go", || {
        go = File::options().write(true).custom_flags(libc::O_NONBLOCK).open(work.join("go")).ok();
        go.is_some()
    });
    go.expect("it is there").write_all(b"go\n").expect("go");
    let mut said = String::new();
    child.stdout.take().expect("stdout").read_to_string(&mut said).expect("read");
    assert_eq!((said.as_str(), child.wait().expect("wait").code()), ("busybox\n", Some(0)), "{shell}: {line}");
}

/// The shells of these that are installed.
fn installed<'a>(shells: &'a [&'a str]) -> impl Iterator<Item = &'a str> {
    shells.iter().copied().filter(|shell| have(shell.split(' ').next().expect("a word")))
}

#[test]
fn an_unpack_that_starts_late_is_waited_for_in_every_shell() {
    let work = Work::new();
    for shell in installed(&SHELLS) {
        for start in [
            "{ read x <go; UNPACK; }",
            "( cat go >/dev/null; UNPACK )",
            "nice sh -c \"cat go >/dev/null; exec UNPACK\"",
            "{ cat go >/dev/null; UNPACK; } | tee log",
        ] {
            late(&work, shell, &format!("{start} | CHAIN"), &format!("{} --pid", work.user()));
        }
    }
}

#[test]
fn and_where_the_wrapper_cannot_be_looked_into() {
    // As sudo, whose descriptors only root may see (PR_SET_DUMPABLE in prctl(2)).
    if !have("python3") {
        skip!("no python3");
    }
    let work = Work::new();
    std::fs::write(
        work.join("sudo.py"),
        "import ctypes, os, sys\nctypes.CDLL(None).prctl(4, 0)\nos.system('cat go >/dev/null')\nos.system(sys.argv[1])\n",
    )
    .expect("write");
    for isolate in ["--user --map-root --pid", "--user --map-root --pid --net --mount-proc"] {
        late(&work, "sh", "python3 sudo.py \"UNPACK\" | CHAIN", isolate);
    }
    for shell in installed(&["ksh93"]) {
        late(&work, shell, "{ cat go >/dev/null; UNPACK; } | CHAIN", "--user --map-root --pid --net --mount-proc");
    }
}

#[test]
fn other_pipes_than_pipelines_are_waited_for_too() {
    let work = Work::new();
    let isolate = format!("{} --pid", work.user());
    for (shells, line) in [
        (&SHELLS[..], "rm -f p; mkfifo p; { cat go >/dev/null; UNPACK; } >p & CHAIN <p"),
        (&["bash", "zsh", "ksh93"], "CHAIN < <(cat go >/dev/null; UNPACK)"),
        (&["bash", "zsh"], "exec 3< <(cat go >/dev/null; UNPACK); CHAIN <&3"),
        (&["bash"], "coproc { cat go >/dev/null; UNPACK; }; CHAIN <&${COPROC[0]}"),
        (&["bash"], "shopt -s lastpipe; { cat go >/dev/null; UNPACK; } | CHAIN"),
        (&["zsh"], "coproc { cat go >/dev/null; UNPACK; }; CHAIN <&p"),
        (&["ksh93"], "{ cat go >/dev/null; UNPACK; } |& CHAIN <&p"),
        // MULTIOS: the shell itself puts both together.
        (&["zsh"], "{ cat go >/dev/null; UNPACK; } | CHAIN </dev/null"),
        (&["fish"], "sh -c \"cat go >/dev/null; exec UNPACK\" | CHAIN"),
        (&["fish"], "begin; cat go >/dev/null; UNPACK; end | CHAIN"),
    ] {
        for shell in installed(shells) {
            late(&work, shell, line, &isolate);
        }
    }
    needs_root!();
    late(&work, "sh", "{ cat go >/dev/null; UNPACK; } | su -s /bin/sh -c \"PATH=$PATH CHAIN\"", "--pid");
}

/// The path is the loop's, and nothing is left in the pipe.
#[test]
fn a_loop_that_reads_the_path_leaves_the_chain_an_empty_pipe() {
    let work = Work::new();
    for shell in installed(&SHELLS) {
        work.sh("rm -rf root root.image.json").expect(0, "");
        let line = format!(
            "unpack --quiet '{}' | while read -r root; do isolate {} --pid -- pivot \"$root\" -- sh -c 'cat /etc/image; cat'; done",
            busybox_image().display(),
            work.user()
        );
        work.shell(shell, &line).expect(0, "busybox\n");
    }
}

#[test]
fn a_hundred_chains_at_once_each_wait_for_their_unpack() {
    let work = Work::new();
    let line = format!(
        "seq 100 | xargs -P 100 -I N sh -c \"unpack --quiet '{}' ./rN 2>/dev/null | isolate {} --pid -- pivot ./rN -- cat /etc/image\" | sort | uniq -c",
        busybox_image().display(),
        work.user()
    );
    let outcome = work.sh(&line);
    assert_eq!(outcome.stdout.trim(), "100 busybox", "{}", outcome.stderr);
}
