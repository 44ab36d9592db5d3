//! What `--status-fd` tells a program, and what a log is told of work that takes long.

mod archive;
mod scene;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Output, Stdio};

use archive::{Block, END};
use scene::{Scene, UNPACK, text};
use serde_json::{Value, json};

/// A disk's node, which is left out, and a file.
fn image() -> Vec<u8> {
    [Block::new("dev/sda", b'4').bytes(), Block::file("file", b"content").bytes(), END.to_vec()].concat()
}

/// unpack with descriptor 3 as the shell redirects it.
fn command(scene: &Scene, redirected: &str, args: &[&str]) -> Command {
    let mut command = Command::new("env");
    let run = format!(r#"exec "$@" {redirected}"#);
    command.args(["--default-signal=INT,QUIT,TERM,HUP", "sh", "-c", &run, "sh", UNPACK, "--status-fd", "3"]);
    command.args(args).current_dir(scene.path("")).stdin(Stdio::null());
    command
}

fn run(scene: &Scene, args: &[&str]) -> (Output, Vec<Value>) {
    let output = command(scene, "3>status", args).output().unwrap();
    (output, told(&fs::read(scene.path("status")).unwrap()))
}

/// Every line is whole and of this version. How often there is time for progress is no matter.
fn told(bytes: &[u8]) -> Vec<Value> {
    let text = text(bytes);
    assert!(text.is_empty() || text.ends_with('\n'), "{text}");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert!(lines.iter().all(|line| line["version"] == 1), "{text}");
    lines.into_iter().filter(|line| line["event"] != "progress").collect()
}

fn started(scene: &Scene) -> Value {
    json!({"event": "started", "root": scene.path("root").to_str(), "version": 1})
}

fn complete(scene: &Scene, reused: bool, warnings: &[&str]) -> Value {
    json!({
        "event": "complete", "root": scene.path("root").to_str(), "receipt": scene.path("root.image.json").to_str(),
        "reused": reused, "skipped": {"devices": 1}, "warnings": warnings, "version": 1,
    })
}

/// One line, whose message and hint are those on stderr.
fn failed(output: &Output, line: &Value, code: i32) {
    assert_eq!(output.status.code(), Some(code));
    let mut lines = vec![format!("unpack: {}", line["message"].as_str().unwrap())];
    lines.extend(line["hint"].as_str().map(|hint| format!("unpack: hint: {hint}")));
    assert_eq!(text(&output.stderr).lines().collect::<Vec<_>>(), lines);
    assert_eq!((&line["event"], &line["code"], &line["failed"]), (&"exited".into(), &code.into(), &"unpack".into()));
}

/// A child in the midst of an image, and what it still waits for.
fn half_fed(scene: &Scene, redirected: &str, args: &[&str]) -> (Child, std::process::ChildStdin) {
    let mut command = command(scene, redirected, args);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&Block::file("first", b"1").bytes()).unwrap();
    stdin.write_all(&Block::file("filler", &vec![7; 64 << 20]).bytes()).unwrap();
    (child, stdin)
}

#[test]
fn a_program_is_told_of_the_root_and_of_what_was_skipped_even_in_silence() {
    let scene = Scene::new();
    scene.write("img.tar", &image());
    let (output, lines) = run(&scene, &["--quiet", "--owner", "squash", "img.tar"]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
    let [began, mut end] = <[Value; 2]>::try_from(lines).unwrap();
    assert_eq!(began, started(&scene));
    let warning = end["warnings"][0].as_str().unwrap().to_owned();
    assert!(warning.contains("1 device not made"), "{warning}");
    let skipped = end["skipped"].as_object_mut().unwrap();
    // Owners are the user who runs this, unless the archive has them already.
    skipped.remove("owners");
    assert_eq!(end, complete(&scene, false, &[&warning]));
    let (_, lines) = run(&scene, &["--owner", "squash", "img.tar"]);
    let mut end = lines[1].clone();
    end["skipped"].as_object_mut().unwrap().remove("owners");
    assert_eq!(end, complete(&scene, true, &[]), "what an earlier run has skipped is still not there");
}

#[test]
fn from_a_pipe_the_same_is_told() {
    let scene = Scene::new();
    let mut command = command(&scene, "3>status", &["--owner", "squash", "-"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&image()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let lines = told(&fs::read(scene.path("status")).unwrap());
    assert_eq!((lines.len(), &lines[1]["event"], &lines[1]["reused"]), (2, &"complete".into(), &false.into()));
}

#[test]
fn a_failure_is_one_line_and_the_last() {
    let scene = Scene::new();
    scene.write("img.tar", &image()[..700]);
    let (output, lines) = run(&scene, &["img.tar"]);
    assert_eq!((lines.len(), &lines[0]), (2, &started(&scene)));
    failed(&output, &lines[1], 125);
    let (output, lines) = run(&scene, &["none.tar"]);
    failed(&output, &lines[1], 125);
    // Before anything is begun.
    for args in [&["--nonesuch", "img.tar"][..], &["img.tar", "nowhere/root"]] {
        let (output, lines) = run(&scene, args);
        assert_eq!(lines.len(), 1, "{args:?}");
        failed(&output, &lines[0], 125);
    }
}

#[test]
fn a_command_that_cannot_be_started_is_told_of_behind_the_root() {
    let scene = Scene::new();
    scene.write("img.tar", &image());
    for (name, code) in [("no-such-command", 127), ("/etc", 126)] {
        let (output, lines) = run(&scene, &["--quiet", "img.tar", "--", name]);
        assert_eq!(lines[1]["event"], "complete");
        failed(&output, &lines[2], code);
        assert_eq!(lines.len(), 3);
    }
}

#[test]
fn the_command_has_no_part_in_the_descriptor() {
    let scene = Scene::new();
    scene.write("img.tar", &image());
    let (output, lines) = run(&scene, &["img.tar", "--", "sh", "-c", "{ echo x >&3; } 2>/dev/null; exit 7"]);
    assert_eq!((output.status.code(), lines.len()), (Some(7), 2));
}

#[test]
fn an_interrupted_run_says_which_signal_it_was() {
    let scene = Scene::new();
    let (mut child, _stdin) = half_fed(&scene, "3>status", &["-"]);
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&child.wait().unwrap()), Some(15));
    let lines = told(&fs::read(scene.path("status")).unwrap());
    let end = json!({"event": "exited", "signal": "SIGTERM", "failed": "unpack", "version": 1});
    assert_eq!(lines, [started(&scene), end]);
    scene.nothing_staged();
}

#[test]
fn a_reader_that_is_gone_does_no_harm() {
    let scene = Scene::new();
    scene.write("img.tar", &image());
    let run = |args: &[&str]| {
        let mut command = command(&scene, "3>&0", args);
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        command.stdin(writer).output().unwrap()
    };
    assert!(run(&["img.tar"]).status.success());
    assert_eq!(run(&["--nonesuch", "img.tar"]).status.code(), Some(125));
    assert_eq!(run(&["img.tar", "--", "no-such-command"]).status.code(), Some(127));
    assert_eq!(run(&["none.tar", "other"]).status.code(), Some(125));
}

#[test]
fn progress_waits_for_no_reader() {
    let scene = Scene::new();
    let (mut reader, writer) = std::io::pipe().unwrap();
    // Behind the descriptor lies a pipe that nobody reads, with the first line in it.
    let mut command = Command::new("sh");
    command.args(["-c", r#"exec "$@" 3>&1 >path"#, "sh", UNPACK, "--status-fd", "3", "--tick", "1", "-"]);
    command.current_dir(scene.path("")).stdin(Stdio::piped()).stdout(writer).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(command);
    // The log is told once 30 of a program's lines were due.
    let mut line = String::new();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    log.read_line(&mut line).unwrap();
    assert!(line.starts_with("unpack: -: 0 B read after "), "{line}");
    drop(child.stdin.take());
    child.wait().unwrap();
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    assert!(!text(&bytes).contains("progress"), "{}", text(&bytes));
    let lines = told(&bytes);
    assert_eq!((lines.len(), &lines[1]["failed"]), (2, &"unpack".into()));
}

#[test]
fn a_program_that_reads_is_told_how_far_the_work_is() {
    let scene = Scene::new();
    let (mut child, stdin) = half_fed(&scene, "3>&2 2>log", &["--tick", "1", "--quiet", "-"]);
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();
    // More than it takes until a log would be told.
    let last = (0..100).map(|_| next()).last().unwrap();
    assert_eq!((&last["event"], last.get("total")), (&"progress".into(), None), "{last}");
    let far = |line: &Value| line["extracted"].as_u64() > Some(60 << 20) && line["read"].as_u64() > Some(60 << 20);
    assert!(std::iter::from_fn(|| Some(next())).any(|line| far(&line)));
    drop(stdin);
    while next()["event"] == "progress" {}
    assert_eq!(child.wait().unwrap().code(), Some(125));
    let log = fs::read_to_string(scene.path("log")).unwrap();
    assert!(log.contains("truncated") && !log.contains(" after "), "{log}");
}

#[test]
fn a_log_is_told_now_and_then_of_work_that_takes_long() {
    let scene = Scene::new();
    let (mut child, stdin) = half_fed(&scene, "3>status", &["--tick", "1", "-"]);
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let far = |line: String| line.starts_with("unpack: -: 64.00 MiB extracted after ");
    assert!(lines.by_ref().map(Result::unwrap).any(far));
    drop(stdin);
    assert_eq!(child.wait().unwrap().code(), Some(125));
}

#[test]
fn a_descriptor_that_is_none_or_would_mix_with_the_path_is_refused() {
    let scene = Scene::new();
    scene.write("img.tar", &image());
    for (redirected, why) in [
        ("3>&-", "it is not open"),
        ("3</dev/null", "it is open for reading only"),
        ("3>&1", "is where standard output goes"),
    ] {
        let output = command(&scene, redirected, &["img.tar"]).output().unwrap();
        assert!(scene.failed(&output).contains(why), "{redirected}");
        assert_eq!(text(&output.stdout), "");
    }
    let output = command(&scene, "3>&1", &["--quiet", "img.tar", "--", "true"]).output().unwrap();
    assert_eq!((output.status.code(), text(&output.stdout).lines().count()), (Some(0), 2));
}
