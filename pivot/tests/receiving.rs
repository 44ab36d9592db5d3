//! Volumes in which what is mounted outside later appears as well: `--bind SRC:DST:rslave`.

use chainroot_tests::scene::scene;
use chainroot_tests::{Outcome, Work, is_root, needs_root};

/// A script in a mount namespace in which `src` is a shared mount, with another at `src/early`.
fn in_shared(work: &Work, script: &str) -> Outcome {
    let way = if is_root() { "unshare --mount" } else { "unshare --user --map-root-user --mount" };
    work.sh(&format!(
        "mkdir src; mkfifo up down; {way} sh -ec '
         mount -t tmpfs src src; mount --make-shared src; mkdir src/early src/late; mount -t tmpfs early src/early
         {script}'"
    ))
}

/// Behind a chain that says `up` in the background and waits for a line.
const LATER: &str = "<down >up & exec 4>down 5<up; read x <&5; mount -t tmpfs late src/late; touch src/late/new; echo go >&4; cat <&5; wait $!";

#[test]
fn what_is_mounted_later_appears_in_that_volume_and_nowhere_else() {
    for way in ["isolate --pid --", "isolate --map-root --pid --", "isolate --pid --mount --propagation slave --"] {
        for (options, place) in [("", "/mnt/a"), ("--read-only", "/new/a"), ("--ephemeral", "/new/a")] {
            let work = scene();
            let inside = format!(
                "echo up; read x; ls {place}/late; ls /mnt/b/late; ls /proc/late 2>/dev/null; \
                 sed -n \"s|.* \\({place}/early\\) \\(r.\\).*|\\1 \\2|p\" /proc/self/mountinfo"
            );
            std::fs::write(work.join("root/inside"), inside).unwrap();
            // Below ROOT it is mounted as well, which an overlay in a user namespace does not allow.
            let below = if options == "--ephemeral" { "" } else { "mount --rbind src root/proc;" };
            in_shared(
                &work,
                &format!(
                    "{below} {way} pivot --no-handoff {options} --bind src:{place}:rslave,ro --bind src:/mnt/b \
                     root -- mountclean -- sh /inside {LATER}"
                ),
            )
            .expect(0, &format!("new\n{place}/early ro\n"));
        }
    }
}

/// strace(1) stops pivot after its look at the mounts, and so before mountclean's.
#[test]
fn a_mount_that_arrives_before_the_proof_is_the_volumes() {
    if !chainroot_tests::have("strace") {
        chainroot_tests::skip!("needs strace");
    }
    needs_root!();
    let work = scene();
    work.sh("mkfifo log").expect(0, "");
    let chain = "pivot --no-handoff --bind src:/mnt:rslave root -- mountclean -- ls /mnt/late";
    let stops = "while read -r pid line <&5; do case $line in *stopped*SIGSTOP*) break;; esac; done";
    in_shared(
        &work,
        &format!(
            "strace -f -o log -e trace=pivot_root -e inject=pivot_root:signal=SIGSTOP {chain} 2>errors & exec 5<log; {stops}; \
             mount -t tmpfs late src/late; touch src/late/new; kill -CONT $pid; cat <&5 >rest; wait $!"
        ),
    )
    .expect(0, "new\n");
}

#[test]
fn where_nothing_is_passed_on_that_is_said() {
    let work = scene();
    work.sh("mkdir data").expect(0, "");
    let way = if is_root() { "unshare --mount" } else { "unshare --user --map-root-user --mount" };
    work.sh(&format!("{way} pivot --bind data:/mnt:rslave root -- true"))
        .expect_refusal(&["rslave: the mount that SRC is on passes nothing on", "mount --make-rshared"]);
    let private = if is_root() { "isolate --mount --" } else { "isolate --map-root --mount --" };
    work.sh(&format!("{private} pivot --bind data:/mnt:rslave root -- true"))
        .expect_refusal(&["rslave: an earlier link has made every mount private", "--propagation slave"]);
    for with in ["ephemeral", "overlay=changes", "lower=data", "idmap=0:1:1"] {
        work.sh(&format!("{way} pivot --bind data:/mnt:rslave,{with} root -- true"))
            .expect_refusal(&["rslave goes with neither an overlay nor idmap"]);
    }
}

#[test]
fn the_script_of_such_a_volume_does_the_same() {
    let work = scene();
    let line = "--no-handoff --bind src:/mnt/a:rslave,ro --bind src:/mnt/b root -- sh /inside";
    std::fs::write(
        work.join("root/inside"),
        "echo up; read x; ls /mnt/a/late /mnt/b/late; touch /mnt/a/x 2>/dev/null || echo read-only",
    )
    .unwrap();
    in_shared(&work, &format!("pivot --explain {line} >script; sh script {LATER}"))
        .expect(0, "/mnt/a/late:\nnew\n\n/mnt/b/late:\nread-only\n");
}
