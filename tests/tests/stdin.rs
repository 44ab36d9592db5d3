//! What the command gets as its stdin: the terminal or /dev/null after a handoff, its data otherwise.

use std::io::{Read, Write};
use std::process::Stdio;

use chainroot_tests::{Work, busybox_image};

fn with_root() -> Work {
    let work = Work::new();
    work.sh(&format!("unpack --quiet '{}'", busybox_image().display()))
        .expect(0, &format!("{}\n", work.join("root").display()));
    work
}

#[test]
fn after_a_handoff_without_a_terminal_stdin_is_dev_null() {
    let work = Work::new();
    // Of the descriptor itself: the root has no /dev/null to compare it with.
    let script = format!(
        "unpack --quiet '{}' | isolate {} --pid -- pivot ./root -- mountclean -- sh -c 'stat -L -c %t:%T /proc/self/fd/0; cat; echo end'",
        busybox_image().display(),
        work.user()
    );
    work.with_input("sh", &script, b"not for it\n").expect(0, "1:3\nend\n");
}

#[test]
fn a_script_on_stdin_is_the_commands() {
    let work = with_root();
    let script = format!("printf 'echo a\\nexit 7\\n' | isolate {} --pid -- pivot ./root -- sh", work.user());
    work.sh(&script).expect(7, "a\n");
}

#[test]
fn a_gibibyte_on_stdin_arrives_unchanged() {
    let work = with_root();
    let script = format!(
        "data() {{ seq 1 120000000 | head -c 1073741824; }}; data | sha256sum >sent; data | isolate {} --pid -- pivot ./root -- cat | sha256sum >got; cmp sent got && echo same",
        work.user()
    );
    work.sh(&script).expect(0, "same\n");
}

#[test]
fn data_that_begins_like_the_roots_path_is_the_commands() {
    let work = with_root();
    let root = work.join("root");
    for data in [
        root.display().to_string()[..5].to_owned(),
        format!("{}2\nmore\n", root.display()),
        format!("{}/etc\n", root.display()),
        "/\n".into(),
        "\n".into(),
        "x".into(),
        "/etc/hostname".into(),
        String::new(),
    ] {
        let script = format!("cat | isolate {} --pid -- pivot ./root -- cat", work.user());
        work.with_input("sh", &script, data.as_bytes()).expect(0, &data);
    }
}

#[test]
fn a_whole_path_without_its_newline_is_an_unpack_that_did_not_finish() {
    let work = with_root();
    let script = format!("printf %s \"$PWD/root\" | isolate {} --pid -- pivot ./root -- echo started", work.user());
    work.sh(&script).expect_refusal(&["pivot: ", "unpack did not finish"]);
}

#[test]
fn a_stage_that_waits_for_the_command_to_speak_first_gets_a_notice_and_an_option() {
    let work = with_root();
    let start = |option: &str| {
        let mut command = work.command("sh");
        let script = format!("cat | isolate {} --pid -- pivot {option} ./root -- sh -c 'echo ready; cat'", work.user());
        command.arg("-c").arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("spawn")
    };

    let mut with_option = start("--no-handoff");
    let mut line = [0; 6];
    with_option.stdout.as_mut().unwrap().read_exact(&mut line).expect("the command speaks first");
    assert_eq!(&line, b"ready\n");
    with_option.stdin.take().unwrap().write_all(b"hello\n").unwrap();
    assert_eq!(with_option.wait_with_output().unwrap().stdout, b"hello\n");

    let mut without = start("");
    let mut notice = [0; 200];
    let n = without.stderr.as_mut().unwrap().read(&mut notice).expect("a notice after a second");
    let notice = String::from_utf8_lossy(&notice[..n]).into_owned();
    assert!(notice.starts_with("pivot: waiting") && notice.contains("--no-handoff"), "{notice}");
    without.stdin.take().unwrap().write_all(b"hello\n").unwrap();
    assert_eq!(without.wait_with_output().unwrap().stdout, b"ready\nhello\n");
}

#[test]
fn a_socket_as_the_pipeline_is_looked_at_too() {
    let work = Work::new();
    // ksh93 makes its pipelines of socket pairs.
    if !chainroot_tests::have("ksh93") {
        chainroot_tests::skip!("no ksh93");
    }
    let script = format!(
        "unpack --quiet '{}' | isolate {} --pid -- pivot ./root -- cat /etc/image",
        busybox_image().display(),
        work.user()
    );
    work.shell("ksh93", &script).expect(0, "busybox\n");
    work.shell("ksh93", &format!("echo data | isolate {} --pid -- pivot ./root -- cat", work.user()))
        .expect(0, "data\n");
}

#[test]
fn a_pipe_to_a_command_that_ends_ends_too() {
    let work = with_root();
    work.sh(&format!("yes | isolate {} --pid -- true; echo $?", work.user())).expect(0, "0\n");
    work.sh(&format!("yes | isolate {} --pid -- pivot ./root -- true; echo $?", work.user())).expect(0, "0\n");
}
