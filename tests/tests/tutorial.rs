//! "Containers from scratch", step by step: each step with our tools, beside what util-linux does.

use chainroot_tests::{Work, busybox_image, needs_root};

/// The tutorial's first two steps: the image becomes a directory, with a marker file in it.
fn with_roots() -> Work {
    let work = Work::new();
    let script = format!(
        "cp '{}' img.tar && unpack --quiet img.tar ours >/dev/null && mkdir theirs && tar -xpf img.tar -C theirs && for r in ours theirs; do echo found me >$r/MARKER; done",
        busybox_image().display()
    );
    work.sh(&script).expect(0, "");
    work
}

/// Runs the same step both ways.
#[track_caller]
fn both(work: &Work, ours: &str, theirs: &str, expected: &str) {
    for (who, script) in [("ours", ours), ("theirs", theirs)] {
        let outcome = work.sh(script);
        assert_eq!((outcome.status, outcome.stdout.as_str()), (0, expected), "{who}: {script}\n{}", outcome.stderr);
    }
}

#[test]
fn step_1_extracting_gives_the_same_tree() {
    needs_root!();
    let work = with_roots();
    let list = |dir: &str| {
        work.sh(&format!(
            "cd {dir} && find . ! -name MARKER -printf '%p %y %m %U %G %s %T@ %l\\n' | grep -v '^\\. ' | sort"
        ))
        .stdout
    };
    assert_eq!(list("ours"), list("theirs"));
    assert!(list("ours").contains("./bin/busybox f 755 0 0"));
}

#[test]
fn step_2_a_chroot_still_sees_and_could_kill_the_hosts_processes() {
    needs_root!();
    let work = with_roots();
    // A process of the host's, seen from inside by its number; signal 0 asks whether it could be killed.
    let see = |root: &str| {
        format!(
            "sleep 1000 & unshare --mount sh -ec 'mount --make-rprivate /; mount -t proc proc {root}/proc; chroot {root} sh -c \"kill -0 $1 && tr \\\"\\\\0\\\" \\\" \\\" </proc/$1/cmdline\"' sh $!; kill $!"
        )
    };
    both(&work, &see("ours"), &see("theirs"), "sleep 1000 ");
}

#[test]
fn step_3_a_uts_namespace_changes_the_hostname_inside_only() {
    needs_root!();
    let work = with_roots();
    let before = work.sh("hostname").stdout;
    both(
        &work,
        "isolate --mount --uts -- sh -c 'hostname inside; hostname'; hostname",
        "unshare --mount --uts sh -c 'hostname inside; hostname'; hostname",
        &format!("inside\n{before}"),
    );
}

#[test]
fn step_4_pid_and_ipc_namespaces_and_a_new_proc_show_only_ones_own_processes() {
    needs_root!();
    let work = with_roots();
    let inside = "sh -c 'echo $$; set -- /proc/[0-9]*; echo $#; ipcs -q 2>/dev/null | grep -c 0x || :'";
    both(
        &work,
        &format!(
            "ipcmk -Q >id; isolate --mount --uts --pid --ipc --mount-proc -- {inside}; ipcrm -q $(grep -o '[0-9]*$' id)"
        ),
        &format!(
            "ipcmk -Q >id; unshare --mount --uts --pid --ipc --fork --mount-proc {inside}; ipcrm -q $(grep -o '[0-9]*$' id)"
        ),
        // The shell alone, and no queue of the host's.
        "1\n1\n0\n",
    );
}

#[test]
fn step_5_a_bind_mount_makes_the_marker_visible_in_the_namespace_only() {
    needs_root!();
    let work = with_roots();
    for (program, root) in [("isolate --mount --", "ours"), ("unshare --mount", "theirs")] {
        let script = format!(
            "mkdir bound; {program} sh -c 'mount --bind {root} bound; cat bound/MARKER'; ls bound | wc -l; rmdir bound"
        );
        work.sh(&script).expect(0, "found me\n0\n");
    }
}

#[test]
fn step_6_after_pivot_root_the_image_is_the_root() {
    needs_root!();
    let work = with_roots();
    both(
        &work,
        "mkdir -p ours/old; isolate --mount --uts --pid -- pivot --put-old /old ours -- sh -c 'cat /MARKER; test -d /old/proc/self && echo old is there'",
        "mkdir -p theirs/old; unshare --mount --uts --pid --fork sh -ec 'mount --bind theirs theirs; cd theirs; pivot_root . old; cd /; PATH=/bin; cat /MARKER; test -d /old/proc/self && echo old is there'",
        "found me\nold is there\n",
    );
}

#[test]
fn step_7_after_the_lazy_unmount_the_table_is_root_and_proc() {
    needs_root!();
    let work = with_roots();
    let look = "cat /MARKER; mount | cut -d \" \" -f 3; echo $$";
    both(
        &work,
        &format!("isolate --uts --ipc --pid -- pivot ours -- mountclean -- sh -c '{look}'"),
        &format!(
            "unshare --mount --uts --ipc --pid --fork sh -ec 'mount --rbind theirs theirs; cd theirs; pivot_root . .; PATH=/bin; mount -t proc proc /proc; umount -l /; exec sh -c \"$1\"' sh '{look}'"
        ),
        "found me\n/\n/proc\n1\n",
    );
}

#[test]
fn the_script_by_hand_gives_the_same_container() {
    needs_root!();
    let work = with_roots();
    let by_hand = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/by-hand");
    work.sh(&format!(
        "'{by_hand}' img.tar sh -c 'cat /etc/image; echo $$; mount | cut -d \" \" -f 3; ls /.. | head -n 1'"
    ))
    .expect(0, "busybox\n1\n/\n/proc\nbin\n");
}
