//! Mounts inside the root.

use chainroot_tests::scene::{scene, ways, ways_for};

#[test]
fn a_volume_is_what_its_source_is_with_the_options_given() {
    for way in ways() {
        let work = scene();
        work.sh("mkdir -p data/sub; echo here >data/file; cp /bin/busybox data/run; chmod 755 data data/run");
        let pivot = |options: &str, command: &str| {
            work.sh(&format!("{way} pivot --bind ./data:/mnt{options} root -- {command}"))
        };
        pivot("", "sh -c 'cat /mnt/file; echo there >/mnt/file'").expect(0, "here\n");
        work.sh("cat data/file").expect(0, "there\n");
        assert_ne!(pivot(":ro", "sh -c 'echo no >/mnt/file'").status, 0);
        pivot(":rw", "sh -c 'echo yes >/mnt/file; cat /mnt/file'").expect(0, "yes\n");
        pivot(":noexec", "/mnt/run true").expect(126, "");
        pivot(
            ":ro,nosuid,nodev,noexec",
            "mountclean -- sh -c 'grep \" /mnt \" /proc/self/mountinfo | cut -d\" \" -f6'",
        )
        .expect(0, "ro,nosuid,nodev,noexec,relatime\n");
    }
}

#[test]
fn a_read_only_volume_is_read_only_with_the_mounts_below_it() {
    for way in ways() {
        let work = scene();
        let way = way.replace("--pid", "--pid --mount");
        let mounts = "mkdir -p data/sub; mount -t tmpfs tmpfs data/sub; mkdir data/sub/x";
        let inside = "for d in / /sub /sub/x; do touch /mnt$d/f 2>/dev/null && echo wrote $d; done; ls -d /mnt/sub/x";
        work.sh(&format!("{way} sh -c '{mounts}; exec pivot --bind data:/mnt:ro root -- sh -c \"{inside}\"'"))
            .expect(0, "/mnt/sub/x\n");
    }
}

#[test]
fn a_volume_stays_writable_in_a_read_only_root_and_its_place_is_made() {
    for way in ways() {
        let work = scene();
        work.sh("mkdir data; echo f >file");
        let command =
            "sh -c 'touch /new/deep/x && ls /new/deep; cat /etc/a/file; touch /y 2>/dev/null || echo read-only'";
        work.sh(&format!("{way} pivot --read-only --bind data:/new/deep --bind file:/etc/a/file root -- {command}"))
            .expect(0, "x\nf\nread-only\n");
    }
}

#[test]
fn files_are_mounted_on_files_and_a_mismatch_is_explained() {
    for way in ways() {
        let work = scene();
        work.sh("mkdir data; echo f >file");
        work.sh(&format!("{way} pivot --bind ./file:/etc/image root -- cat /etc/image")).expect(0, "f\n");
        work.sh(&format!("{way} pivot --bind ./file:/mnt root -- true"))
            .expect_refusal(&["/mnt in the root is a directory, and SRC is a file"]);
        work.sh(&format!("{way} pivot --bind ./data:/etc/image root -- true"))
            .expect_refusal(&["/etc/image in the root is a file, and SRC is a directory"]);
        work.sh(&format!("{way} pivot --bind ./none:/mnt root -- true")).expect_refusal(&["./none", "hint: SRC"]);
        work.sh("cat root/etc/image").expect(0, "busybox\n");
    }
}

#[test]
fn mounts_are_made_in_the_order_of_their_options() {
    for way in ways() {
        let work = scene();
        work.sh("mkdir data; touch data/file");
        let pivot = |options: &str| {
            work.sh(&format!("{way} pivot {options} root -- sh -c 'ls /mnt /mnt/sub 2>/dev/null | xargs'"))
        };
        assert_eq!(pivot("--tmpfs /mnt --bind data:/mnt/sub").stdout, "/mnt: sub /mnt/sub: file\n");
        assert_eq!(pivot("--bind data:/mnt --tmpfs /mnt").stdout, "/mnt:\n");
        assert_eq!(pivot("--tmpfs /mnt --bind data:/mnt").stdout, "/mnt: file\n");
    }
}

#[test]
fn a_tmpfs_has_the_size_and_mode_given() {
    for way in ways() {
        let work = scene();
        let command =
            "sh -c 'stat -c %a /mnt; dd if=/bin/busybox of=/mnt/f bs=64k count=2 2>/dev/null; stat -c %s /mnt/f'";
        work.sh(&format!("{way} pivot --tmpfs /mnt:size=64k,mode=1770 root -- {command}")).expect(0, "1770\n65536\n");
        work.sh(&format!("{way} pivot --tmpfs /mnt:size=much root -- true")).expect_refusal(&["size=much"]);
    }
}

#[test]
fn links_in_a_hostile_root_lead_no_mount_outside() {
    for way in ways() {
        let work = scene();
        let outside = work.join("outside");
        std::fs::create_dir(&outside).unwrap();
        let outside = outside.display();
        work.sh(&format!(
            "mkdir data; echo ours >data/file; ln -s {outside} root/absolute; ln -s ../../../../../../../..{outside} root/relative; \
             mkdir root/dir; ln -s ../.. root/dir/up; ln -s /proc/self/root root/magic; ln -s loop root/loop"
        ));
        // What the link names is made inside the root, and mounted on there.
        for place in ["absolute", "relative", "absolute/x", "dir/up/up/up", "../../../../mnt"] {
            let wanted = if place == "dir/up/up/up" { "../dir/up/up/up" } else { place };
            let pivot = format!(
                "{way} pivot --bind data:/{wanted} root -- sh -c 'cat /{place}/file /*/file 2>/dev/null | head -n 1'"
            );
            let outcome = work.sh(&pivot);
            if place == "dir/up/up/up" {
                // It leads to the root itself, which is mounted on, inside the root only.
                assert!(outcome.status == 0 || outcome.status == 125, "{}", outcome.stderr);
            } else {
                outcome.expect(0, "ours\n");
            }
            work.sh(&format!("ls {outside} | wc -l")).expect(0, "0\n");
        }
        work.sh(&format!("{way} pivot --bind data:/loop root -- true")).expect_refusal(&["symbolic links"]);
        work.sh(&format!("{way} pivot --bind data:/magic/x root -- true"));
        work.sh(&format!("{way} pivot --tmpfs /absolute --dev --etc resolv root -- true")).expect(0, "");
        work.sh(&format!("ls {outside} | wc -l")).expect(0, "0\n");
    }
}

/// A place is swapped between a directory and a link to the outside as fast as it goes, while mounts
/// are made on it: each ends inside the root or is refused. Forty runs of fifty mounts; two thousand
/// runs with `CHAINROOT_SWAPS=all` (scripts/soak swaps).
#[test]
fn a_place_that_is_swapped_meanwhile_gets_no_mount_outside() {
    let runs = if std::env::var("CHAINROOT_SWAPS").is_ok_and(|value| value == "all") { 2000 } else { 40 };
    let root = "unshare --mount --propagation private";
    let user = "unshare --user --map-root-user --mount";
    let ways = if chainroot_tests::is_root() { vec![root, user] } else { vec![user] };
    for way in &ways {
        let work = scene();
        work.sh("mkdir outside data root/place; echo ours >data/file; ln -s \"$PWD/outside\" root/link").expect(0, "");
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let swapper = scope.spawn(|| {
                use rustix::fs::{CWD, RenameFlags, renameat_with};
                let (place, link) = (work.join("root/place"), work.join("root/link"));
                let mut swaps = 0_u64;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    renameat_with(CWD, &place, CWD, &link, RenameFlags::EXCHANGE).unwrap();
                    swaps += 1;
                }
                swaps
            });
            // The command looks for the volume above the root's own tree: with the host kept it would be
            // seen at the outside directory. It says once that it ran, for most runs are refused.
            let binds = "--bind data:/place/x ".repeat(50);
            let few = "--bind data:/place/y ";
            let outside = work.join("outside");
            let look = format!("ls -A /..{} | sed s/^/outside:/; echo ran", outside.display());
            let script = format!(
                "for n in $(seq {}); do {way} pivot --keep-host {binds} root -- sh -c '{look}'; \
                 {way} pivot --keep-host {few} root -- sh -c '{look}'; done 2>errors | sort | uniq -c; \
                 grep -c '^pivot: [^h]' errors; grep -v '^pivot: ' errors | head -n 3",
                runs / ways.len()
            );
            let outcome = work.sh(&script);
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            let swaps = swapper.join().unwrap();
            println!("{way}: {swaps} swaps; ran and refused:\n{}", outcome.stdout);
            assert!(!outcome.stdout.contains("outside:"), "a mount ended outside:\n{}", outcome.stdout);
            assert!(outcome.stdout.contains(" ran\n"), "no run came through:\n{}", outcome.stdout);
            assert!(swaps > 1000, "only {swaps} swaps");
            assert_eq!(std::fs::read_dir(outside).unwrap().count(), 0);
        });
    }
}

/// No timing: what grows with the number of mounts must not grow faster. The system calls say it.
#[test]
fn the_calls_for_two_thousand_binds_are_linear_in_their_number() {
    if !chainroot_tests::have("strace") {
        chainroot_tests::skip!("needs strace");
    }
    let work = scene();
    work.sh("mkdir data; cd root/mnt && seq 2000 | xargs mkdir");
    let way = ways()[0];
    let calls = |count: u32| {
        let binds: String = (1..=count).map(|n| format!("--bind data:/mnt/{n} ")).collect();
        work.sh(&format!("strace -f -o trace {way} pivot {binds} root -- mountclean -- true")).expect(0, "");
        std::fs::read_to_string(work.join("trace")).unwrap().lines().count()
    };
    let (few, many) = (calls(200), calls(2000));
    assert!(many < few * 11, "{few} calls for 200, {many} for 2000");
}

#[test]
fn two_thousand_binds_pass_the_proof_of_mountclean() {
    for way in ways() {
        let work = scene();
        work.sh("mkdir data; cd root/mnt && seq 2000 | xargs mkdir");
        let binds: String = (1..=2000).map(|n| format!("--bind data:/mnt/{n} ")).collect();
        work.sh(&format!("{way} pivot {binds} root -- mountclean -- sh -c 'wc -l </proc/self/mountinfo'"))
            .expect(0, "2002\n");
    }
}

#[test]
fn a_minimal_dev_has_what_programs_expect() {
    for way in ways() {
        let work = scene();
        let inside = "echo x >/dev/null; head -c 4 /dev/zero | wc -c; head -c 4 /dev/urandom | wc -c; \
             echo y 2>/dev/null >/dev/full || echo full; ls /dev/pts/ptmx; readlink /dev/ptmx; echo in >/dev/shm/x; cat /dev/shm/x; \
             echo out >/dev/stdout; (: </dev/tty) 2>/dev/null || echo no tty; stat -c %a /dev/shm; [ -e /dev/sda ] || [ -e /dev/vda ] || echo no disks";
        work.sh(&format!("{way} pivot --dev root -- mountclean -- sh -c '{inside}'"))
            .expect(0, "4\n4\nfull\n/dev/pts/ptmx\npts/ptmx\nin\nout\nno tty\n1777\nno disks\n");
    }
}

#[test]
fn message_queues_are_in_dev_only_in_an_own_ipc_namespace() {
    for way in ways() {
        let work = scene();
        let inside = "grep -c mqueue /proc/self/mountinfo";
        let own = way.replace("--pid", "--pid --ipc");
        work.sh(&format!("{own} pivot --dev root -- mountclean -- sh -c '{inside}'")).expect(0, "1\n");
        work.sh(&format!("{way} pivot --dev root -- mountclean -- sh -c '{inside}'")).expect(1, "0\n");
    }
}

#[test]
fn the_callers_umask_is_the_commands_and_no_others() {
    for way in ways_for("--ephemeral") {
        let work = scene();
        work.sh("echo f >file");
        let inside = "stat -c %a /made /made/dir /dev /dev/null /dev/shm /etc/new /proc/acpi | xargs; umask";
        let options = "--tmpfs /made/dir:mode=755 --bind file:/etc/new --dev";
        let outcome = work
            .sh(&format!("umask 077; {way} pivot --ephemeral {options} root -- mountclean --mask -- sh -c '{inside}'"));
        let null = if outcome.stdout.contains(" 666 ") { "666" } else { "?" };
        outcome.expect(0, &format!("755 755 755 {null} 1777 644 555\n0077\n"));
    }
}
