//! Every example in every manual page and in the README runs as it is printed.

use std::fs;

use chainroot_tests::{Outcome, Work, busybox_image, have, is_root, needs_root};

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
    mkdir some data changes root/mnt root.mstack
    ln -s ../root root.mstack/layer@0
    ln -s root r"#;

/// What would come from a registry is made here: an image of two architectures less one.
const FROM_A_REGISTRY: (&str, &str) = ("docker://debian", "oci:layout:debian");
/// A digest that an example leaves open: the image's own, or the archive's.
const PINNED: [(&str, &str); 4] = [
    ("docker://debian@sha256:...", "oci:layout:debian"),
    ("--ref sha256:... ./debian", r#"--ref "$(grep -o 'sha256:[0-9a-f]*' layout/index.json)" ./debian"#),
    ("curl -fL https://.../root.tar.xz", "tar -cf root.tar -C root etc && cat root.tar"),
    ("--ref sha256:... -", r#"--ref "sha256:$(sha256sum <root.tar | cut -d ' ' -f 1)" -"#),
];
const REGISTRY: &str = "umoci init --layout layout && umoci new --image layout:debian &&
    umoci config --image layout:debian --architecture arm64 && mkdir one && touch one/file &&
    umoci insert --image layout:debian one /one && rm -r one";

/// Programs of others: without them their examples cannot run.
const PROGRAMS: [&str; 5] = ["runc", "skopeo", "umoci", "unshare", "pasta"];

/// Runs one example in a directory of its own, by this shell; None where a program for it is missing.
fn run(page: &str, example: &str, shell: &str) -> Option<Outcome> {
    let mut needed: Vec<&str> = PROGRAMS.into_iter().filter(|program| example.contains(program)).collect();
    if example.contains(FROM_A_REGISTRY.0) {
        needed.push("umoci");
    }
    if let Some(missing) = needed.into_iter().find(|program| !have(program)) {
        eprintln!("skipped: {page}: {example}: {missing} is not installed");
        return None;
    }
    let work = Work::new();
    fs::write(work.join("given"), GIVEN).expect("given");
    work.sh("chmod 777 . && chmod 644 given").expect(0, "");
    // What runtimes and registries' programs keep for a user lies in that user's own directories.
    let prepare = |script: &str| work.shell(shell, &format!("set -e; export HOME=$PWD XDG_RUNTIME_DIR=$PWD; {script}"));
    let given = prepare(&format!("sh given '{}'", busybox_image().display()));
    assert_eq!(given.status, 0, "{}", given.stderr);
    if example.contains(FROM_A_REGISTRY.0) {
        let registry = prepare(REGISTRY);
        assert_eq!(registry.status, 0, "{}", registry.stderr);
    }
    let example = PINNED
        .iter()
        .chain([&FROM_A_REGISTRY])
        .fold(example.to_owned(), |example, (shown, here)| example.replace(shown, here));
    Some(prepare(&example))
}

/// As root every example does what it says.
fn runs(page: &str, example: &str) {
    if let Some(outcome) = run(page, example, "sh") {
        assert_eq!(outcome.status, 0, "{page}: {example}\n{}{}", outcome.stdout, outcome.stderr);
    }
}

/// As an ordinary user the examples for one do, and those that only root can run say what it takes.
fn runs_or_says_what_it_takes(page: &str, example: &str) -> bool {
    // A script by hand ends as its own programs have it.
    if example.starts_with("unshare") {
        return false;
    }
    let as_user = "setpriv --reuid=1234 --regid=1234 --clear-groups --bounding-set=-all sh";
    let Some(outcome) = run(page, example, if is_root() { as_user } else { "sh" }) else { return false };
    let for_a_user =
        example.contains("--user") || !["isolate", "pivot", "mountclean"].iter().any(|t| example.contains(t));
    let says = outcome.status == 125 && outcome.stderr.contains("--user --map-root");
    assert!(outcome.status == 0 || (says && !for_a_user), "{page}: {example}\n{}{}", outcome.stdout, outcome.stderr);
    outcome.status == 0
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
            runs(name, &example);
        }
    }
}

#[test]
fn every_example_runs_for_an_ordinary_user_or_says_what_it_takes() {
    let all =
        MANUALS.into_iter().flat_map(|(name, page)| examples(page).into_iter().map(move |example| (name, example)));
    let readme = readme().into_iter().map(|line| ("README", line.to_owned()));
    let run_here = all.chain(readme).filter(|(page, example)| runs_or_says_what_it_takes(page, example)).count();
    assert!(run_here >= 10, "{run_here}");
}

/// Lines of the README that the tests of the demo, of the build, of the installation and of scripts_images run.
const BUILDS: [&str; 9] = [
    "scripts/docker-image docker://",
    "cd chainroot",
    "scripts/demo",
    "PATH=$(scripts/build)",
    "scripts/test",
    "scripts/install",
    "scripts/deb",
    "scripts/release",
    "tar -xzf chainroot-",
];

fn readme() -> Vec<&'static str> {
    let lines = README.lines().filter_map(|line| line.strip_prefix("    ")).map(str::trim_end);
    lines.filter(|line| !BUILDS.iter().any(|build| line.starts_with(build))).collect()
}

#[test]
fn every_line_in_the_readme_runs() {
    needs_root!();
    let lines = readme();
    assert!(lines.len() >= 5, "{lines:?}");
    lines.into_iter().for_each(|line| runs("README", line));
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
