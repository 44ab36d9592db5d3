//! What holds of every script for people.

use chainroot_tests::{Work, have, script, skip};

const SCRIPTS: [&str; 10] = [
    "bridge-net",
    "ci-sandbox",
    "container",
    "debian",
    "docker-image",
    "enter",
    "initramfs",
    "on-slurm",
    "service",
    "test-slurm",
];

#[test]
fn help_is_the_comment_at_the_top() {
    let work = Work::new();
    for name in SCRIPTS {
        let help = work.sh(&format!("{} -h", script(name)));
        assert_eq!((help.status, help.stderr.as_str()), (0, ""), "{name}");
        let first = help.stdout.lines().next().unwrap_or_default();
        assert!(first.contains(name) && help.stdout.lines().count() > 4, "{name}: {}", help.stdout);
        assert!(!help.stdout.contains("set -e"), "{name}: {}", help.stdout);
    }
}

#[test]
fn a_wrong_line_is_answered_with_the_usage() {
    let work = Work::new();
    for name in SCRIPTS.iter().filter(|name| !["debian", "test-slurm"].contains(name)) {
        let outcome = work.sh(&script(name));
        outcome.expect(125, "");
        assert!(outcome.stderr.contains(name), "{name}: {}", outcome.stderr);
    }
    for name in ["container", "debian", "docker-image", "on-slurm"] {
        work.sh(&format!("{} -Z", script(name))).expect(125, "");
    }
}

#[test]
fn they_are_posix_shell() {
    let work = Work::new();
    for name in SCRIPTS {
        work.sh(&format!("head -n 1 {0} && sh -n {0}", script(name))).expect(0, "#!/bin/sh\n");
    }
    if !have("shellcheck") {
        skip!("no shellcheck");
    }
    for name in SCRIPTS {
        work.sh(&format!("shellcheck {}", script(name))).expect(0, "");
    }
}
