//! The same with the old mount calls: a seccomp filter answers ENOSYS for the new ones, or EPERM, as those of older
//! container runtimes do for every call that they do not know.

use std::os::unix::process::CommandExt;

use chainroot_tests::scene::{has_overlay_for, scene, ways, ways_for};
use chainroot_tests::{Outcome, Work, have};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

/// open_tree, move_mount, fsopen, fsconfig, fsmount, fspick, mount_setattr, close_range, statmount,
/// listmount, open_tree_attr: the same numbers on every architecture.
const NEW: [i64; 11] = [428, 429, 430, 431, 432, 433, 442, 436, 457, 458, 467];
/// The attributes came later than the rest.
const SINCE_5_12: [i64; 4] = [442, 457, 458, 467];
/// statmount and listmount alone.
const LISTING: [i64; 2] = [457, 458];

fn without(calls: &[i64], work: &Work, script: &str) -> Outcome {
    refusing(nix::libc::ENOSYS, calls, work, script)
}

fn refusing(errno: i32, calls: &[i64], work: &Work, script: &str) -> Outcome {
    let rules = calls.iter().map(|&call| (call, vec![])).collect();
    let architecture = TargetArch::try_from(std::env::consts::ARCH).unwrap();
    let refused = SeccompAction::Errno(errno as u32);
    let filter: BpfProgram =
        SeccompFilter::new(rules, SeccompAction::Allow, refused, architecture).unwrap().try_into().unwrap();
    let mut command = work.command("sh");
    command.args(["-c", script]);
    // SAFETY: two system calls on memory that was made before the fork.
    unsafe {
        command.pre_exec(move || seccompiler::apply_filter(&filter).map_err(std::io::Error::other));
    }
    work.output(command, b"")
}

/// mountinfo without the ids, which differ from run to run, and without options of the filesystem.
const TABLE: &str = "cut -d\" \" -f4-6 /proc/self/mountinfo | sort";

#[test]
fn both_paths_give_the_same_mount_table() {
    for way in ways() {
        let options = [
            "",
            "--read-only",
            "--ephemeral",
            "--overlay changes",
            "--read-only --bind data:/mnt:ro,nosuid --bind file:/etc/image --tmpfs /tmp:size=1m --dev --etc hosts,hostname",
            "--ephemeral --read-only --bind data:/a/b --tmpfs /a/b/c",
            "--put-old /mnt",
            "--keep-host",
            "--chdir /etc",
        ];
        for option in options.into_iter().filter(|option| has_overlay_for(way, option)) {
            let work = scene();
            work.sh("mkdir -p data/sub data/c; echo file >file");
            let mounted = way.replace("--pid", "--pid --mount");
            let script = format!(
                "{mounted} sh -c 'mount -t tmpfs tmpfs data/sub; exec pivot {option} root -- mountclean --mask -- sh -c \"{}; pwd\"'",
                TABLE.replace('"', "\\\"")
            );
            let new = work.sh(&script);
            assert_eq!(new.status, 0, "{way} {option}: {}", new.stderr);
            for refused in [&NEW[..], &SINCE_5_12[..], &LISTING[..]] {
                let old = without(refused, &work, &script);
                assert_eq!(
                    (old.status, &old.stdout),
                    (0, &new.stdout),
                    "{way} {option} without {refused:?}: {}",
                    old.stderr
                );
            }
        }
    }
}

/// Each of the calls on its own, and all of them with openat2 (437): which a runtime knows depends on its age.
#[test]
fn a_filter_that_answers_eperm_is_not_taken_for_a_lack_of_privilege() {
    let each = NEW.into_iter().chain([437]).map(|call| vec![call]);
    let sets: Vec<Vec<i64>> = each.chain([NEW.into_iter().chain([437]).collect()]).collect();
    for way in ways() {
        let options = [
            "--read-only --bind data:/mnt/new:ro,nosuid --bind file:/etc/image --tmpfs /tmp:size=1m --dev --etc hosts,hostname",
            "--ephemeral --symlink /x:/etc/sub/link",
            "--put-old /mnt",
        ];
        for option in options.into_iter().filter(|option| has_overlay_for(way, option)) {
            let work = scene();
            work.sh("mkdir -p data/sub; echo file >file; ln -s /etc root/link");
            let script = format!("{way} pivot {option} root -- mountclean -- sh -c '{TABLE}; cat /link/image'");
            let real = work.sh(&script);
            assert_eq!(real.status, 0, "{way} {option}: {}", real.stderr);
            // One alone matters for the one that has all kinds of mounts.
            for refused in if option.contains("--read-only") { &sets[..] } else { &sets[sets.len() - 1..] } {
                let old = refusing(nix::libc::EPERM, refused, &work, &script);
                let outcome = (old.status, &old.stdout);
                assert_eq!(outcome, (0, &real.stdout), "{way} {option} without {refused:?}: {}", old.stderr);
            }
        }
    }
}

#[test]
fn what_has_no_old_way_is_refused_with_the_name_of_the_filter() {
    let work = scene();
    for way in ways() {
        // pidfd_open
        refusing(nix::libc::EPERM, &[434], &work, &format!("{way} echo started")).expect_refusal(&[
            "pidfd",
            "Operation not permitted",
            "a seccomp filter around us refuses it",
        ]);
    }
    work.sh("tar -C root -cf image.tar .").expect(0, "");
    refusing(nix::libc::EPERM, &[437], &work, "unpack --quiet image.tar new >path")
        .expect_refusal(&["openat2: Operation not permitted", "a seccomp filter around us refuses it"]);
    work.sh("ls -A").expect(0, "image.tar\npath\nroot\n");
}

/// What the proof finds, and what it passes, with either source of the mount table.
#[test]
fn the_proof_is_the_same_from_mountinfo_and_with_the_old_calls() {
    for way in ways() {
        let by_hand = |before: &str, after: &str| {
            format!(
                "mkdir -p root/tools; cp $(command -v mountclean) root/tools/; {} sh -ec 'mount --rbind root root; {before}; cd root; pivot_root . .; {after}'",
                way.replace("--pid", "--pid --mount")
            )
        };
        let proof = "exec /tools/mountclean -- echo started";
        let cases: [(String, &[&str]); 6] = [
            (by_hand("exec 9<.", proof), &["descriptor 9 is a directory outside the root"]),
            (by_hand("exec 9</proc/self/ns/mnt", proof), &["descriptor 9 is a namespace outside the root"]),
            (
                by_hand(
                    "mount -t tmpfs tmpfs root/mnt; mkdir root/mnt/x; mount -t tmpfs tmpfs root/mnt/x",
                    "exec /tools/mountclean --keep-mount /mnt/x -- echo started",
                ),
                &["left at /mnt", "--keep-mount /mnt lets it stay"],
            ),
            (
                by_hand(":", proof).replace("cd root; pivot_root . .", "r=$PWD/root; cd /etc; pivot_root $r $r"),
                &["the working directory is in the host\'s tree"],
            ),
            (by_hand(":", proof).replace("cd root; pivot_root . .; exec", "exec chroot root"), &["hint: "]),
            (
                format!(
                    "{way} pivot --bind .:/mnt/new --tmpfs /tmp --dev --ephemeral root -- mountclean -- true && {way} pivot --bind .:/mnt root -- mountclean --keep-mount / -- true"
                ),
                &["--keep-mount /: that would keep everything"],
            ),
        ];
        for (script, words) in cases {
            let script = if has_overlay_for(way, &script) { script } else { script.replace("--ephemeral", "") };
            let work = scene();
            work.sh(&script).expect_refusal(words);
            for refused in [&NEW[..], &LISTING[..]] {
                let work = scene();
                without(refused, &work, &script).expect_refusal(words);
            }
        }
    }
}

#[test]
fn descriptors_are_closed_without_close_range_too() {
    for way in ways() {
        let work = scene();
        work.sh("echo five >five; echo seven >seven");
        let script = format!("{way} pivot --keep-fd 7 root -- sh -c 'cat <&5; cat <&7' 2>/dev/null 5<five 7<seven 9</");
        without(&NEW, &work, &script).expect(0, "seven\n");
    }
}

#[test]
fn the_lock_holds_without_the_new_calls_or_there_is_none() {
    for way in ways_for("--ephemeral") {
        let work = scene();
        for refused in [&NEW[..], &SINCE_5_12[..]] {
            // What it must never be is a door.
            let script = format!(
                "{way} pivot --ephemeral root -- mountclean -- sh -c 'for fd in /proc/self/fd/*; do [ -d $fd/ ] && ls $fd/.. | grep -c root; done; echo done'"
            );
            let outcome = without(refused, &work, &script);
            assert!(outcome.stdout == "done\n" || outcome.stdout == "1\ndone\n", "{}", outcome.stdout);
            assert_eq!(outcome.status, 0, "{}", outcome.stderr);
        }
    }
}

#[test]
fn nothing_writes_to_a_read_only_root_through_the_lock() {
    for way in ways() {
        let work = scene();
        for refused in [&[][..], &NEW, &SINCE_5_12] {
            let script = format!(
                "{way} pivot --read-only root -- mountclean -- sh -c 'for fd in /proc/self/fd/*; do touch $fd/written; done; echo done'; ls root | grep written"
            );
            without(refused, &work, &script).expect(1, "done\n");
        }
    }
}

#[test]
fn refusals_are_the_same_with_the_old_calls() {
    for way in ways() {
        let work = scene();
        work.sh("mkdir data; echo f >file");
        let refused = |options: &str, words: &[&str]| {
            without(&NEW, &work, &format!("{way} pivot {options} root -- true")).expect_refusal(words);
        };
        refused("--bind ./file:/mnt", &["/mnt in the root is a directory, and SRC is a file"]);
        refused("--bind ./none:/mnt", &["./none", "hint: "]);
        refused("--put-old none", &["none: in the root"]);
    }
}

#[test]
fn without_a_pivot_both_paths_unmount_everything() {
    chainroot_tests::needs_root!();
    let work = scene();
    let script = format!("isolate --pid -- mountclean --mask --sys=ro -- sh -c '{TABLE}'");
    let new = work.sh(&script);
    assert_eq!(new.status, 0, "{}", new.stderr);
    let old = without(&NEW, &work, &script);
    assert_eq!((old.status, &old.stdout), (0, &new.stdout), "{}", old.stderr);
}

/// lowerdir+ is of Linux 6.8: before that, more layers than one value takes are mounted by the old call.
#[test]
fn a_stack_of_many_layers_is_mounted_by_either_call() {
    for way in ways_for("many.mstack") {
        let work = scene();
        work.sh(
            "mkdir many.mstack; mv root many.mstack/layer@0; n=1
            while [ $n -lt 150 ]; do mkdir -p many.mstack/layer@$n/etc; echo $n >many.mstack/layer@$n/etc/top; n=$((n+1)); done",
        )
        .expect(0, "");
        let look = "many.mstack -- sh -c 'cat /etc/image /etc/top'";
        for option in ["", "--ephemeral"] {
            without(&NEW, &work, &format!("{way} pivot {option} {look}")).expect(0, "busybox\n149\n");
        }
        if have("strace") {
            let old = "strace -o log -e trace=fsconfig -e inject=fsconfig:error=EINVAL:when=2+";
            work.sh(&format!("{way} {old} pivot {look}; grep -c 'lowerdir+.*INJECTED' log"))
                .expect(0, "busybox\n149\n1\n");
        }
    }
}
