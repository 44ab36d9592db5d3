//! What --explain prints is a script that does the same.

use chainroot_tests::scene::{has_overlay_for, scene, ways};

const TABLE: &str = "cut -d\" \" -f5,6 /proc/self/mountinfo | sort; pwd; cat /etc/hostname 2>/dev/null; ls /dev | xargs; echo x >/etc/x; echo $?";

#[test]
fn the_script_gives_the_same_mounts_as_the_real_run() {
    for way in ways() {
        // isolate's own lines are its own matter: here the way into the namespaces is not part of the script.
        let unshare = if way.contains("user") {
            "unshare --user --map-root-user --pid --fork --kill-child --"
        } else {
            "unshare --pid --fork --kill-child --"
        };
        let options = [
            "",
            "--read-only --chdir /etc",
            "--ephemeral",
            "--overlay changes",
            "--read-only --bind data:/mnt/new:ro,nosuid --bind 'fi le:/etc/new' --tmpfs /tmp:size=1m --dev --etc hosts,hostname",
            "--ephemeral --read-only --bind data:/a/b --tmpfs /a/b/c",
            "--put-old /mnt",
            "--keep-host",
        ];
        for option in options.into_iter().filter(|option| has_overlay_for(way, option)) {
            for shell in ["dash", "bash"] {
                let work = scene();
                // util-linux's mount, umount and findmnt are what the script runs; busybox has its own.
                work.sh("mkdir -p data/c; touch 'fi le'");
                let chain = format!("pivot {option} root -- mountclean -- sh -c '{TABLE}'");
                let real = work.sh(&format!("cp -a root real; {unshare} {}", chain.replace(" root ", " real ")));
                assert_eq!(real.status, 0, "{option}: {}", real.stderr);
                work.sh("rm -rf changes");
                let explained = work.sh(&chain.replacen("pivot", "pivot --explain", 1));
                assert_eq!((explained.status, explained.stderr.as_str()), (0, ""), "{option}");
                std::fs::write(work.join("script"), &explained.stdout).unwrap();
                let script = work.sh(&format!("{unshare} {shell} script"));
                assert_eq!(
                    (script.status, &script.stdout),
                    (0, &real.stdout),
                    "{shell} {option}: {}\n{}",
                    script.stderr,
                    explained.stdout
                );
            }
        }
    }
}

#[test]
fn explaining_needs_no_privilege_no_root_and_changes_nothing() {
    let work = scene();
    let unprivileged = if chainroot_tests::is_root() { "setpriv --reuid=65534 --clear-groups" } else { "" };
    work.sh("chmod 755 .");
    let outcome = work.sh(&format!(
        "{unprivileged} pivot --explain --read-only --bind /none:/x --dev missing -- mountclean --mask -- sh; ls"
    ));
    assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""));
    assert!(outcome.stdout.starts_with("#!/bin/sh\nset -e\n"), "{}", outcome.stdout);
    assert!(outcome.stdout.ends_with("PIVOT_1\nroot\n"), "{}", outcome.stdout);
    for line in ["mount --rbind missing missing", "pivot_root . .", "umount -l /", "exec sh"] {
        assert!(outcome.stdout.contains(line), "{line}: {}", outcome.stdout);
    }
}

#[test]
fn verbose_names_each_step_and_an_error_the_one_that_failed() {
    for way in ways() {
        let work = scene();
        let outcome = work.sh(&format!("{way} pivot --verbose root -- true"));
        for line in ["pivot: mount --rbind root root (", "pivot_root . . (", "pivot: exec true"] {
            assert!(outcome.stderr.contains(line), "{line}: {}", outcome.stderr);
        }
        work.sh(&format!("{way} pivot --overlay none/changes root -- true"))
            .expect_refusal(&["pivot: mount -t overlay -o ", "none/changes: No such file"]);
    }
}
