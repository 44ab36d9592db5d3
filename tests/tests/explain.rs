//! `--explain` prints a script, and the script does what the chain does.

use chainroot_tests::{Work, busybox_image, debian_image, needs_root};

fn with_root(image: &std::path::Path) -> Work {
    let work = Work::new();
    assert_eq!(work.sh(&format!("unpack --quiet '{}'", image.display())).status, 0);
    work
}

/// Which namespaces differ from the ones that the test runs in, the table of mounts, and what
/// the command says.
const LOOK: &str = r#"for n in mnt uts ipc net pid user cgroup time; do readlink /proc/self/ns/$n; done; mount | cut -d " " -f 3; echo $$; pwd; ls /.. | head -n 3"#;

#[track_caller]
fn same(work: &Work, shell: &str, chain: &str) {
    let host: Vec<String> = ["mnt", "uts", "ipc", "net", "pid", "user", "cgroup", "time"]
        .iter()
        .map(|name| std::fs::read_link(format!("/proc/self/ns/{name}")).expect("ns").display().to_string())
        .collect();
    let differ = |output: &str| {
        let mut lines: Vec<String> = output.lines().map(str::to_owned).collect();
        for (line, host) in lines.iter_mut().zip(&host) {
            *line = if line == host { "host's".to_owned() } else { "own".to_owned() };
        }
        lines
    };
    let real = work.sh(chain);
    assert_eq!(real.status, 0, "{}", real.stderr);
    let (first, rest) = chain.split_once(' ').expect("words");
    let script = work.sh(&format!("{first} --explain {rest}"));
    assert_eq!(script.status, 0, "{}", script.stderr);
    let by_script = work.with_input(shell, &format!("{shell} <<'WHOLE'\n{}WHOLE\n", script.stdout), b"");
    assert_eq!(by_script.status, 0, "{}\n{}", script.stdout, by_script.stderr);
    assert_eq!(differ(&by_script.stdout), differ(&real.stdout), "{}", script.stdout);
}

#[test]
fn the_script_gives_the_same_namespaces_mounts_and_output() {
    needs_root!();
    for image in [Some(busybox_image()), debian_image("")].into_iter().flatten() {
        let work = with_root(&image);
        for shell in ["sh", "bash"] {
            same(&work, shell, &format!("isolate --pid --uts -- pivot ./root -- mountclean -- sh -c '{LOOK}'"));
            same(
                &work,
                shell,
                &format!("isolate --pid --uts --ipc --net -- pivot ./root -- mountclean -- sh -c '{LOOK}'"),
            );
            same(&work, shell, &format!("isolate --mount --pid -- pivot ./root -- mountclean -- sh -c '{LOOK}'"));
        }
    }
}

#[test]
fn the_script_of_a_user_namespace_works_for_an_ordinary_user() {
    let work = with_root(&busybox_image());
    same(
        &work,
        "sh",
        &format!("isolate --user --map-root --pid --uts -- pivot ./root -- mountclean -- sh -c '{LOOK}'"),
    );
}

#[test]
fn explaining_changes_nothing_and_needs_no_privilege_and_no_root() {
    let work = Work::new();
    let outcome = work.sh("isolate --explain --pid --uts --hostname h -- pivot ./no-such-root -- mountclean -- sh -c 'a \"b\" '\\''c'; ls -A");
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    assert_eq!(outcome.stderr, "");
    for words in ["#!/bin/sh\n", "unshare ", "pivot_root . .", "mount -t proc", "umount -l"] {
        assert!(outcome.stdout.contains(words), "no {words:?} in:\n{}", outcome.stdout);
    }
}

#[test]
fn dry_run_is_another_name_for_it() {
    let work = Work::new();
    let explain = work.sh("isolate --explain --uts -- pivot r -- ls").stdout;
    assert_eq!(work.sh("isolate --dry-run --uts -- pivot r -- ls").stdout, explain);
    assert!(!explain.is_empty());
}
