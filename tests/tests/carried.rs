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

/// What root inside tries on a binary of ours that it finds at some /proc/PID/exe.
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
    assert_eq!(work.sh(LOOK).stdout, before.stdout, "a binary of ours was changed");
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
