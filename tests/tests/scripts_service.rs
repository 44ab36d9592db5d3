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

/// https://github.com/rkt/rkt/issues/1639: a newline in a command ended its line, and the rest was the unit's.
#[test]
fn a_word_of_several_lines_stays_one_word() {
    let work = Work::new();
    let unit = unit(&work, "sh -c \"$(printf 'echo one\n\tExecStart=two\r\n\\\\n')\" ''");
    assert!(unit.contains(r#""sh" "-c" "echo one\n\tExecStart=two\r\n\\n" "" "#), "{unit}");
    assert_eq!(unit.matches("\nExecStart=").count(), 1, "{unit}");
    if have("systemd-analyze") {
        work.sh("systemd-analyze verify --man=no ./web.service 2>&1").expect(0, "");
    }
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
    // For an ordinary user the unit would be one of the user's manager; here the difference is this option.
    let line = as_systemd_reads(&unit).replacen("isolate ", &format!("isolate {user} "), 1);
    let outcome = work.sh(&format!("mkdir cache state; {line}"));
    outcome.expect(4, "50% of y a  \\b\nweb\n");
    assert_eq!(std::fs::read_to_string(work.join("state/file")).expect("the volume"), "kept\n");
}

#[test]
fn names_and_commands_that_a_unit_cannot_hold_are_refused() {
    let work = Work::new();
    let image = busybox_image();
    // systemd would take `..` for the directory above /var/lib, and give COMMAND all of the host's /var.
    for (name, command) in [
        ("a/b", "true"),
        ("", "true"),
        ("..", "true"),
        (".", "true"),
        (".web", "true"),
        ("web", "\"$(printf '\\377')\""),
    ] {
        let outcome = work.sh(&format!("{} '{name}' '{}' {command}", script("service"), image.display()));
        outcome.expect(125, "");
    }
    work.sh(&format!("{} web no-such.tar true", script("service"))).expect(125, "");
}

#[test]
fn networks_and_capabilities_are_those_of_container() {
    let work = Work::new();
    let image = busybox_image();
    let service = script("service");
    let of = |options: &str| work.sh(&format!("{service} {options} web '{}' true", image.display()));
    let unit = of("-n /run/netns/web -k NET_BIND_SERVICE,CHOWN").stdout;
    assert!(unit.contains("\"--join=net=/run/netns/web\" --hostname web"), "{unit}");
    assert!(unit.contains("--cap-drop ALL --cap-add=NET_BIND_SERVICE,CHOWN --no-new-privs"), "{unit}");
    assert!(of("").stdout.contains("\"--net\" ") && of("-n pasta").stdout.contains("\"--net=pasta\" "));
    for wrong in ["-n web", "-k", "-k 'A B'", "-Z"] {
        of(wrong).expect(125, "");
    }
}

/// The unit's own line before its command: the image that is there counts, and a root of it is taken as it is.
#[test]
fn another_image_in_its_place_runs_from_the_next_start_on() {
    let work = Work::new();
    let prepared = work.sh(&format!(
        "cp '{}' image.tar && {} web image.tar true >web.service && mkdir cache",
        busybox_image().display(),
        script("service")
    ));
    assert_eq!(prepared.status, 0, "{}", prepared.stderr);
    let unit = std::fs::read_to_string(work.join("web.service")).expect("the unit");
    let start = unit.find("ExecStartPre=").expect("ExecStartPre") + "ExecStartPre=".len();
    let line = unit[start..unit.find("ExecStart=").expect("ExecStart")].replace("%C/web", "cache").replace("$$", "$");
    std::fs::write(work.join("pre"), line).expect("write");
    let outcome = work
        .sh("sh pre && stat -c %i cache/root >one && sh pre && stat -c %i cache/root | cmp - one && echo the same
        mkdir new && echo new >new/file && tar -C new -cf image.tar . && sh pre && ls cache/root");
    outcome.expect(0, "the same\nfile\n");
}
