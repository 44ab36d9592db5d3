//! A failure at any step leaves the host as it was. strace(1) makes the kernel's calls fail, one by one.

mod scene;

use chainroot_tests::have;
use scene::{scene, ways};

const CALLS: [&str; 16] = [
    "unshare",
    "mount",
    "open_tree",
    "move_mount",
    "mount_setattr",
    "fsopen",
    "fsconfig",
    "fsmount",
    "pivot_root",
    "umount2",
    "fchdir",
    "openat2",
    "mkdirat",
    "mknodat",
    "symlinkat",
    "flock",
];

#[test]
fn a_failure_after_any_step_leaves_the_hosts_mount_table_as_it_was() {
    if !have("strace") {
        chainroot_tests::skip!("needs strace");
    }
    let way = if chainroot_tests::is_root() { "" } else { ways()[0] };
    // The scene compares the host's mount table when it is dropped.
    let work = scene();
    work.sh("mkdir data");
    let options = "--ephemeral --read-only --bind data:/mnt/new:ro --tmpfs /run --dev --resolv --chdir /tmp";
    let (mut failed, mut harmless) = (0, 0);
    for call in CALLS {
        for number in [1, 2, 3, 5, 8, 13] {
            let before = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
            let outcome = work.sh(&format!(
                "{way} strace -o /dev/null -e trace={call} -e inject={call}:error=EIO:when={number} pivot {options} root -- true 2>err; s=$?; cat err; exit $s"
            ));
            match outcome.status {
                0 => harmless += 1,
                125 => {
                    failed += 1;
                    assert!(outcome.stdout.contains("pivot: "), "{call} {number}: {}", outcome.stdout);
                    assert!(outcome.stdout.lines().count() <= 2, "{call} {number}: {}", outcome.stdout);
                }
                other => panic!("{call} {number}: {other}: {}", outcome.stdout),
            }
            assert_eq!(std::fs::read_to_string("/proc/self/mountinfo").unwrap(), before, "{call} {number}");
        }
    }
    // A call that is made less often than its number does not fail; most do.
    assert!(failed > 30, "{failed} failed, {harmless} did not");
    work.sh("ls root/mnt root/run 2>/dev/null | grep -c new").expect(1, "0\n");
}

#[test]
fn a_root_that_is_made_for_the_run_alone_gets_nothing_made_in_it() {
    for way in ways() {
        let work = scene();
        let before = work.sh("find root | sort | cksum").stdout;
        work.sh(&format!(
            "{way} pivot --ephemeral --bind /etc:/a/b/c --tmpfs /d/e --dev --hosts --hostname root -- true"
        ))
        .expect(0, "");
        assert_eq!(work.sh("find root | sort | cksum").stdout, before);
    }
}
