//! `--explain` as a person reads it: laid out for the terminal, plain in a pipe, and a script either way.

use chainroot_tests::{Work, busybox_image, needs_root};

const CHAIN: &str = "--pid --uts --hostname inside -- pivot --ephemeral --dev --bind /etc:/root:ro --tmpfs /tmp:size=1m ./root -- mountclean --mask -- sh -c 'hostname; cat  /etc/image
echo \"two   words\"'";

#[test]
fn on_a_terminal_it_fits_the_width_and_still_runs() {
    needs_root!();
    let work = Work::new();
    assert_eq!(work.sh(&format!("unpack --quiet '{}'", busybox_image().display())).status, 0);
    work.sh(&format!("isolate {CHAIN}")).expect(0, "inside\nbusybox\ntwo   words\n");

    let terminal = work.terminal("sh", &["-c", &format!("isolate --explain {CHAIN}")]);
    let (shown, status) = terminal.end();
    assert_eq!(status, 0, "{shown}");
    let script = shown.replace("\r\n", "\n");
    assert!(script.lines().all(|line| line.chars().count() <= 80), "{script}");
    assert!(script.contains("\n  hostname inside\n") && script.contains("\n    cd ./root\n"), "{script}");
    std::fs::write(work.join("script"), &script).expect("the script");
    for shell in ["sh", "bash"] {
        work.sh(&format!("{shell} script")).expect(0, "inside\nbusybox\ntwo   words\n");
    }
}

#[test]
fn in_a_pipe_it_is_one_line_a_step() {
    let work = Work::new();
    let script = work.sh(&format!("isolate --explain {CHAIN}")).stdout;
    assert!(script.contains("\nhostname inside\n") && script.contains("\ncd ./root\n"), "{script}");
    assert!(!script.contains("\\\n"), "{script}");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let work = Work::new();
    for line in ["unpack --explain img.tar", "isolate --explain --pid -- pivot ./root -- sh"] {
        let outcome = work.sh(&format!("mkfifo pipe; (exec 4<pipe) & exec 3>pipe; wait $!; {line} >&3; rm pipe"));
        outcome.expect(0, "");
        assert_eq!(outcome.stderr, "", "{line}");
    }
}
