//! What --status-fd tells a program: whose end it was, COMMAND's or that of a link that has failed.

use chainroot_tests::Work;
use chainroot_tests::scene::{scene, ways};

/// The last line of the status, without its braces, and the exit status.
fn told(work: &Work, line: &str) -> (String, i32) {
    let outcome = work.sh(&format!("{line} 3>status 2>/dev/null"));
    let text = std::fs::read_to_string(work.join("status")).expect("the file");
    let last = text.lines().last().unwrap_or_default();
    (last.trim_matches(['{', '}']).to_owned(), outcome.status)
}

#[test]
fn a_link_that_failed_is_told_from_a_command_with_the_same_status() {
    for way in ways() {
        let work = scene();
        let isolate = way.replace(" --pid --", " --pid --status-fd 3");
        for (rest, wanted, status) in [
            ("-- sh -c 'exit 125'", r#""code":125,"event":"exited","version":1"#, 125),
            ("-- sh -c 'exit 127'", r#""code":127,"event":"exited","version":1"#, 127),
            ("-- pivot root -- mountclean -- sh -c 'exit 125'", r#""code":125,"event":"exited","version":1"#, 125),
            ("-- no-such-command", r#""code":127,"event":"exited","failed":"isolate","version":1"#, 127),
            ("-- /etc", r#""code":126,"event":"exited","failed":"isolate","version":1"#, 126),
            ("--init -- no-such-command", r#""code":127,"event":"exited","failed":"isolate","version":1"#, 127),
            ("--hostname x --wd /none -- true", r#""code":125,"event":"exited","failed":"isolate","version":1"#, 125),
            (
                "--time --boottime -99999999999 -- true",
                r#""code":125,"event":"exited","failed":"isolate","version":1"#,
                125,
            ),
            (
                "--propagation slave --seccomp none -- true",
                r#""code":125,"event":"exited","failed":"isolate","version":1"#,
                125,
            ),
            ("-- pivot none -- true", r#""code":125,"event":"exited","failed":"pivot","version":1"#, 125),
            ("-- pivot --nonesuch root", r#""code":125,"event":"exited","failed":"pivot","version":1"#, 125),
            ("-- pivot root -- no-such-command", r#""code":127,"event":"exited","failed":"pivot","version":1"#, 127),
            (
                "-- pivot root -- mountclean -- no-such",
                r#""code":127,"event":"exited","failed":"mountclean","version":1"#,
                127,
            ),
            (
                "-- pivot root -- mountclean -- isolate -- no-such",
                r#""code":127,"event":"exited","failed":"isolate","version":1"#,
                127,
            ),
            (
                "-- pivot root -- mountclean -- isolate --fork -- /etc",
                r#""code":126,"event":"exited","failed":"isolate","version":1"#,
                126,
            ),
            ("-- sh -c 'pivot none -- true'", r#""code":125,"event":"exited","version":1"#, 125),
        ] {
            assert_eq!(told(&work, &format!("{isolate} {rest}")), (wanted.to_owned(), status), "{isolate} {rest}");
        }
    }
}

#[test]
fn both_of_two_isolates_are_told() {
    let work = scene();
    let way = ways().pop().expect("a way").replace(" --pid --", " --pid --status-fd 3 --");
    work.sh(&format!(
        "{way} isolate --fork --status-fd 4 -- pivot none -- true 3>outer 4>inner 2>/dev/null; grep -c 'failed\":\"pivot' outer inner"
    ))
    .expect(0, "outer:1\ninner:1\n");
}

#[test]
fn the_command_cannot_tell_of_a_failure() {
    let work = scene();
    let way = ways().pop().expect("a way").replace(" --pid --", " --pid --status-fd 3 --");
    let inside = "for fd in 3 4 5 6 7 8 9; do echo >&$fd; done 2>/dev/null; env | grep -c CHAINROOT; exit 9";
    let (last, status) = told(&work, &format!("{way} pivot root -- mountclean -- sh -c '{inside}' >/dev/null"));
    assert_eq!((last.as_str(), status), (r#""code":9,"event":"exited","version":1"#, 9));
}

#[test]
fn a_process_is_joined_once_its_status_file_says_that_it_has_started() {
    let work = scene();
    let way = ways().pop().expect("a way").replace(" --pid --", " --pid --uts --status-fd 3");
    let runs = format!("{way} --hostname inner -- sh -c 'read x <stop'");
    // Before the file is there, while it grows, and behind the end.
    work.sh(&format!(
        "mkfifo stop; isolate --join ./status -- hostname >name & join=$!
         {runs} 3>status & run=$!; wait $join; cat name; isolate --join ./status:user,uts -- hostname; echo >stop; wait $run
         isolate --join ./status -- hostname"
    ))
    .expect(125, "inner\ninner\n");
    let outcome = work.sh("isolate --join ./status -- true");
    outcome.expect_refusal(&["./status: the process has ended", "a new file"]);
    work.sh("sed -i 1q status; isolate --join ./status -- true").expect_refusal(&["is of an earlier run"]);
    work.sh("echo '{\"version\":2}' >status; isolate --join ./status -- true")
        .expect_refusal(&["version 2", "same isolate"]);
    work.sh("echo nonsense >status; isolate --join ./status -- true").expect_refusal(&["not what isolate writes"]);
    work.sh("isolate --join status-of-nobody -- true").expect_refusal(&["the path of a file (./FILE)"]);
}

#[test]
fn unpack_tells_in_the_same_words_and_hands_its_root_on() {
    for way in ways() {
        let work = scene();
        let rest =
            "-- pivot ./new -- mountclean -- sh -c '{ echo x >&3 || echo x >&4; } 2>/dev/null; cat /marker; exit 7'";
        work.sh("echo here >root/marker; tar -C root -cf img.tar .");
        let isolate = way.replace(" --pid --", " --pid --status-fd 4");
        // In one log, each with a descriptor of its own: what is appended is a line.
        let both = format!("{{ unpack --quiet --status-fd 3 img.tar ./new | {isolate} {rest}; }} 3>>log 4>>log");
        work.sh(&both).expect(7, "here\n");
        let log = std::fs::read_to_string(work.join("log")).expect("the log");
        let events = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
        let mut names: Vec<_> = events.map(|line| (line["event"].to_string(), line["version"].to_string())).collect();
        names.sort();
        let wanted = ["\"complete\"", "\"exited\"", "\"started\"", "\"started\""].map(|name| (name.into(), "1".into()));
        assert_eq!(names, wanted, "{log}");
        // A failure is told of once by each, and the command never starts.
        let failing = "rm log; unpack --status-fd 3 none.tar ./other 3>log | pivot ./other -- echo started";
        work.sh(failing).expect(125, "");
        work.sh("grep -c failed log").expect(0, "1\n");
    }
}
