//! After the pivot nothing leads back to the host: no path, no descriptor, no second chroot, no unmount.

mod scene;

use chainroot_tests::{is_root, kernel_at_least, needs_root, skip};
use scene::{scene, ways};

#[test]
fn no_path_leads_to_the_host() {
    for way in ways() {
        let work = scene();
        // A file that only the host has, at a path that leads to it from the host's root.
        work.sh("echo host >marker");
        let marker = work.join("marker");
        let marker = marker.display();
        let inside = format!(
            "for p in '' /.. /../.. /proc/self/root /proc/self/cwd /proc/1/root /proc/self/fd/100 /proc/self/fd/100/.. . .. ../..; do \
             cat $p{marker} $p/../..{marker} 2>/dev/null; done; \
             for fd in /proc/self/fd/*; do cat $fd/{marker} $fd/..{marker} $fd/../../../../../..{marker} 2>/dev/null; done; \
             cd /tmp; mkdir jail; chroot jail true 2>/dev/null; echo done"
        );
        work.sh(&format!("{way} pivot root -- mountclean -- sh -c '{inside}'")).expect(0, "done\n");
        let without_proc = format!("cat /..{marker} 2>/dev/null; cat .{marker} ..{marker} 2>/dev/null; echo done");
        work.sh(&format!("{way} pivot root -- sh -c '{without_proc}'")).expect(0, "done\n");
    }
}

/// chroot(2): a process that keeps a directory outside of its new root climbs out of it. It gets to
/// the root of its mount namespace, which has to be the image.
#[test]
fn a_second_chroot_climbs_to_the_image_and_no_further() {
    for way in ways() {
        let work = scene();
        work.sh("echo host >marker");
        let marker = work.join("marker");
        // busybox has no such program; perl on the host is not in the image. The shell's cwd is the held directory.
        let inside = format!(
            "mkdir -p /jail/bin; cp /bin/busybox /jail/bin/; cd /; \
             chroot /jail /bin/busybox sh -c \"cd /proc/self/cwd 2>/dev/null; cd ../../../../..; /bin/busybox cat .{m} 2>/dev/null; echo out\"; \
             umount -l / 2>/dev/null; cat {m} /..{m} 2>/dev/null; echo done",
            m = marker.display()
        );
        work.sh(&format!("{way} pivot root -- sh -c '{inside}'")).expect(0, "out\ndone\n");
    }
}

#[test]
fn unmounting_the_root_and_entering_the_namespace_again_shows_no_host() {
    for way in ways() {
        let work = scene();
        work.sh("echo host >marker");
        let marker = work.join("marker");
        let inside = format!(
            "umount -l / ; nsenter --mount=/proc/self/ns/mnt cat {0} 2>/dev/null; nsenter --mount=/proc/self/ns/mnt cat /etc/image 2>/dev/null; echo done",
            marker.display()
        );
        let outcome = work.sh(&format!("{way} pivot root -- mountclean -- sh -c '{inside}' 2>/dev/null"));
        assert!(!outcome.stdout.contains("host\n"), "{}", outcome.stdout);
        assert!(outcome.stdout.ends_with("done\n"), "{}", outcome.stderr);
    }
}

#[test]
fn inherited_descriptors_are_closed_but_for_those_that_are_named() {
    for way in ways() {
        let work = scene();
        work.sh("echo five >five; echo seven >seven");
        let command = "sh -c 'cat <&5; cat <&7' 2>/dev/null";
        let run = |options: &str| work.sh(&format!("{way} pivot {options} root -- {command} 5<five 7<seven 9</"));
        assert_eq!(run("").stdout, "");
        assert_eq!(run("--keep-fd 7").stdout, "seven\n");
        assert_eq!(run("--keep-fd 7 --keep-fd 5").stdout, "five\nseven\n");
        work.sh(&format!("{way} pivot --keep-fd 8 root -- true"))
            .expect_refusal(&["--keep-fd 8", "no such descriptor"]);
    }
}

#[test]
fn the_only_directory_that_is_passed_on_is_the_lock_and_it_is_no_door() {
    // Before Linux 5.12 no copy of a mount can be made read-only without attaching it, and there is no lock.
    let lock = if kernel_at_least(5, 12) { "100\n/\nread-only\n" } else { "read-only\n" };
    for way in ways() {
        let work = scene();
        work.sh("echo host >marker");
        let inside = "for fd in /proc/self/fd/*; do [ -d $fd/ ] && echo ${fd##*/}; done; readlink /proc/self/fd/100; \
             ls /proc/self/fd/100/marker /proc/self/fd/100/../marker /proc/self/fd/100/../../marker 2>/dev/null; \
             touch /proc/self/fd/100/x 2>/dev/null || echo read-only";
        for option in ["", "--ephemeral"] {
            work.sh(&format!("{way} pivot {option} root -- mountclean -- sh -c '{inside}' 9</ 8<. ")).expect(0, lock);
        }
    }
}

#[test]
fn a_directory_on_a_standard_descriptor_is_refused() {
    for way in ways() {
        let work = scene();
        for (redirection, name) in [("0<.", "standard input"), ("1<.", "standard output"), ("2<.", "")] {
            let outcome = work.sh(&format!("{way} pivot root -- echo started {redirection}"));
            assert_eq!((outcome.status, outcome.stdout.as_str()), (125, ""), "{redirection}: {}", outcome.stderr);
            assert!(outcome.stderr.contains(name), "{redirection}: {}", outcome.stderr);
        }
        work.sh(&format!("{way} pivot --keep-fd 0 root -- echo started 0<.")).expect(0, "started\n");
        work.sh(&format!("{way} pivot root -- echo started 0</proc/self/ns/mnt"))
            .expect_refusal(&["standard input is a namespace", "--keep-fd 0"]);
    }
}

#[test]
fn the_host_is_seen_only_where_it_was_asked_for() {
    for way in ways() {
        let work = scene();
        work.sh("echo host >marker");
        let marker = work.join("marker");
        let marker = marker.display();
        work.sh(&format!("{way} pivot --keep-host root -- cat /..{marker}")).expect(0, "host\n");
        work.sh(&format!(
            "{way} pivot --put-old /mnt root -- sh -c 'cat /mnt{marker}; cat /..{marker} 2>/dev/null; :'"
        ))
        .expect(0, "host\n");
        work.sh(&format!("{way} pivot --put-old none root -- true")).expect_refusal(&["none: in the root", "hint: "]);
        work.sh(&format!("ln -s {0} root/out; {way} pivot --put-old /out root -- true", work.path().display()))
            .expect_refusal(&["/out: in the root"]);
        work.sh(&format!("{way} pivot --put-old /mnt root -- mountclean -- sh -c 'mount | wc -l; ls /mnt | wc -l'"))
            .expect(0, "2\n0\n");
        work.sh(&format!(
            "{way} pivot --keep-host root -- mountclean -- sh -c 'mount | wc -l; cat /..{marker} 2>/dev/null; :'"
        ))
        .expect(0, "2\n");
    }
}

#[test]
fn the_lock_lasts_as_long_as_any_process_of_the_container() {
    if !kernel_at_least(5, 12) {
        skip!("no lock before Linux 5.12");
    }
    for way in ways() {
        let work = scene();
        for option in ["", "--ephemeral", "--read-only"] {
            let script = format!(
                "mkfifo up down; {way} pivot --no-handoff {option} root -- sh -c 'echo up; cat' <down >up & exec 3>down; read _ <up; \
                 flock --nonblock --exclusive root true; echo $?; exec 3>&-; wait; flock --nonblock --exclusive root true; echo $?; rm up down"
            );
            work.sh(&script).expect(0, "1\n0\n");
        }
        work.sh(&format!("exec 9<root; flock --exclusive 9; {way} pivot root -- echo started"))
            .expect_refusal(&["root: another program is about to remove or replace it", "hint: "]);
    }
}

#[test]
fn chdir_is_resolved_inside_the_root() {
    for way in ways() {
        let work = scene();
        work.sh("ln -s ../../../../../../../../../../etc root/link");
        work.sh(&format!("{way} pivot --chdir /link/../tmp root -- pwd")).expect(0, "/tmp\n");
        work.sh(&format!("{way} pivot --chdir ../../.. root -- mountclean -- sh -c 'pwd; ls etc/image'"))
            .expect(0, "/\netc/image\n");
        work.sh(&format!("{way} pivot --chdir /none root -- echo started"))
            .expect_refusal(&["/none: in the root", "No such file"]);
    }
}

#[test]
fn the_tools_that_follow_are_the_hosts_and_cannot_be_written_from_inside() {
    for way in ways() {
        let work = scene();
        work.sh("for t in mountclean isolate pivot; do printf '#!/bin/sh\\necho image\\n' >root/bin/$t; chmod +x root/bin/$t; done 2>/dev/null; mkdir root/usr/local root/usr/local/bin; cp root/bin/mountclean root/usr/local/bin");
        work.sh(&format!("{way} pivot root -- mountclean -- isolate -- echo host")).expect(0, "host\n");
        work.sh(&format!("{way} pivot root -- env mountclean -- true")).expect(0, "image\n");
    }
}

/// The issue's own list, by a process with every capability of the host's root.
#[test]
fn real_root_finds_no_descriptor_mount_or_directory_of_the_hosts() {
    needs_root!();
    assert!(is_root());
    let work = scene();
    let inside = "cut -d\" \" -f5 /proc/self/mountinfo | sort | xargs; (readlink /proc/self/root; readlink /proc/self/cwd) | xargs; \
         for n in 0 1 2; do readlink /proc/self/fd/$n; done | grep -c -e pipe: -e /dev/null -e socket:";
    work.sh(&format!("isolate --pid -- pivot root -- mountclean -- sh -c '{inside}'")).expect(0, "/ /proc\n/ /\n3\n");
}
