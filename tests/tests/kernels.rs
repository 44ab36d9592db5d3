//! What a kernel lacks is done otherwise, or is an error that names it and the version that has it.
//! scripts/test-kernels runs these on kernels that do lack some of it; here a filter stands for them.

use chainroot_tests::older::{without, without_flag};
use chainroot_tests::{Work, busybox_image, is_root, kernel_at_least, needs_root};
use nix::libc::{CLONE_NEWTIME, CLONE_NEWUTS, SYS_flock, SYS_openat2, SYS_pidfd_open, SYS_setns, SYS_unshare, c_long};

/// The same numbers on every architecture; the older of the two libcs knows them not.
const LANDLOCK: [c_long; 3] = [444, 445, 446];
const STATMOUNT: [c_long; 2] = [457, 458];

fn with_root() -> Work {
    let work = Work::new();
    assert_eq!(work.sh(&format!("unpack --quiet '{}'", busybox_image().display())).status, 0);
    work
}

#[test]
fn without_openat2_unpack_names_the_version_that_has_it_and_pivot_goes_name_by_name() {
    let work = with_root();
    let image = busybox_image();
    let outcome = without(&work, &[SYS_openat2], &format!("unpack --quiet '{}' other", image.display()));
    assert_eq!(outcome.status, 125, "{outcome:?}");
    assert!(outcome.stderr.contains("openat2") && outcome.stderr.contains("Linux 5.6"), "{outcome:?}");
    work.sh("ls -A").expect(0, "root\nroot.image.json\n");
    let line = format!("isolate {} --pid -- pivot --tmpfs /tmp root -- echo started", work.user());
    without(&work, &[SYS_openat2], &line).expect(0, "started\n");
}

#[test]
fn without_landlock_unpack_is_contained_all_the_same_and_says_nothing() {
    let work = Work::new();
    let script = format!(
        "ln -s ../outside link && mkdir outside && tar -cf hostile.tar link && rm link && mkdir link && \
         echo x >link/file && tar -rf hostile.tar link/file && unpack --quiet hostile.tar hostile; ls outside; \
         unpack '{}' 2>&1 >/dev/null",
        busybox_image().display()
    );
    let outcome = without(&work, &LANDLOCK, &script);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    let (path, rest) = outcome.stdout.split_once('\n').unwrap_or_default();
    assert!(
        path.ends_with("/hostile") && !rest.lines().any(|line| line == "file") && !rest.contains("andlock"),
        "{outcome:?}"
    );
}

#[test]
fn without_locks_unpack_says_so_once_and_leaves_nothing_beside_root() {
    let work = Work::new();
    let line = format!("unpack '{}' root", busybox_image().display());
    let outcome = without(&work, &[SYS_flock], &line);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert_eq!(outcome.stderr.matches("no locks here").count(), 1, "{outcome:?}");
    work.sh("ls -A").expect(0, "root\nroot.image.json\n");
}

#[test]
fn without_statmount_the_proof_reads_mountinfo() {
    let work = with_root();
    let chain = format!("isolate {} --pid -- pivot root -- mountclean --", work.user());
    let script = format!("{chain} sh -c 'mount | wc -l'");
    without(&work, &STATMOUNT, &script).expect(0, "2\n");
}

#[test]
fn without_time_namespaces_isolate_names_the_version_that_has_them() {
    needs_root!();
    let work = Work::new();
    // Such a kernel has no file for them either.
    let script = "exec unshare --mount sh -c 'mount -t tmpfs none /proc/$$/ns && exec isolate --time true'";
    without_flag(&work, SYS_unshare, 0, CLONE_NEWTIME as u64, script).expect_refusal(&[
        "this kernel has no time namespaces",
        "hint: they need Linux 5.6 or newer",
        "CONFIG_TIME_NS",
    ]);
}

#[test]
fn without_pidfds_isolate_names_the_version_that_has_them() {
    let work = Work::new();
    let line = format!("isolate {} --pid true", work.user());
    without(&work, &[SYS_pidfd_open], &line).expect_refusal(&["pidfd", "hint: this needs pidfd_open of Linux 5.3"]);
}

#[test]
fn without_several_namespaces_at_once_a_join_names_the_version_that_has_it() {
    let work = Work::new();
    let user = work.user();
    // Before that a pidfd is no file for setns(2), whichever namespaces are asked for.
    let script = format!(
        "mkfifo up down; isolate {user} --uts --net sh -c 'echo >up; read x <down' & read x <up; \
         isolate --join $! true; status=$?; echo >down; wait; exit $status"
    );
    without_flag(&work, SYS_setns, 1, CLONE_NEWUTS as u64, &script).expect_refusal(&[
        "setns",
        "hint: a process's namespaces can be entered since Linux 5.8",
        "--join uts=/proc/",
    ]);
}

#[test]
fn an_overlay_of_an_ordinary_user_works_or_names_the_version_that_has_it() {
    let work = with_root();
    let line = "isolate --user --map-root --pid -- pivot --ephemeral root -- sh -c 'rm -r /etc && mkdir /etc && ls -A /etc && echo done'";
    let outcome = work.sh(line);
    if kernel_at_least(6, 6) {
        outcome.expect(0, "done\n");
    } else if kernel_at_least(5, 11) {
        // Files can be changed, and why directories cannot be removed was said before.
        assert!(outcome.status != 0 && outcome.stderr.contains("since Linux 6.6"), "{outcome:?}");
        let changed = work.sh(&line.replace("rm -r /etc && mkdir /etc && ls -A /etc", "echo >/etc/new"));
        assert_eq!((changed.status, changed.stdout.as_str()), (0, "done\n"), "{changed:?}");
    } else {
        outcome.expect_refusal(&["hint: an overlay in a user namespace needs Linux 5.11 or later"]);
    }
    if is_root() {
        work.sh(&line.replace("--user --map-root ", "")).expect(0, "done\n");
    }
}
