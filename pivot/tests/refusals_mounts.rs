//! Why the kernel refuses a mount, or a mount namespace: each cause is brought about, and has to be the one that is named.

use chainroot_tests::scene::{scene, stopped_at, ways};
use chainroot_tests::{have, is_root, needs_root, skip};

#[test]
fn where_there_is_no_new_mount_namespace_the_cause_is_named() {
    let work = scene();
    let full = "echo 0 >/proc/sys/user/max_mnt_namespaces && exec pivot root -- echo started";
    work.sh(&format!("isolate --map-root --pid --mount-proc sh -c '{full}'")).expect_refusal(&[
        "new mount namespace",
        "No space left on device",
        "hint: user.max_mnt_namespaces is 0: sysctl user.max_mnt_namespaces=10000",
    ]);
    if !have("strace") {
        skip!("needs strace");
    }
    let way = if is_root() { "" } else { ways()[0] };
    let strace = "strace -o /dev/null -e trace=unshare -e inject=unshare:error=EPERM";
    work.sh(&format!("{way} {strace} pivot root -- echo started"))
        .expect_refusal(&["hint: a seccomp filter or security module forbids new mount namespaces here"]);
}

#[test]
fn a_source_in_another_mount_namespace_is_named() {
    for way in ways() {
        let work = scene();
        let dir = work.path().display().to_string();
        work.sh("mkdir data").expect(0, "");
        for options in [format!("--bind /proc/$$/root{dir}/data:/mnt root"), format!("/proc/$$/root{dir}/root")] {
            let refused = work.sh(&format!("{way} pivot {options} -- echo started; exit $?"));
            match way.contains("--user") {
                true => refused.expect_refusal(&["Permission denied", "/root may be followed only by who may trace"]),
                false => refused.expect_refusal(&["Invalid argument", "hint: it is in another mount namespace"]),
            };
        }
        // A descriptor from there has a name here.
        work.sh(&format!("exec 8<data; {way} pivot --bind /proc/self/fd/8:/mnt root -- echo started"))
            .expect(0, "started\n");
    }
}

/// What is mounted below a source comes along, as a user namespace wants it: without, the kernel would say EINVAL
/// (has_locked_children in Linux). https://github.com/sifiveinc/wake/pull/557
#[test]
fn mounts_below_a_source_come_along_where_they_are_locked() {
    needs_root!();
    let work = scene();
    work.sh("chmod 755 . root; mkdir -p data/below").expect(0, "");
    let line = "setpriv --reuid=65534 --regid=65534 --clear-groups isolate --map-root --pid -- pivot OPTIONS \
                --bind data:/mnt root -- ls /mnt/below";
    for options in ["", "--read-only", "--bind data/below:/tmp:ro"] {
        let line = line.replace("OPTIONS", options);
        work.sh(&format!("unshare --mount sh -ec 'mount -t tmpfs t data/below; touch data/below/hidden; {line}'"))
            .expect(0, "hidden\n");
    }
}

/// fs.mount-max counts the mounts of one namespace.
#[test]
fn a_full_mount_namespace_is_named() {
    let work = scene();
    let way = ways()[0].replace("--pid", "--pid --mount");
    // Each round binds all that is there below itself, and doubles it, until a further one would be too many.
    let script = "mkdir t; mount -t tmpfs t t; most=$(cat /proc/sys/fs/mount-max); n=1; while [ $((n * 2)) -lt $most ]; do \
                  mkdir t/$n; mount --rbind t t/$n; n=$((n * 2)); done; exec pivot --bind t:/mnt root -- echo started";
    work.sh(&format!("{way} sh -ec '{script}'")).expect_refusal(&[
        "No space left on device",
        "hint: fs.mount-max is ",
        "unmount some, or raise it with sysctl",
    ]);
}

/// A mode does not show what an access control list takes away.
#[test]
fn a_directory_that_an_acl_closes_is_one_on_the_way() {
    needs_root!();
    if !have("setfacl") {
        skip!("needs setfacl");
    }
    let work = scene();
    work.sh("chmod 755 . && mkdir -m 755 closed && mv root closed/root && setfacl -m u:65534:--- closed").expect(0, "");
    work.sh(
        "setpriv --reuid=65534 --regid=65534 --clear-groups isolate --map-root -- pivot closed/root -- echo started",
    )
    .expect_refusal(&["Permission denied", "hint: every directory on the way needs execute permission"]);
}

/// Unmounting is lazy everywhere: that a file of a mount is open, or a process in it, keeps nothing.
#[test]
fn a_busy_mount_goes_like_any_other() {
    needs_root!();
    if !have("strace") {
        skip!("needs strace");
    }
    let work = scene();
    work.sh("mkdir busy").expect(0, "");
    // While pivot stands still somebody in its namespace goes into a mount of the host's, and stays.
    let dir = work.path().display().to_string();
    let script = format!(
        "nsenter --target $PID --mount sh -ec 'mount -t tmpfs t {dir}/busy; cd {dir}/busy; exec sleep 1000' >/dev/null 2>&1 & \
         until [ \"$(readlink /proc/$!/cwd)\" = {dir}/busy ] && grep -q sleep /proc/$!/comm; do sleep 0.01; done; echo $! >{dir}/pid"
    );
    stopped_at(&work, "fchdir", "", "pivot root -- mountclean -- sh -c 'wc -l </proc/self/mountinfo'", &script)
        .expect(0, "2\n");
    work.sh("kill $(cat pid)").expect(0, "");
}

#[test]
fn the_hosts_tree_can_be_kept_only_below_the_root() {
    for way in ways() {
        let work = scene();
        for dir in ["/", "..", "/mnt/../"] {
            work.sh(&format!("{way} pivot --put-old {dir} root -- echo started")).expect_refusal(&[
                "the host's tree cannot be moved there",
                "hint: --put-old takes a directory below the root",
            ]);
        }
        work.sh(&format!("{way} pivot --tmpfs /mnt --put-old /mnt root -- ls -d /mnt/etc/passwd"))
            .expect(0, "/mnt/etc/passwd\n");
    }
}
