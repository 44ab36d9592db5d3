//! After the pivot nothing leads back to the host: no path, no descriptor, no second chroot, no unmount.

use chainroot_tests::scene::{has_overlay_for, scene, ways};
use chainroot_tests::{kernel_at_least, needs_root};

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
/// the root of its mount namespace, which has to be the image. nsenter(1) keeps its --wd that way.
#[test]
fn a_second_chroot_climbs_to_the_image_and_no_further() {
    for way in ways() {
        for mountclean in ["", "mountclean --"] {
            let work = scene();
            work.sh("echo host >marker");
            let marker = work.join("marker");
            let climb = format!("cd ../../../../../..; ./bin/cat ./etc/image .{m} ./..{m}", m = marker.display());
            let inside = format!(
                "mkdir -p /jail/bin; cp /bin/busybox /jail/bin/sh; ls /etc/image; \
                 nsenter -r/jail -w/tmp /bin/sh -c \"ls /etc/image; {climb}\" 2>/dev/null; echo done"
            );
            // In the jail there is no /etc/image; outside of it there is, and no marker anywhere.
            work.sh(&format!("{way} pivot root -- {mountclean} sh -c '{inside}'"))
                .expect(0, "/etc/image\nbusybox\ndone\n");
        }
    }
}

/// With its own copy of the mounts a process keeps a /proc to enter by, once the container's root is gone.
#[test]
fn unmounting_the_root_and_entering_the_namespace_again_shows_no_host() {
    for way in ways() {
        let work = scene();
        work.sh("echo host >marker");
        let marker = work.join("marker");
        let inside = format!(
            "unshare -m sh -c \"nsenter -m/proc/1/ns/mnt umount -l /; echo \\$?; nsenter -m/proc/1/ns/mnt cat /etc/image {0} /..{0}\"; :",
            marker.display()
        );
        let outcome = work.sh(&format!("{way} pivot root -- mountclean -- sh -c '{inside}' 2>/dev/null"));
        // In a user namespace of the container's own the kernel does not unmount it; otherwise nothing is found there
        // any more, or, by an older kernel, still the image.
        let expected: &[&str] = if way.contains("user") { &["1\nbusybox\n"] } else { &["0\n", "0\nbusybox\n"] };
        assert!(expected.contains(&outcome.stdout.as_str()), "{way}: {}", outcome.stdout);
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
        // Nor does the number of one that isolate has lent to pivot.
        for number in [3, 4, 5, 6, 8] {
            work.sh(&format!("exec 3<&- 4<&- 5<&- 6<&- 8<&-; {way} pivot --keep-fd {number} root -- true"))
                .expect_refusal(&[&format!("--keep-fd {number}"), "no such descriptor"]);
        }
    }
}

#[test]
fn no_directory_is_passed_on_and_the_lock_on_the_receipt_is_no_door() {
    // Before Linux 5.12 no copy of a mount can be made read-only without attaching it, and there is no lock.
    let lock = if kernel_at_least(5, 12) { "{}\n" } else { "" };
    for way in ways() {
        let work = scene();
        work.sh("echo host >marker; echo '{}' >root.image.json");
        let inside = "for fd in /proc/self/fd/*; do [ -d $fd/ ] && echo ${fd##*/}; done; cat <&100 2>/dev/null; \
             ls /proc/self/fd/100/marker /proc/self/fd/100/../marker /proc/self/fd/100/../../marker 2>/dev/null; \
             (echo x >/proc/self/fd/100) 2>/dev/null; chmod 777 /proc/self/fd/100 2>/dev/null || echo read-only";
        for option in ["", "--ephemeral"] {
            if !has_overlay_for(way, option) {
                continue;
            }
            work.sh(&format!("{way} pivot {option} root -- mountclean -- sh -c '{inside}' 9</ 8<. "))
                .expect(0, &format!("{lock}read-only\n"));
        }
        work.sh("cat root.image.json; stat -c %a root.image.json").expect(0, "{}\n644\n");
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

/// As who removes the root locks its receipt.
const ALONE: &str = "python3 -c 'import fcntl; fcntl.lockf(open(\"root.image.json\", \"r+\"), fcntl.LOCK_EX | fcntl.LOCK_NB)' \
     2>/dev/null && echo free || echo held";

#[test]
fn the_lock_lasts_as_long_as_any_process_of_the_container() {
    // Before Linux 5.12 there is no lock.
    let options = if kernel_at_least(5, 12) { &["", "--ephemeral", "--read-only"][..] } else { &[] };
    for way in ways() {
        let work = scene();
        work.sh("echo '{}' >root.image.json");
        for option in options {
            let script = format!(
                "mkfifo up down; {way} pivot --no-handoff {option} root -- sh -c 'echo up; cat' <down >up & exec 3>down; read _ <up; \
                 {ALONE}; exec 3>&-; wait; {ALONE}; rm up down"
            );
            work.sh(&script).expect(0, "held\nfree\n");
        }
    }
}

/// A process that can open a directory can lock it (flock(2)): a container what it is given of ROOT, other users what
/// they can read.
#[test]
fn nobody_who_cannot_write_the_receipt_keeps_others_from_starting() {
    for way in ways() {
        let work = scene();
        work.sh("echo '{}' >root.image.json");
        let locked = "for dir in / /bin /proc/self/fd/100; do exec 9<$dir; flock -xn 9; done; echo up; cat";
        let script = format!(
            "mkfifo up down; {way} pivot --no-handoff root -- mountclean -- bash -c '{locked}' <down >up & exec 3>down; read _ <up; \
             exec 9<root; flock -xn 9; exec 8<root.image.json; flock -xn 8; \
             timeout 20 {way} pivot --no-handoff root -- echo started; exec 3>&-; wait; rm up down"
        );
        let outcome = work.sh(&script.replace("bash", "sh"));
        assert_eq!((outcome.status, outcome.stdout.as_str()), (0, "started\n"), "{}", outcome.stderr);
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

/// By a process with every capability of the host's root, and no mountclean: it mounts a /proc itself,
/// and has files of the host's on 0, 1 and 2.
#[test]
fn real_root_finds_no_descriptor_mount_or_directory_of_the_hosts() {
    needs_root!();
    let work = scene();
    work.sh("echo host >marker; echo input >input; echo '{}' >root.image.json");
    let marker = work.join("marker");
    // Every way on the list, from every place; what it finds of the host's it says on descriptor 1.
    let inside = r#"
        try() { for path in "$@"; do [ ! -e "$path" ] || echo "found $path"; done; }
        routes() {
            try MARKER /..MARKER /../../../..MARKER
            for link in /proc/self/root /proc/self/cwd /proc/1/root /proc/1/cwd /proc/self/task/*/root \
                /proc/self/fd/* /proc/1/fd/*; do
                try $link/MARKER $link/..MARKER $link/../../../../../../..MARKER $link/../marker
            done
            (cd /proc/self/cwd/../../.. && try .MARKER ..MARKER)
            (cd /tmp && try ../../../..MARKER)
        }
        mount -t proc proc /proc
        echo "mounts: $(cut -d" " -f5 /proc/self/mountinfo | sort | xargs)"
        echo "root and directory: $(readlink /proc/self/root) $(readlink /proc/self/cwd)"
        echo "descriptors: $(for fd in /proc/self/fd/*; do [ -d $fd/ ] && readlink $fd; done | xargs)"
        routes
        # The host's own files on 0 to 2 are data, and lead nowhere.
        read -r line </proc/self/fd/0; echo "0: $line"
        chroot / sh -c "$(cat /routes); routes"
        umount / /..
        # From a copy of the mounts, in which there is a /proc still.
        unshare -m sh -c "$(cat /routes)
            nsenter -m/proc/1/ns/mnt umount -l / && echo unmounted
            routes
            nsenter -m/proc/1/ns/mnt cat MARKER /..MARKER"
        :
    "#;
    let inside = inside.replace("MARKER", &marker.display().to_string());
    let (begin, end) = (inside.find("try()").unwrap(), inside.find("mount -t proc").unwrap());
    std::fs::write(work.join("root/routes"), &inside[begin..end]).unwrap();
    std::fs::write(work.join("root/inside"), inside).unwrap();
    for option in ["", "--read-only --tmpfs /tmp", "--ephemeral", "--overlay changes"] {
        let outcome = work
            .sh(&format!("isolate --pid -- pivot {option} root -- sh /inside 0<input 1>output 2>>errors; cat output"));
        // The lock on the directory of changes, on a mount that is attached nowhere; before 5.12 no copy of a mount can be
        // made read-only.
        let locks = if option == "--overlay changes" && kernel_at_least(5, 12) { "/" } else { "" };
        let volume = if option.contains("--tmpfs") { " /tmp" } else { "" };
        assert_eq!(
            outcome.stdout,
            format!("mounts: / /proc{volume}\nroot and directory: / /\ndescriptors: {locks}\n0: input\nunmounted\n"),
            "{option}: {}",
            outcome.stderr
        );
    }
    // The ways are ways: where the host is kept, they lead to it.
    let kept = work.sh("isolate --pid -- pivot --keep-host root -- sh /inside 0<input 2>/dev/null");
    assert!(kept.stdout.contains(&format!("found /..{}", marker.display())), "{}", kept.stdout);
}
