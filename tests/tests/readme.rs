//! What the README says is so.

use chainroot_tests::Work;

const README: &str = include_str!("../../README.md");

#[test]
fn the_readme_says_what_the_canonical_line_is_not() {
    let text = README.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("not a sandbox for an untrusted image run as real root"));
}

#[test]
fn the_demo_puts_a_newcomer_in_a_container() {
    let work = Work::new();
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/demo");
    let line = format!(
        "export CHAINROOT_BIN=$(dirname $(command -v unpack)) CHAINROOT_DEMO_DIR=$PWD/demo; '{demo}' -- sh -c 'echo $$; hostname; mount | cut -d \" \" -f 3; id -u'"
    );
    for _ in 0..2 {
        work.sh(&line).expect(0, "1\ndemo\n/\n/proc\n0\n");
    }
}

#[test]
fn the_demo_takes_any_image() {
    let work = Work::new();
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/demo");
    let line = format!(
        "export CHAINROOT_BIN=$(dirname $(command -v unpack)) CHAINROOT_DEMO_DIR=$PWD/demo; '{demo}' '{}' -- cat /etc/image",
        chainroot_tests::busybox_image().display()
    );
    work.sh(&line).expect(0, "busybox\n");
}
