//! Nothing is made in ROOT that nobody asked for: a missing place is made in memory or in an overlay, or refused.

use chainroot_tests::scene::{scene, ways, ways_for};
use chainroot_tests::{Work, needs_root};

fn listed(work: &Work, of: &str) -> String {
    work.sh(&format!("cd {of} && find . | sort")).stdout
}

#[test]
fn a_read_only_root_gets_its_places_in_memory() {
    for way in ways() {
        let work = scene();
        work.sh("mkdir -p data root/srv/sub; echo here >data/file; echo f >file; echo s >root/srv/sub/s; ln -s sub root/srv/l; chmod 750 root/srv");
        let before = listed(&work, "root");
        let options = "--bind data:/new/deep --bind data:/srv/a --bind file:/srv/b --bind data:/srv/sub/c:ro --tmpfs /t \
                       --dir /srv/d --symlink x:/e --etc hosts,hostname --dev";
        let inside = "cat /new/deep/file /srv/a/file /srv/b /srv/sub/c/file /srv/l/s; stat -c %a /srv; ls -d /srv/d /t; readlink /e; \
                      for d in / /new /srv /srv/sub /srv/d /etc; do touch $d/x 2>/dev/null && echo $d; done; \
                      touch /new/deep/x /t/x && rm /new/deep/x";
        for next in ["", "mountclean --"] {
            work.sh(&format!("{way} pivot --read-only {options} root -- {next} sh -c '{inside}'"))
                .expect(0, "here\nhere\nf\nhere\ns\n750\n/srv/d\n/t\nx\n");
            assert_eq!(listed(&work, "root"), before, "{way}");
        }
    }
}

#[test]
fn the_script_makes_them_in_memory_as_well() {
    for way in ways() {
        let work = scene();
        work.sh("mkdir -p data root/srv/sub; echo f >file; ln -s sub root/srv/l");
        let before = listed(&work, "root");
        let options = "--read-only --nosuid --noexec --bind data:/srv/a --bind file:/srv/b --tmpfs /new/t --bind data:/new/t/x --hide /etc/image --hide /srv/sub";
        let inside = "cut -d\" \" -f5,6 /proc/self/mountinfo | sort; ls /srv; cat /srv/b";
        let chain = |explain: &str| {
            format!("pivot {explain} {options} --bind /bin/busybox:/bin/busybox root -- mountclean -- sh -c '{inside}'")
        };
        let unshare = if way.contains("user") {
            "unshare --user --map-root-user --pid --fork --kill-child --"
        } else {
            "unshare --pid --fork --kill-child --"
        };
        let real = work.sh(&format!("{unshare} {}", chain("")));
        assert!(real.stdout.contains("/srv/a ") && real.stdout.ends_with("a\nb\nl\nsub\nf\n"), "{real:?}");
        work.sh(&format!("{} >script && {unshare} sh script", chain("--explain"))).expect(0, &real.stdout);
        assert_eq!(listed(&work, "root"), before, "{way}");
    }
}

#[test]
fn the_hosts_own_root_gets_none_on_disk() {
    needs_root!();
    let work = scene();
    work.sh("mkdir data; echo here >data/file").expect(0, "");
    let place = format!("/nowhere-{}", std::process::id());
    let line = |options: &str| {
        work.sh(&format!(
            "isolate --pid -- pivot {options} --bind data:{place}/x / -- cat {place}/x/file; ls -d {place}"
        ))
    };
    let read_only = line("--read-only");
    assert_eq!((read_only.status, read_only.stdout.as_str()), (2, "here\n"), "{}", read_only.stderr);
    let refused = line("");
    assert_eq!((refused.status, refused.stdout.as_str()), (2, ""), "{}", refused.stderr);
    for words in [&*place, "the directory is the host's", "--dir", "--read-only"] {
        assert!(refused.stderr.contains(words), "{}", refused.stderr);
    }
}

#[test]
fn a_volume_gets_none_unless_it_was_asked_for() {
    for way in ways() {
        let work = scene();
        work.sh("mkdir repository cache; echo tracked >repository/file; echo kept >cache/file").expect(0, "");
        let binds = |flags: &str, more: &str| {
            format!("{way} pivot --bind repository:/mnt{flags} {more} --bind cache:/mnt/modules root -- mountclean --")
        };
        work.sh(&format!("{} true", binds("", ""))).expect_refusal(&[
            "/mnt/modules in the root is missing and cannot be made",
            "the host's",
            "--dir PATH",
        ]);
        assert_eq!(listed(&work, "repository"), ".\n./file\n");
        // A volume that nothing can be written to is covered, and as read-only as before.
        work.sh(&format!(
            "{} sh -c 'cat /mnt/file /mnt/modules/file; touch /mnt/x 2>/dev/null || echo read-only; touch /mnt/modules/x'",
            binds(":ro", "")
        ))
        .expect(0, "tracked\nkept\nread-only\n");
        assert_eq!(listed(&work, "repository"), ".\n./file\n");
        work.sh(&format!("{} cat /mnt/modules/file", binds("", "--dir /mnt/modules"))).expect(0, "kept\n");
        assert_eq!(listed(&work, "repository"), ".\n./file\n./modules\n");
    }
}

#[test]
fn hide_covers_what_is_there_and_makes_nothing() {
    for way in ways_for("--ephemeral") {
        let work = scene();
        work.sh("mkdir -p root/home/.ssh; echo secret >root/home/.ssh/key; echo secret >root/home/.env; chmod 600 root/home/.env; ln -s .ssh root/home/l")
            .expect(0, "");
        let before = listed(&work, "root");
        for options in ["", "--read-only", "--ephemeral"] {
            let hide = "--hide /home/.env --hide /home/l --hide /home/none --hide /none/deep --hide /home/.env/x";
            let inside = "cat /home/.env; ls -A /home/.ssh; ls -A /home; ls -d /none 2>&-; \
                          echo x >>/home/.env 2>&-; touch /home/.ssh/x 2>&- || echo read-only";
            work.sh(&format!("{way} pivot {options} {hide} root -- mountclean -- sh -c '{inside}'"))
                .expect(0, ".env\n.ssh\nl\nread-only\n");
            assert_eq!(listed(&work, "root"), before, "{way} {options}");
            work.sh("cat root/home/.ssh/key root/home/.env").expect(0, "secret\nsecret\n");
        }
        // What is mounted in a hidden directory is seen.
        work.sh("mkdir data; echo here >data/file");
        work.sh(&format!(
            "{way} pivot --hide /home --bind data:/home/me root -- sh -c 'cat /home/me/file; ls -A /home'"
        ))
        .expect(0, "here\nme\n");
        assert_eq!(listed(&work, "root"), before, "{way}");
    }
}

#[test]
fn the_root_takes_the_flags_of_mount_and_its_volumes_do_not() {
    for way in ways_for("--ephemeral") {
        let work = scene();
        work.sh("mkdir data");
        for (options, wanted) in [
            ("--nosuid", "rw,nosuid"),
            ("--nodev --nosuid", "rw,nosuid,nodev"),
            ("--noexec --read-only", "ro,noexec"),
            ("--ephemeral --noexec", "rw,noexec"),
        ] {
            let flags = "sed -n \"s|.* / \\(r[^ ]*\\),relatime .*|\\1|p; s|.* /mnt \\(r[^ ]*\\),relatime .*|\\1|p\" /proc/self/mountinfo";
            work.sh(&format!(
                "{way} pivot {options} --bind /bin/busybox:/bin/busybox --bind data:/mnt root -- mountclean -- sh -c '{flags}'"
            ))
            .expect(0, &format!("{wanted}\nrw\n"));
        }
        work.sh(&format!("{way} pivot --noexec root -- true")).expect(126, "");
    }
}
