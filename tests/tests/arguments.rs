//! Arguments pass through every link untouched, byte for byte.

use chainroot_tests::{Work, busybox_image};

#[test]
fn options_of_the_command_are_the_commands() {
    let work = Work::new();
    assert_eq!(work.sh(&format!("unpack --quiet '{}'", busybox_image().display())).status, 0);
    let u = work.user();
    for chain in [
        format!("isolate {u} --uts"),
        format!("isolate {u} --uts --"),
        format!("isolate {u} --uts -- pivot ./root"),
        format!("isolate {u} --uts -- pivot ./root --"),
        format!("isolate {u} --pid -- pivot ./root -- mountclean"),
        format!("isolate {u} --pid -- pivot ./root -- mountclean --"),
    ] {
        work.sh(&format!("{chain} printf '%s|' --help -v -- -- --explain ''")).expect(0, "--help|-v|--|--|--explain||");
        // Bytes that are no UTF-8.
        work.sh(&format!("{chain} printf '%s|' \"$(printf '\\377\\001')\" | od -An -tx1")).expect(0, " ff 01 7c\n");
    }
}

#[test]
fn a_command_that_begins_with_a_dash_needs_the_two_dashes() {
    let work = Work::new();
    work.sh("pivot ./root -x").expect_refusal(&["pivot: -x", "pivot: hint: "]);
    let outcome = work.sh(&format!("isolate {} --uts -- -x", work.user()));
    outcome.expect(127, "");
    assert!(outcome.stderr.contains("-x: command not found"), "{}", outcome.stderr);
}

#[test]
fn short_and_long_options_are_one_grammar() {
    let work = Work::new();
    let u = work.user();
    for line in ["-p -u", "-pu", "-up", "--pid --uts", "--pid -u", "-p -p --uts -u"] {
        work.sh(&format!("isolate {u} {line} -- sh -c 'echo $$'")).expect(0, "1\n");
        let explained = work.sh(&format!("isolate --explain {line} -- true")).stdout;
        assert_eq!(explained, work.sh("isolate --explain --pid --uts -- true").stdout, "{line}");
    }
}

/// As unshare(1) has it, and getopt(3).
#[test]
fn of_an_option_that_is_given_again_the_last_one_counts() {
    let work = Work::new();
    work.sh(&format!("isolate {} --mount --mount --fork --fork -- true", work.user())).expect(0, "");
    for (twice, once) in [
        ("isolate --hostname a --hostname b", "isolate --hostname b"),
        ("isolate -m --propagation slave --propagation shared", "isolate -m --propagation shared"),
        ("isolate --user --setgroups allow --setgroups=deny", "isolate --user --setgroups deny"),
        ("isolate --net=/run/a --net", "isolate --net"),
        ("mountclean --sys --sys=ro --mask --mask", "mountclean --sys=ro --mask"),
        ("pivot --read-only --read-only --chdir /a --chdir /b r", "pivot --read-only --chdir /b r"),
    ] {
        let explain = |line: &str| {
            let (tool, options) = line.split_once(' ').expect("options");
            work.sh(&format!("{tool} --explain {options} -- true"))
        };
        let (outcome, expected) = (explain(twice), explain(once));
        outcome.expect(0, &expected.stdout);
    }
}

#[test]
fn an_option_behind_an_operand_is_an_error() {
    let work = Work::new();
    for line in
        ["unpack ./i.tar --replace r", "unpack ./i.tar r -q", "pivot ./root --read-only -- true", "pivot ./root -v"]
    {
        // An unpack leaves its root's path without the newline.
        let outcome = work.sh(&format!("{line} >/dev/null"));
        outcome.expect_refusal(&["stands behind an operand; options come first", "hint: "]);
    }
    // What follows COMMAND is COMMAND's.
    for line in ["isolate --explain printf --help", "mountclean --explain printf --mask"] {
        let outcome = work.sh(line);
        assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    }
    work.sh("isolate --setgroups=deny -- true").expect_refusal(&["--setgroups", "hint: add --user"]);
}

#[test]
fn every_tool_has_help_and_a_version() {
    let work = Work::new();
    for tool in ["unpack", "isolate", "pivot", "mountclean"] {
        let help = work.sh(&format!("{tool} -h"));
        assert_eq!((help.status, help.stderr.as_str()), (0, ""));
        assert!(help.stdout.contains("Usage: "), "{}", help.stdout);
        let long = work.sh(&format!("{tool} --help"));
        assert!(long.stdout.contains("\nEXIT STATUS\n") && long.stdout.contains("\nEXAMPLES\n"), "{}", long.stdout);
        assert!(help.stdout.contains("xample") && !help.stdout.contains("EXIT STATUS"), "{}", help.stdout);
        let version = work.sh(&format!("{tool} --version"));
        version.expect(0, &format!("{tool} {}\n", env!("CARGO_PKG_VERSION")));
        // A reader that closes the pipe is no error.
        work.sh(&format!("{tool} --help | true")).expect(0, "");
        let full = work.sh(&format!("{tool} --help >/dev/full"));
        full.expect(125, "");
    }
}

#[test]
fn sigpipe_and_the_mask_are_the_callers() {
    let work = Work::new();
    let u = work.user();
    // Without a tool between, sh reports what it was started with; isolate must not change it.
    let look = "grep -E '^Sig(Blk|Ign)' /proc/self/status";
    for (setup, name) in [("", "default"), ("trap '' PIPE;", "ignored")] {
        let plain = work.sh(&format!("{setup} exec {look}")).stdout;
        let through = work.sh(&format!("{setup} exec isolate {u} --uts -- {look}")).stdout;
        assert_eq!(through, plain, "{name}");
        let through = work.sh(&format!("{setup} exec isolate {u} --pid -- {look}")).stdout;
        assert_eq!(through, plain, "{name}, with --pid");
    }
}

#[test]
fn an_error_is_no_backtrace() {
    let work = Work::new();
    for line in [
        "unpack no-such.tar 2>&1 >/dev/null",
        "isolate --no-such-option 2>&1",
        "pivot /no/such/root true 2>&1",
        "mountclean --keep-mount 2>&1",
    ] {
        let outcome = work.sh(&format!("export RUST_BACKTRACE=full; {line}"));
        assert_eq!(outcome.status, 125, "{}", outcome.stdout);
        assert!(outcome.stdout.lines().count() <= 2, "{}", outcome.stdout);
    }
}
