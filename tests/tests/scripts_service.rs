//! scripts/service: a unit that systemd takes, and a command line in it that does what it says.

use chainroot_tests::{Work, busybox_image, have, script, skip};

/// A unit for this command.
fn unit(work: &Work, command: &str) -> String {
    let outcome = work.sh(&format!("{} web '{}' {command}", script("service"), busybox_image().display()));
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    std::fs::write(work.join("web.service"), &outcome.stdout).expect("write");
    outcome.stdout
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit() {
    if !have("systemd-analyze") {
        skip!("no systemd-analyze");
    }
    let work = Work::new();
    unit(&work, r#"sh -c 'echo "50% of $HOME" \ done' 'a  b'"#);
    let outcome = work.sh("systemd-analyze verify --man=no ./web.service 2>&1");
    outcome.expect(0, "");
    // It does find what is wrong: the word is not just ignored.
    let wrong = work.sh("sed -i 's/^ExecStart=.*/ExecStart=no such command/; s/^MemoryMax/MemoryMux/' web.service; systemd-analyze verify --man=no ./web.service 2>&1");
    assert!(wrong.stdout.contains("MemoryMux"), "{}", wrong.stdout);
}

/// What systemd makes of a command line, by systemd.service(5): double quotes, backslashes, %% and $$.
fn as_systemd_reads(unit: &str) -> String {
    let start = unit.find("ExecStart=").expect("ExecStart") + "ExecStart=".len();
    let lines = unit[start..].lines();
    let mut words = String::new();
    for line in lines {
        words.push_str(line.trim_end_matches('\\'));
        if !line.ends_with('\\') {
            break;
        }
    }
    assert!(!words.contains('\''), "{words}");
    words.replace("%C/web", "cache").replace("%S/web", "state").replace("%%", "%").replace("$$", "\\$")
}

#[test]
fn its_command_line_runs_the_chain() {
    let work = Work::new();
    let unit = unit(&work, r#"sh -c 'X=y; echo "50% of $X" "$1"; echo kept >/data/file; hostname; exit 4' sh 'a  \b'"#);
    let user = work.user();
    // For an ordinary user the unit would be one of his own manager; here the difference is this option.
    let line = as_systemd_reads(&unit).replacen("isolate ", &format!("isolate {user} "), 1);
    let outcome = work.sh(&format!("mkdir cache state; {line}"));
    outcome.expect(4, "50% of y a  \\b\nweb\n");
    assert_eq!(std::fs::read_to_string(work.join("state/file")).expect("the volume"), "kept\n");
}

#[test]
fn names_and_commands_that_a_unit_cannot_hold_are_refused() {
    let work = Work::new();
    let image = busybox_image();
    for (name, command) in [("a/b", "true"), ("", "true"), ("web", "'a\nb'")] {
        let outcome = work.sh(&format!("{} '{name}' '{}' {command}", script("service"), image.display()));
        outcome.expect(125, "");
    }
    work.sh(&format!("{} web no-such.tar true", script("service"))).expect(125, "");
}
