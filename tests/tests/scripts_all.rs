//! What holds of every script for people.

use chainroot_tests::{Work, have, is_root, script, skip};

const SCRIPTS: [&str; 14] = [
    "box",
    "bridge-net",
    "ci-sandbox",
    "container",
    "debian",
    "docker-image",
    "enter",
    "erofs",
    "image",
    "initramfs",
    "layer",
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
        // The first lines say how it is called, and an indented one shows it.
        let example = |line: &str| line.strip_prefix("  ").is_some_and(|line| line.contains(&format!("{name} ")));
        assert!(help.stdout.lines().any(example) || name == "test-slurm", "{name}: {}", help.stdout);
    }
}

#[test]
fn soak_lists_its_forms_and_has_help_for_each() {
    let work = Work::new();
    let list = work.sh(&script("soak"));
    assert_eq!((list.status, list.stderr.as_str()), (0, ""));
    let forms: Vec<&str> = list.stdout.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next()).collect();
    assert!(forms.contains(&"faults") && forms.contains(&"all") && forms.len() > 8, "{}", list.stdout);
    for form in forms {
        let help = work.sh(&format!("{} {form} -h", script("soak")));
        assert_eq!((help.status, help.stderr.as_str()), (0, ""), "{form}");
        assert!(help.stdout.starts_with(&format!("soak {form}")), "{form}: {}", help.stdout);
    }
    work.sh(&format!("{} tests", script("soak"))).expect(125, "");
}

#[test]
fn a_wrong_line_is_answered_with_the_usage() {
    let work = Work::new();
    for name in SCRIPTS.iter().filter(|name| !["box", "debian", "test-slurm"].contains(name)) {
        let outcome = work.sh(&script(name));
        outcome.expect(125, "");
        assert!(outcome.stderr.contains(name), "{name}: {}", outcome.stderr);
    }
    for name in ["box", "container", "debian", "docker-image", "on-slurm"] {
        work.sh(&format!("{} -Z", script(name))).expect(125, "");
    }
}

/// A PATH with what every system has, and with these.
fn with_only(work: &Work, programs: &str) -> String {
    let basic = "sh basename cat chmod cksum cut dirname env grep id mkdir mktemp printf pwd readlink realpath rm sed stat true";
    let link = "for name in {}; do ln -s $(command -v $name) bin/ || true; done";
    assert_eq!(
        work.sh(&format!("mkdir bin scripts && {}", link.replace("{}", &format!("{basic} {programs}")))).status,
        0
    );
    // Where this copy is there is no build beside it.
    let copy = SCRIPTS.iter().chain(&["sandbox.sh"]).map(|name| format!("cp {} scripts/", script(name)));
    let copy = copy.collect::<Vec<_>>().join(" && ");
    assert_eq!(work.sh(&copy).status, 0);
    "PATH=$PWD/bin; unset CHAINROOT_BIN".to_owned()
}

#[test]
fn a_program_that_is_missing_is_named_with_its_package() {
    let work = Work::new();
    let path = with_only(&work, "unpack isolate pivot mountclean");
    for (line, package) in [
        ("debian true", "mmdebstrap"),
        ("docker-image oci:layout true", "skopeo"),
        ("initramfs /etc/passwd boot.img", "busybox-static"),
        ("bridge-net add web 10.88.0.2/24", "iproute2"),
        ("erofs -c /etc/passwd root.erofs", "erofs-utils"),
        ("erofs -c /etc/passwd root.squashfs", "squashfs-tools"),
        ("layer scripts", "attr"),
        ("image /etc/passwd /etc/passwd out.tar", "jq"),
        ("test-slurm true", "munge"),
    ] {
        let outcome = work.sh(&format!("{path}; sh scripts/{line}"));
        if line.starts_with("test-slurm") && !is_root() {
            outcome.expect_refusal(&["needs root"]);
            continue;
        }
        outcome.expect_refusal(&["not found", &format!("apt install {package}")]);
    }
}

#[test]
fn tools_that_are_not_built_are_an_error_that_says_how() {
    let work = Work::new();
    let path = with_only(&work, "busybox cp gzip find");
    for line in [
        "box true",
        "container /etc/passwd true",
        "ci-sandbox /etc/passwd . true",
        "service web /etc/passwd true",
        "enter 1 true",
        "erofs /etc/passwd true",
        "debian true",
        "docker-image oci:layout true",
        "initramfs /etc/passwd boot.img",
    ] {
        let outcome = work.sh(&format!("{path}; sh scripts/{line}"));
        outcome.expect_refusal(&[line.split(' ').next().unwrap_or_default(), "not found", "scripts/build"]);
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
