//! Every example in every manual page and in the README runs as it is printed.

use std::fs;

use chainroot_tests::{Work, busybox_image, have, needs_root, skip};

const README: &str = include_str!("../../README.md");
const MANUALS: [(&str, &str); 4] = [
    ("unpack", include_str!("../../man/unpack.1")),
    ("isolate", include_str!("../../man/isolate.1")),
    ("pivot", include_str!("../../man/pivot.1")),
    ("mountclean", include_str!("../../man/mountclean.1")),
];

/// An image with a configuration, as docker save writes it, and what the examples take for given.
const GIVEN: &str = r#"set -e
    sum() { sha256sum "$1" | cut -d ' ' -f 1; }
    cp "$1" layer.tar
    cat >config.json <<CONFIG
{"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/sh", "-c", "cat /etc/image"], "Env": ["PATH=/bin"]},
 "rootfs": {"type": "layers", "diff_ids": ["sha256:$(sum layer.tar)"]}}
CONFIG
    echo '[{"Config": "config.json", "RepoTags": ["busybox:latest"], "Layers": ["layer.tar"]}]' >manifest.json
    tar -cf img.tar manifest.json config.json layer.tar
    rm manifest.json config.json layer.tar
    unpack --quiet img.tar ./root >/dev/null
    mkdir some data changes root/mnt
    ln -s root r"#;

/// What would come from a registry is made here: an image of two architectures less one.
const FROM_A_REGISTRY: (&str, &str) = ("docker://debian", "oci:layout:debian");
const REGISTRY: &str = "umoci init --layout layout && umoci new --image layout:debian &&
    umoci config --image layout:debian --architecture arm64 && mkdir one && touch one/file &&
    umoci insert --image layout:debian one /one && rm -r one";

/// Programs of others: without them their examples cannot run.
const PROGRAMS: [&str; 5] = ["runc", "skopeo", "umoci", "unshare", "pasta"];

/// Runs one example in a directory of its own.
fn run(page: &str, example: &str) {
    let mut needed: Vec<&str> = PROGRAMS.into_iter().filter(|program| example.contains(program)).collect();
    if example.contains(FROM_A_REGISTRY.0) {
        needed.push("umoci");
    }
    if let Some(missing) = needed.into_iter().find(|program| !have(program)) {
        skip!("{page}: {example}: {missing} is not installed");
    }
    let work = Work::new();
    fs::write(work.join("given"), GIVEN).expect("given");
    let given = work.sh(&format!("sh given '{}'", busybox_image().display()));
    assert_eq!(given.status, 0, "{}", given.stderr);
    if example.contains(FROM_A_REGISTRY.0) {
        let registry = work.sh(REGISTRY);
        assert_eq!(registry.status, 0, "{}", registry.stderr);
    }
    let script = format!("set -e\n{}", example.replace(FROM_A_REGISTRY.0, FROM_A_REGISTRY.1));
    let outcome = work.sh(&script);
    assert_eq!(outcome.status, 0, "{page}: {example}\n{}{}", outcome.stdout, outcome.stderr);
}

/// The blocks of a page's EXAMPLES as they are shown.
fn examples(page: &str) -> Vec<String> {
    let section = page.split(".SH \"EXAMPLES\"\n").nth(1).expect("EXAMPLES");
    let section = section.split("\n.SH").next().unwrap_or_default();
    let blocks = section.split(".nf\n").skip(1);
    blocks.map(|block| shown(block.split("\n.fi").next().unwrap_or_default())).collect()
}

/// What roff makes of its escapes.
fn shown(text: &str) -> String {
    let pairs =
        [("\\-", "-"), ("\\(aq", "'"), ("\\(ga", "`"), ("\\(ha", "^"), ("\\(ti", "~"), ("\\&", ""), ("\\e", "\\")];
    pairs.iter().fold(text.to_owned(), |text, (roff, plain)| text.replace(roff, plain))
}

#[test]
fn every_example_in_every_manual_runs() {
    needs_root!();
    for (name, page) in MANUALS {
        let examples = examples(page);
        assert!(examples.len() >= 3, "{name}: {examples:?}");
        for example in examples {
            run(name, &example);
        }
    }
}

/// Lines of the README that the tests of the demo, of the build and of the installation run.
const BUILDS: [&str; 6] =
    ["cd chainroot", "scripts/demo", "PATH=$(scripts/build)", "scripts/test", "scripts/install", "scripts/deb"];

#[test]
fn every_line_in_the_readme_runs() {
    needs_root!();
    let lines = README.lines().filter_map(|line| line.strip_prefix("    ")).map(str::trim_end);
    let mut run_here = 0;
    for line in lines.filter(|line| !BUILDS.iter().any(|build| line.starts_with(build))) {
        run("README", line);
        run_here += 1;
    }
    assert!(run_here >= 5, "{run_here}");
}

#[test]
fn by_hand_and_with_the_chain_the_readme_shows_the_same() {
    needs_root!();
    let blocks: Vec<&str> = README.split("```sh\n").skip(1).filter_map(|block| block.split("```").next()).collect();
    assert_eq!(blocks.len(), 2);
    for block in blocks {
        let work = Work::new();
        work.sh(&format!("cp '{}' img.tar", busybox_image().display())).expect(0, "");
        work.sh(block).expect(0, "/\n/proc\n");
    }
}
