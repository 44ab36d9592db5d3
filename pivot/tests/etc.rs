//! --etc: what it puts in place, and what it leaves alone.

use chainroot_tests::scene::{scene, ways, ways_for};
use chainroot_tests::{Work, is_root, kernel_at_least, skip};

#[test]
fn host_files_are_copies_and_only_when_asked_for() {
    for way in ways() {
        let work = scene();
        work.sh("ln -s ../run/none/resolv.conf root/etc/resolv.conf");
        let own = way.replace("--pid", "--pid --uts --hostname inner");
        work.sh("cp /etc/resolv.conf r; cp /etc/hosts h");
        let inside = "cat /etc/hostname; cmp /etc/resolv.conf /mnt/r && cmp /etc/hosts /mnt/h && echo same; \
             (echo x >>/etc/hosts) 2>/dev/null || echo read-only";
        work.sh(&format!("{own} pivot --bind .:/mnt --etc resolv,hosts,hostname root -- sh -c '{inside}'"))
            .expect(0, "inner\nsame\nread-only\n");
        work.sh(&format!("{own} pivot root -- sh -c 'cat /etc/hosts | wc -l'")).expect(0, "0\n");
    }
}

#[test]
fn what_is_no_regular_file_in_etc_or_run_is_left_alone_and_that_is_said() {
    for way in ways_for("--ephemeral") {
        let work = scene();
        work.sh("mkdir -p root/usr/share root/run root/var; echo kept >root/usr/share/own; ln -s /run root/var/run
             mkfifo root/etc/fifo")
            .expect(0, "");
        let leads_out = "a link that leads out of /etc and /run";
        for (link, word, file, why) in [
            ("/dev/null", "resolv", "resolv.conf", leads_out),
            ("../usr/share/own", "passwd", "passwd", leads_out),
            ("/usr/share/none", "group", "group", leads_out),
            ("../../../../../../tmp/none", "hosts", "hosts", leads_out),
            ("fifo", "passwd", "passwd", "not a regular file"),
            (".", "hostname", "hostname", "not a regular file"),
        ] {
            work.sh(&format!("ln -sfn {link} root/etc/{file}")).expect(0, "");
            for options in ["", "--ephemeral --read-only"] {
                let line = format!(
                    "{way} pivot {options} --dev --etc {word} root -- mountclean -- sh -c \
                     'stat -c %F /dev/null; cat /usr/share/own; ls /usr/share; grep -c /etc /proc/self/mountinfo'"
                );
                let outcome = work.sh(&line);
                outcome.expect(1, "character special file\nkept\nown\n0\n");
                let said = format!("/etc/{file} in the root is {why}: left as it is, --etc {word} not done\n");
                assert!(outcome.stderr.ends_with(&said), "{line}: {}", outcome.stderr);
            }
        }
        work.sh("ls root/tmp root/usr/share").expect(0, "root/tmp:\n\nroot/usr/share:\nown\n");
        // A link that stays is followed, by whatever way.
        work.sh("ln -sfn /var/run/net/resolv.conf root/etc/resolv.conf").expect(0, "");
        work.sh(&format!("cp /etc/resolv.conf r; {way} pivot --etc resolv root -- cat /run/net/resolv.conf | cmp - r"))
            .expect(0, "");
    }
}

/// Ways in which the caller keeps their identity.
fn himself(work: &Work) -> Option<String> {
    if !is_root() {
        return Some("isolate --map-current --pid --".into());
    }
    work.sh("chmod 755 .").expect(0, "");
    Some("setpriv --reuid=4321 --regid=4322 --clear-groups isolate --map-current --pid --".into())
}

#[test]
fn a_user_who_stays_who_he_is_has_a_name_and_a_home() {
    if !kernel_at_least(5, 11) {
        skip!("an overlay in a user namespace is of Linux 5.11");
    }
    let work = scene();
    let Some(way) = himself(&work) else { return };
    let ids = work.sh(&format!("{} sh -c 'echo $(id -u) $(id -g)'", way.replace("isolate --map-current --pid --", "")));
    let (uid, gid) = ids.stdout.trim().split_once(' ').expect("two numbers");
    let known = |table: &str, id: &str, field: usize| {
        let line = work.sh(&format!("getent {table} {id}")).stdout;
        line.trim().split(':').nth(field).filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let name = known("passwd", uid, 0).unwrap_or(format!("user{uid}"));
    let group = known("group", gid, 0).unwrap_or(format!("group{gid}"));
    let home = known("passwd", uid, 5).unwrap_or("/".into());
    let inside = "sh -c 'id -un; id -gn; echo $HOME; grep -c ^root: /etc/passwd /etc/group'";
    let wanted = format!("{name}\n{group}\n{home}\n/etc/passwd:1\n/etc/group:1\n");
    work.sh("printf 'root:x:0:0::/root:/bin/sh' >root/etc/passwd; echo root:x:0: >root/etc/group").expect(0, "");
    for next in ["", "mountclean --"] {
        work.sh(&format!("{way} pivot --ephemeral --etc passwd,group root -- {next} {inside}")).expect(0, &wanted);
    }
    work.sh(&format!("{way} pivot --ephemeral --etc passwd --env HOME=/x root -- sh -c 'echo $HOME'"))
        .expect(0, "/x\n");
    // Whom the image knows has the image's name and home.
    work.sh(&format!("echo image:x:{uid}:{gid}::/srv:/bin/sh >root/etc/passwd")).expect(0, "");
    work.sh(&format!("{way} pivot --ephemeral --etc passwd root -- mountclean -- sh -c 'id -un; echo $HOME; grep -c /etc /proc/self/mountinfo'"))
        .expect(1, "image\n/srv\n0\n");
    // A name that the image has for another user is not the caller's.
    work.sh(&format!("echo {name}:x:77:77::/other:/bin/sh >root/etc/passwd")).expect(0, "");
    let outcome = work.sh(&format!("{way} pivot --ephemeral --etc passwd root -- id -un"));
    outcome.expect(0, &format!("user{uid}\n"));
    assert!(outcome.stderr.contains("is another user in the root") || name == format!("user{uid}"), "{outcome:?}");
}

#[test]
fn root_of_a_namespace_has_the_images_root_and_its_home() {
    for way in ways() {
        let work = scene();
        work.sh("echo superuser:x:0:0::/root:/bin/sh >root/etc/passwd").expect(0, "");
        work.sh(&format!("HOME=/home/me {way} pivot --etc passwd root -- sh -c 'id -un; echo $HOME'"))
            .expect(0, "superuser\n/root\n");
        work.sh("rm root/etc/passwd").expect(0, "");
        work.sh(&format!("HOME=/home/me {way} pivot --etc passwd root -- sh -c 'id -un; echo $HOME'"))
            .expect(0, "root\n/root\n");
    }
}

#[test]
fn a_wrong_word_is_answered_with_the_list() {
    let work = scene();
    work.sh("pivot --etc shadow root -- true").expect_refusal(&["shadow", "resolv, hosts, hostname, passwd, group"]);
}

#[test]
fn the_spellings_of_the_version_before_work_and_name_the_new_ones() {
    let work = scene();
    let own = ways()[0].replace("--pid", "--pid --uts --hostname inner");
    let outcome = work.sh(&format!("{own} pivot --hostname --resolv --etc hostname root -- cat /etc/hostname"));
    assert_eq!(outcome.stdout, "inner\n", "{outcome:?}");
    let said = "pivot: --resolv will go: type --etc resolv\npivot: --hostname will go: type --etc hostname\n";
    assert_eq!(outcome.stderr, said);
}
