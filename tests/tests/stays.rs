//! A user who keeps their identity: capabilities pass from link to link, and COMMAND has none of them.

use chainroot_tests::{Work, busybox_image, is_root};

const SETS: &str = "grep -E \"^Cap(Inh|Prm|Eff|Amb)\" /proc/self/status 2>&1 | cut -s -f 2 | xargs";
const NONE: &str = "0000000000000000 0000000000000000 0000000000000000 0000000000000000";

/// A root, and the words by which an ordinary user starts a program.
fn scene() -> (Work, &'static str) {
    let work = Work::new();
    work.sh(&format!(
        "chmod 755 .; unpack --quiet '{}' >/dev/null; chmod 755 root; mkdir root/mnt",
        busybox_image().display()
    ))
    .expect(0, "");
    (work, if is_root() { "setpriv --reuid=4321 --regid=4322 --clear-groups" } else { "" })
}

#[test]
fn every_link_has_what_it_needs_and_the_command_nothing() {
    let (work, user) = scene();
    let id = work.sh(&format!("{user} id -u")).stdout;
    for links in [
        "pivot root --",
        "pivot root -- mountclean --",
        "pivot --read-only --tmpfs /mnt root -- mountclean --mask --",
        "pivot root -- mountclean -- isolate --no-new-privs --",
        "pivot root -- mountclean -- isolate --no-new-privs --seccomp default --",
        "isolate --uts --hostname inner -- pivot root -- mountclean -- isolate --ipc -- isolate --",
        "isolate --cap-drop NET_RAW -- pivot root -- mountclean --",
        "pivot root -- mountclean -- isolate --cap-drop ALL --",
    ] {
        for map in ["--map-current", "--map-user=77 --map-group=78"] {
            let id = if map == "--map-current" { id.trim() } else { "77" };
            let line = format!(
                "{user} isolate {map} --pid -- {links} sh -c 'id -u; mount -t tmpfs none /mnt 2>&1 | grep -q . && echo no; {SETS}'"
            );
            // What the kernel shows is the shell's own; after a pivot without mountclean there is no /proc.
            let outcome = work.sh(&line);
            let sets = if links.contains("mountclean") { format!("{NONE}\n") } else { "\n".into() };
            assert_eq!(
                (outcome.status, outcome.stdout),
                (0, format!("{id}\nno\n{sets}")),
                "{line}: {}",
                outcome.stderr
            );
        }
    }
}

#[test]
fn what_was_asked_for_by_name_is_kept() {
    let (work, user) = scene();
    for (first, last, wanted) in [
        ("", "--cap-add NET_RAW", "0000000000002000"),
        ("--keep-caps", "--cap-keep NET_RAW --cap-add NET_RAW", "0000000000002000"),
        ("", "--setuid 0", NONE.split(' ').next().expect("a set")),
    ] {
        let line = format!(
            "{user} isolate --map-current {first} --pid -- pivot root -- mountclean -- isolate {last} -- sh -c '{SETS}'"
        );
        let outcome = work.sh(&line);
        if last.contains("setuid") {
            outcome.expect_refusal(&["0 is not mapped"]);
        } else {
            outcome.expect(0, &format!("{wanted} {wanted} {wanted} {wanted}\n"));
        }
    }
    let kept = work
        .sh(&format!("{user} isolate --map-current --keep-caps --pid -- pivot root -- mountclean -- sh -c '{SETS}'"));
    assert_ne!(kept.stdout, format!("{NONE}\n"), "{}", kept.stderr);
}

#[test]
fn the_script_lets_go_of_them_too() {
    let (work, user) = scene();
    let inside = format!("id -u; {SETS}");
    let chain = |explain: &str| {
        format!("{user} isolate {explain} --map-current --pid -- pivot root -- mountclean -- sh -c '{inside}'")
    };
    let real = work.sh(&chain(""));
    let script = work.sh(&chain("--explain")).stdout;
    assert!(
        script.contains("--keep-caps") && script.contains("setpriv --inh-caps=-all --ambient-caps=-all"),
        "{script}"
    );
    // The image's own setpriv is busybox's, which has another spelling: the sets are the shell's here.
    let script = script.replace("exec setpriv --inh-caps=-all --ambient-caps=-all -- sh", "exec sh");
    std::fs::write(work.join("script"), script).expect("write");
    let outcome = work.sh(&format!("{user} sh script"));
    assert_eq!(outcome.stdout.lines().next(), real.stdout.lines().next(), "{}", outcome.stderr);
}
