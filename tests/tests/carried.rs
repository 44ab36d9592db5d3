//! The links that follow a pivot are the host's binaries, and nobody inside can change those.

use chainroot_tests::{Work, image_of};

fn hostile(work: &Work) {
    let change = "for name in unpack isolate pivot mountclean; do printf '#!/bin/sh\\necho the image: $0 was run\\n' >usr/bin/$name; chmod 755 usr/bin/$name; cp usr/bin/$name bin/$name; done";
    image_of(&work.join("hostile.tar"), change);
}

#[test]
fn an_image_that_ships_our_names_does_not_get_them_run() {
    let work = Work::new();
    hostile(&work);
    let script = format!(
        "unpack --quiet hostile.tar | isolate {} --pid --uts -- pivot ./root -- mountclean -- isolate --clean-env -- sh -c 'echo $$; mount | cut -d \" \" -f 3'",
        work.user()
    );
    work.sh(&script).expect(0, "1\n/\n/proc\n");
}

/// An image could bring a filter that lets everything through.
#[test]
fn a_seccomp_profile_is_the_hosts_in_the_last_link_too() {
    let work = Work::new();
    let allow = r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#;
    image_of(&work.join("hostile.tar"), &format!("echo '{allow}' >profile.json"));
    let deny = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_ERRNO"}]}"#;
    std::fs::write(work.join("profile.json"), deny).expect("write");
    assert_eq!(work.sh("unpack --quiet hostile.tar").status, 0);
    for link in ["", "mountclean --", "isolate --clean-env --"] {
        let chain = |options: &str, profile: &str| {
            work.sh(&format!(
                "isolate {} --pid -- pivot {options} ./root -- {link} isolate --no-new-privs --seccomp {profile} -- \
                 sh -c 'mkdir /new; echo $?; ls /proc/self/fd 2>/dev/null | grep -c 3' 3<profile.json 2>/dev/null",
                work.user()
            ))
        };
        for path in ["profile.json", "/profile.json", "./profile.json"] {
            chain("", path).expect(125, "");
        }
        // What is behind the 3 of ls is its own.
        let outcome = chain("--keep-fd 3", "fd:3");
        assert!(outcome.stdout.starts_with("1\n"), "{link}: {outcome:?}");
    }
    // Where no link has left the host, a path is the host's, also with a reaper, for which isolate starts again.
    for options in ["--pid", "--init"] {
        work.sh(&format!(
            "isolate {} {options} --no-new-privs --seccomp profile.json -- sh -c 'mkdir new 2>/dev/null; echo $?'",
            work.user()
        ))
        .expect(0, "1\n");
    }
    let said =
        work.sh(&format!("isolate {} --pid -- pivot ./root -- isolate --seccomp profile.json -- true", work.user()));
    said.expect_refusal(&["would be the image's", "--keep-fd 3 ROOT -- isolate --seccomp fd:3"]);
}

#[test]
fn a_foreign_word_ends_the_chain_of_ours() {
    let work = Work::new();
    hostile(&work);
    let script = format!(
        "unpack --quiet hostile.tar | isolate {} --pid -- pivot ./root -- mountclean -- env X=1 sh -c 'env | grep -c CHAINROOT_CARRY; ls /proc/self/fd | wc -l'; unpack --quiet hostile.tar | isolate {} --pid -- pivot ./root -- env X=1 mountclean",
        work.user(),
        work.user()
    );
    let outcome = work.sh(&script);
    // 0, 1, 2, ls's own, and what holds the lock on ROOT.
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert_eq!(lines[0], "0");
    assert!(lines[1].trim().parse::<u32>().expect("a number") <= 5, "{}", outcome.stdout);
    assert_eq!(lines[2], "the image: /usr/bin/mountclean was run");
}

/// What root inside tries on a binary of chainroot's that it finds at some /proc/PID/exe.
const ATTACK: &str = r#"
    for exe in /proc/[0-9]*/exe; do
        [ "$(readlink $exe)" != /bin/busybox ] || continue
        [ -e $exe ] || continue
        echo "found $(readlink $exe)" >>/tmp/found
        (echo x >>$exe) 2>/dev/null && echo "wrote $exe"
        (: >$exe) 2>/dev/null && echo "emptied $exe"
        # A sealed copy in memory has a mode and times of its own, which are nobody's.
        case $(readlink $exe) in /memfd:*) continue;; esac
        chmod 4777 $exe 2>/dev/null && echo "chmodded $exe"
        chown 1:1 $exe 2>/dev/null && echo "chowned $exe"
        touch $exe 2>/dev/null && echo "touched $exe"
    done
    for fd in /proc/[0-9]*/fd/*; do
        case $(readlink $fd) in *isolate*|*pivot*|*mountclean*|*unpack*)
            echo "found $fd" >>/tmp/found
            chmod 4777 $fd 2>/dev/null && echo "chmodded $fd"
            (echo x >>$fd) 2>/dev/null && echo "wrote $fd";;
        esac
    done
    cat /tmp/found 2>/dev/null || :
"#;

fn attacked(work: &Work, chain: &str) -> String {
    hostile(work);
    std::fs::write(work.join("attack"), ATTACK).expect("write");
    let before = work.sh(LOOK);
    let script = format!("unpack --quiet hostile.tar >&2 && cp attack root/attack && {chain} sh /attack");
    let outcome = work.sh(&script);
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    assert_eq!(work.sh(LOOK).stdout, before.stdout, "one of the tools was changed");
    for line in outcome.stdout.lines() {
        assert!(line.starts_with("found "), "{}", outcome.stdout);
    }
    outcome.stdout
}

const LOOK: &str = "for name in unpack isolate pivot mountclean; do f=$(command -v $name); stat -c '%n %a %u %s %Y %Z' $f; sha256sum $f; done";

#[test]
fn an_isolate_that_waits_inside_cannot_be_changed_through_its_exe() {
    let work = Work::new();
    let found =
        attacked(&work, &format!("isolate {} --pid -- pivot ./root -- mountclean -- isolate --pid --", work.user()));
    assert!(found.contains("found "), "the waiting isolate was not even seen");
}

#[test]
fn an_init_cannot_be_changed_through_its_exe() {
    let work = Work::new();
    let found = attacked(&work, &format!("isolate {} --pid --init -- pivot ./root -- mountclean --", work.user()));
    assert!(found.contains("found "), "the init was not even seen");
}

#[test]
fn carried_descriptors_do_not_reach_the_command() {
    let work = Work::new();
    let found = attacked(&work, &format!("isolate {} --pid -- pivot ./root -- mountclean --", work.user()));
    assert_eq!(found, "");
}

#[test]
fn a_link_of_ours_follows_isolate_into_another_root() {
    let work = Work::new();
    hostile(&work);
    let user = work.user();
    let script = format!(
        "unpack --quiet hostile.tar >&2 && isolate {user} --mount --root ./root -- isolate --uts -- cat /etc/image"
    );
    work.sh(&script).expect(0, "busybox\n");
    // Joined by its pid: a container that says its own and waits.
    let script = format!(
        "mkfifo up down; isolate {user} --pid -- pivot --no-handoff ./root -- mountclean -- sh -c 'echo up; read x' <down >up & \
         exec 3>down; read x <up; for child in $(cat /proc/$!/task/$!/children); do \
         [ \"$(cat /proc/$child/comm)\" != sh ] || isolate --join $child -- isolate --uts -- cat /etc/image; done; echo >&3; wait"
    );
    work.sh(&script).expect(0, "busybox\n");
}
