//! Every step is replaceable: the table of which combinations of our tools and others run the same
//! command with the same result, and which are refused, with the reason.

use chainroot_tests::{Work, busybox_image, have, needs_root};

const UNPACK: [(&str, &str); 3] = [
    ("unpack", "unpack --quiet img.tar >/dev/null"),
    ("tar", "mkdir -p root && tar -xpf img.tar -C root"),
    // A file that is mounted, with our mountclean in it already: nothing can be put there later.
    (
        MOUNTED,
        "mkdir tree root && tar -xpf img.tar -C tree && cp $(command -v mountclean) tree/host-mountclean &&
         mksquashfs tree file -quiet -no-progress >/dev/null && rm -r tree && mount -o ro file root",
    ),
];
const MOUNTED: &str = "squashfs";

const ISOLATE: [(&str, &str); 3] = [
    ("isolate", "isolate --pid --uts --"),
    ("unshare", "unshare --pid --fork --kill-child --uts --mount --propagation private --"),
    ("nothing", ""),
];

/// What comes to be `/`, and how the rest follows. In sh the command's words are "$@".
const PIVOT: [(&str, &str); 3] = [
    ("pivot", "pivot ./root --"),
    // Where nothing made a mount namespace, the shell has to.
    (
        "pivot_root",
        "MOUNTNS sh -ec 'mount --rbind root root; cd root; pivot_root . .; PATH=$PATH:/bin; exec \"$@\"' sh",
    ),
    ("chroot", "chroot ./root"),
];

/// Our mountclean after a foreign pivot is not found in the image: it comes in by a path.
const MOUNTCLEAN: [(&str, &str); 2] =
    [("mountclean", "MOUNTCLEAN --"), ("sh", "sh -ec 'mount -t proc proc /proc; umount -l UMOUNT; exec \"$@\"' sh")];

const COMMAND: &str = "sh -c 'cat /etc/image; mount | cut -d \" \" -f 3'";

/// What a combination is expected to do.
enum Expected {
    Runs,
    Refused(&'static [&'static str]),
    MakesNoSense,
}

fn expected(isolate: &str, pivot: &str, mountclean: &str) -> Expected {
    match (isolate, pivot, mountclean) {
        // In a chroot the mount table is not what it seems: mountclean refuses to vouch for it.
        (_, "chroot", "mountclean") => Expected::Refused(&["mountclean: ", "chroot"]),
        // umount -l of a chroot's / fails, as it is no mount point; without it there is nothing to compare.
        (_, "chroot", "sh") => Expected::MakesNoSense,
        // Without a mount namespace of its own, sh would unmount the host's /.
        ("nothing" | "isolate", "pivot_root", _) | (_, "pivot", _) | ("unshare", "pivot_root", _) => Expected::Runs,
        _ => unreachable!("{isolate} {pivot} {mountclean}"),
    }
}

#[test]
fn every_combination_that_makes_sense_gives_the_same_container() {
    needs_root!();
    for (unpack, make_root) in UNPACK {
        if unpack == MOUNTED && !have("mksquashfs") {
            eprintln!("skipped: no mksquashfs");
            continue;
        }
        for (isolate, isolate_line) in ISOLATE {
            for (pivot, pivot_line) in PIVOT {
                for (mountclean, mountclean_line) in MOUNTCLEAN {
                    let name = format!("{unpack} × {isolate} × {pivot} × {mountclean}");
                    let expected = expected(isolate, pivot, mountclean);
                    if matches!(expected, Expected::MakesNoSense) {
                        continue;
                    }
                    let work = Work::new();
                    let own_mounts = if isolate == "unshare" { "" } else { "unshare --mount --propagation private --" };
                    let pivot_line = pivot_line.replace("MOUNTNS", own_mounts);
                    // Our own pivot leaves the host's tree to our own mountclean alone: any other command comes
                    // after the detach, unless it is asked to keep it.
                    let (pivot_line, umount) = match (pivot, mountclean) {
                        ("pivot", "sh") => (pivot_line.replace("pivot", "pivot --keep-host"), "/"),
                        _ => (pivot_line, "/"),
                    };
                    let in_root = if pivot == "pivot" { "mountclean" } else { "/host-mountclean" };
                    let mountclean_line = mountclean_line.replace("MOUNTCLEAN", in_root).replace("UMOUNT", umount);
                    let script = format!(
                        "cp '{}' img.tar && {make_root} && {{ [ ! -w root ] || cp $(command -v mountclean) root/host-mountclean; }} && {isolate_line} {pivot_line} {mountclean_line} {COMMAND}",
                        busybox_image().display()
                    );
                    // Where only the chain sees the mount.
                    let outcome = match unpack == MOUNTED {
                        true => work.shell("unshare --mount --propagation private sh", &script),
                        false => work.sh(&script),
                    };
                    match expected {
                        Expected::Runs => assert_eq!(
                            (outcome.status, outcome.stdout.as_str()),
                            (0, "busybox\n/\n/proc\n"),
                            "{name}:\n{script}\n{}",
                            outcome.stderr
                        ),
                        Expected::Refused(words) => {
                            assert_eq!(
                                (outcome.status, outcome.stdout.as_str()),
                                (125, ""),
                                "{name}:\n{}",
                                outcome.stderr
                            );
                            for word in words {
                                assert!(outcome.stderr.contains(word), "{name}: no {word:?} in {}", outcome.stderr);
                            }
                        }
                        Expected::MakesNoSense => unreachable!(),
                    }
                }
            }
        }
    }
}

#[test]
fn a_root_of_tars_or_a_directory_can_be_pivoted_into_without_isolate_or_mountclean() {
    needs_root!();
    for make_root in ["unpack --quiet img.tar >/dev/null", "mkdir -p root && tar -xpf img.tar -C root"] {
        for isolate in ["isolate --pid --uts --", "unshare --pid --fork --uts --", ""] {
            let work = Work::new();
            let script = format!(
                "cp '{}' img.tar && {make_root} && {isolate} pivot ./root -- cat /etc/image",
                busybox_image().display()
            );
            work.sh(&script).expect(0, "busybox\n");
        }
    }
}

#[test]
fn bubblewrap_and_runc_can_follow_or_replace_links() {
    needs_root!();
    let work = Work::new();
    if chainroot_tests::have("bwrap") {
        let script = format!(
            "root=$(unpack --quiet '{}') && bwrap --bind $root / --proc /proc --unshare-pid cat /etc/image && isolate --uts --hostname inside -- bwrap --bind $root / --proc /proc hostname",
            busybox_image().display()
        );
        work.sh(&script).expect(0, "busybox\ninside\n");
    } else {
        eprintln!("skipped: no bwrap");
    }
}
