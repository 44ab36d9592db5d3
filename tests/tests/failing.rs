//! A failing unpack never starts the command, and leaves nothing behind.

use std::process::Stdio;

use chainroot_tests::{Work, busybox_image, debian_image, image_of, needs_root, skip};

const REST: &str = "-- pivot ./root -- echo started";

fn nothing_is_left(work: &Work) {
    assert!(!work.join("root").exists(), "a root is left");
    assert!(!work.join("root.image.json").exists(), "a receipt is left");
    assert_eq!(work.staging(), Vec::<String>::new(), "staging is left");
}

#[test]
fn a_missing_image_never_starts_the_command() {
    let work = Work::new();
    let outcome = work.sh(&format!("unpack no-such.tar | isolate {} --pid --uts {REST}", work.user()));
    outcome.expect(125, "");
    assert!(outcome.stderr.contains("unpack: no-such.tar: "), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("pivot: unpack did not finish"), "{}", outcome.stderr);
    nothing_is_left(&work);
}

#[test]
fn wrong_usage_of_unpack_never_starts_the_command_in_an_old_root() {
    let work = Work::new();
    assert_eq!(
        work.sh(&format!("unpack --quiet '{0}' && unpack --quiet '{0}' other", busybox_image().display())).status,
        0
    );
    for (words, root) in
        [("--no-such-option img.tar", "root"), ("img.tar other --no-such-option", "other"), ("", "root")]
    {
        let outcome =
            work.sh(&format!("unpack {words} | isolate {} --pid -- pivot ./{root} -- echo started", work.user()));
        outcome.expect(125, "");
        assert!(outcome.stderr.contains("pivot: unpack did not finish"), "{words}: {}", outcome.stderr);
    }
}

#[test]
fn a_truncated_gzip_never_starts_the_command() {
    let work = Work::new();
    let script = format!(
        "gzip -c '{}' >whole.gz; head -c 100000 whole.gz >short.tar.gz; unpack short.tar.gz | isolate {} --pid {REST}",
        busybox_image().display(),
        work.user()
    );
    let outcome = work.sh(&script);
    outcome.expect(125, "");
    assert!(
        outcome.stderr.contains("unpack: short.tar.gz: ") && outcome.stderr.contains("truncated"),
        "{}",
        outcome.stderr
    );
    nothing_is_left(&work);
}

#[test]
fn a_full_disk_never_starts_the_command() {
    needs_root!();
    let work = Work::new();
    // A filesystem of half a megabyte, in a mount namespace of its own.
    let script = format!(
        "mkdir small; unshare --mount --propagation private sh -c 'mount -t tmpfs -o size=512k small small; cd small; \
         unpack {} | isolate --pid {REST}; echo $?; ls -A'",
        busybox_image().display()
    );
    let outcome = work.sh(&script);
    outcome.expect(0, "125\n");
    assert!(
        outcome.stderr.contains("unpack: ") && outcome.stderr.contains("No space left on device"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn a_killed_unpack_never_starts_the_command_and_the_next_one_sweeps() {
    let work = Work::new();
    let script =
        format!("exec 2>errors; (echo $BASHPID >pid; exec unpack --quiet -) | isolate {} --pid {REST}", work.user());
    let mut command = work.command("bash");
    let mut child = command.arg("-c").arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("spawn");
    // Half of the image, and then the pipe stays open: unpack waits for more.
    let image = std::fs::read(busybox_image()).expect("the image");
    let mut stdin = child.stdin.take().expect("stdin");
    std::io::Write::write_all(&mut stdin, &image[..image.len() / 2]).expect("write");
    work.wait_until("unpack to have staged something", || !work.staging().is_empty());
    let pid = std::fs::read_to_string(work.join("pid")).expect("pid");
    work.sh(&format!("kill -9 {pid}")).expect(0, "");
    let output = child.wait_with_output().expect("wait");
    drop(stdin);
    let errors = std::fs::read_to_string(work.join("errors")).expect("errors");
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(125), &b""[..]), "{errors}");
    assert!(errors.contains("pivot: unpack did not finish"), "{errors}");
    assert!(!work.join("root").exists());

    let again = work.sh(&format!("unpack --quiet '{}'", busybox_image().display()));
    assert_eq!(again.status, 0, "{}", again.stderr);
    assert_eq!(work.staging(), Vec::<String>::new(), "the next run sweeps what the dead one left");
}

#[test]
fn a_root_of_another_image_is_refused_with_a_hint() {
    let work = Work::new();
    let other = work.join("other.tar");
    image_of(&other, "echo other >etc/image");
    assert_eq!(work.sh("unpack --quiet other.tar").status, 0);
    let outcome = work.sh(&format!("unpack '{}' | isolate {} --pid {REST}", busybox_image().display(), work.user()));
    outcome.expect(125, "");
    assert!(outcome.stderr.contains("unpack: hint: ") && outcome.stderr.contains("--replace"), "{}", outcome.stderr);
    work.sh("cat root/etc/image").expect(0, "other\n");

    let outcome = work.sh(&format!(
        "unpack --quiet --replace '{}' | isolate {} --pid -- pivot ./root -- cat /etc/image",
        busybox_image().display(),
        work.user()
    ));
    outcome.expect(0, "busybox\n");
}

#[test]
fn a_directory_that_is_no_root_of_unpacks_is_left_alone() {
    let work = Work::new();
    let outcome = work.sh(&format!(
        "mkdir root; echo mine >root/file; unpack '{}' | isolate {} --pid {REST}; echo $?; cat root/file",
        busybox_image().display(),
        work.user()
    ));
    outcome.expect(0, "125\nmine\n");
    assert!(outcome.stderr.contains("unpack: hint: "), "{}", outcome.stderr);
}

#[test]
fn a_truncated_debian_image_leaves_nothing() {
    let Some(image) = debian_image("xz") else { skip!("no Debian image") };
    let work = Work::new();
    let script = format!(
        "head -c 1000000 '{}' >short.tar.xz; unpack --quiet short.tar.xz | isolate {} --pid {REST}",
        image.display(),
        work.user()
    );
    work.sh(&script).expect(125, "");
    nothing_is_left(&work);
}
