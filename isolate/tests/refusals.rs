//! Why the kernel refused: each cause has its own hint.

mod bench;

use std::fs;

use bench::{ISOLATE, as_nobody, isolate, sh};

const KINDS: [(&str, &str); 8] = [
    ("mount", "mnt"),
    ("uts", "uts"),
    ("ipc", "ipc"),
    ("net", "net"),
    ("pid", "pid"),
    ("user", "user"),
    ("cgroup", "cgroup"),
    ("time", "time"),
];

/// Runs a script with these words where its limits are its own: in a new user namespace.
fn with_own_limits(script: &str, words: &[&str]) -> bench::Outcome {
    isolate([&["--map-root", "--pid", "--mount-proc", "sh", "-c", script], words].concat())
}

#[test]
fn a_limit_of_nothing_is_named() {
    for (option, file) in KINDS {
        let script = format!("echo 0 >/proc/sys/user/max_{file}_namespaces && exec \"$0\" --{option} true");
        with_own_limits(&script, &[ISOLATE]).refused(&format!("user.max_{file}_namespaces is 0: sysctl"));
    }
}

#[test]
fn a_limit_that_is_reached_is_named_among_others() {
    let script = "echo 1 >/proc/sys/user/max_net_namespaces && exec \"$0\" --net -- \"$0\" --uts --net --ipc true";
    with_own_limits(script, &[ISOLATE]).refused("user.max_net_namespaces (1 here) is reached");
    let script = "echo 1 >/proc/sys/user/max_time_namespaces && exec \"$0\" --time -- \"$0\" --pid --time true";
    with_own_limits(script, &[ISOLATE]).refused("user.max_time_namespaces (1 here) is reached");
}

#[test]
fn the_deepest_nesting_is_told() {
    let script = "n=$1; [ $n = 0 ] && exec true; exec \"$ISOLATE\" --map-root sh -c \"$SCRIPT\" sh $((n - 1))";
    let outcome = sh(&format!("export SCRIPT='{script}'; sh -c \"$SCRIPT\" sh 40"));
    outcome.refused("nested 32 deep");
}

/// Runs isolate under a filter that answers its calls for namespaces with an error number of the kernel's.
fn refused_with(errno: i32, flags: u64, words: &[&str]) -> bench::Outcome {
    let dir = tempfile::tempdir().expect("tempdir");
    let profile = dir.path().join("profile.json");
    let rule = serde_json::json!({
        "names": ["unshare", "clone"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno,
        "args": [{"index": 0, "value": flags, "valueTwo": flags, "op": "SCMP_CMP_MASKED_EQ"}]
    });
    let profile_text = serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}).to_string();
    fs::write(&profile, profile_text).expect("write");
    let profile = profile.to_str().expect("text");
    isolate([&["--no-new-privs", "--seccomp", profile, "--", ISOLATE][..], words].concat())
}

const NEWUSER: u64 = 0x1000_0000;
const NEWTIME: u64 = 0x80;

#[test]
fn a_kernel_without_a_kind_is_told_from_one_that_has_it() {
    let (einval, eusers, eperm) = (22, 87, 1);
    let words = ["--map-root", "--uts", "--time", "true"];
    let outcome = refused_with(einval, NEWTIME, &words);
    assert!(outcome.stderr.contains("this kernel has no time namespaces"), "{outcome:?}");
    outcome.refused("they need Linux 5.6 or newer, built with CONFIG_TIME_NS");
    refused_with(einval, NEWUSER, &words).refused("they need Linux 3.8 or newer, built with CONFIG_USER_NS");
    refused_with(eusers, NEWUSER, &words).refused("user namespaces can be nested 32 deep");
    if fs::read_to_string("/proc/sys/kernel/unprivileged_userns_clone").is_ok_and(|text| text.trim() == "0") {
        skip!("user namespaces are for root only here");
    }
    refused_with(eperm, NEWUSER, &words).refused("a seccomp filter or security module forbids user namespaces here");
}

#[test]
fn a_filter_is_told_from_a_lack_of_privilege() {
    let newuts = 0x0400_0000;
    let words: &[&str] = if bench::is_root() { &["--uts", "true"] } else { &["--map-root", "--uts", "true"] };
    let outcome = refused_with(1, newuts, words);
    if bench::is_root() {
        outcome.refused("a seccomp filter or security module forbids these namespaces here");
    } else {
        outcome.refused("a seccomp filter or security module forbids user namespaces here");
    }
}

/// Each alone is allowed.
#[test]
fn a_limit_that_cannot_be_told_is_one_of_several() {
    let (enospc, newuts_and_newipc) = (28, 0x0c00_0000);
    refused_with(enospc, newuts_and_newipc, &["--map-root", "--uts", "--ipc", "true"])
        .refused("one of the limits in /proc/sys/user/max_*_namespaces is reached");
}

#[test]
fn a_pid_namespace_without_its_pid_1_is_named() {
    let user = if bench::is_root() { "" } else { "--user --map-root-user" };
    sh(&format!("unshare {user} --pid sh -c '/bin/true; exec $ISOLATE --fork true'"))
        .refused("out of memory, or the pid namespace to fork into has lost its PID 1");
}

#[test]
fn a_setting_that_forbids_user_namespaces_is_named() {
    // What it is set to is the machine's.
    if !fs::read_to_string("/proc/sys/kernel/unprivileged_userns_clone").is_ok_and(|text| text.trim() == "0") {
        skip!("user namespaces are for everybody here; scripts/test-kernels forbids them under qemu");
    }
    as_nobody(["--user", "true"]).refused("sysctl kernel.unprivileged_userns_clone=1");
}

#[test]
fn a_chroot_is_named() {
    needs_root!();
    let outcome = sh("dir=$(mktemp -d) && mkdir $dir/proc && cp $ISOLATE $dir/isolate && chmod 755 $dir &&
        unshare --mount sh -c \"mount -t proc proc $dir/proc && exec chroot $dir /isolate --map-root true\"
        s=$?; rm -r $dir; exit $s");
    outcome.refused("use pivot instead of chroot");
}

#[test]
fn an_id_that_is_not_mapped_is_named() {
    needs_root!();
    let outcome = sh("unshare --user sh -c 'exec $ISOLATE --user true'");
    outcome.refused("the own user or group is not mapped");
}

#[test]
fn who_may_not_is_told_what_to_add() {
    as_nobody(["--net", "true"]).refused("this needs root, or a user namespace: add --user --map-root");
    needs_root!();
    let outcome = sh("setpriv --bounding-set=-all --inh-caps=-all $ISOLATE --net true");
    outcome.refused("root here lacks CAP_SYS_ADMIN: add --user --map-root");
}

#[test]
fn a_map_of_user_0_without_cap_setfcap_is_named() {
    needs_root!();
    let without = "setpriv --bounding-set=-setfcap --inh-caps=-setfcap $ISOLATE";
    let own = sh(&format!("{without} --map-root true"));
    if own.status == 0 {
        skip!("Linux before 5.12 lets who lacks it map user 0");
    }
    own.refused("to map user 0 takes CAP_SETFCAP");
    let ranges = sh(&format!("{without} --map-users 0:0:10 --map-groups 0:0:10 true"));
    ranges.refused("to map user 0 takes CAP_SETFCAP");
    sh(&format!("{without} --map-users 0:1:10 --map-groups 0:0:10 true")).good();
}

#[test]
fn what_is_wrong_with_a_range_is_named() {
    needs_root!();
    let inside = |map: &str| {
        let outer = ["--map-users=0:0:1", "--map-users=1:100000:10", "--map-groups=0:0:1", "--map-groups=1:100000:10"];
        isolate([&outer[..], &[ISOLATE, "--map-users", map, "--map-groups=0:0:1", "true"]].concat())
    };
    inside("0:0:1").good();
    inside("0:0:5").refused("the ids 0 to 4 lie in several lines of this namespace's own map: give a range for each");
    inside("0:5:10").refused("id 11 is not mapped in the namespace that this runs in");
    let words = ["--map-users=0:0:10", "--map-users=5:100:1", "--map-groups=0:0:1", "true"];
    isolate(words).refused("the ranges 0 0 10 and 5 100 1 overlap");
}

#[test]
fn what_keeps_newuidmap_from_its_privilege_is_named() {
    needs_root!();
    if !bench::have("newuidmap") {
        skip!("no newuidmap");
    }
    let with = |before: &str, start: &str| {
        sh(&format!(
            "d=$(mktemp -d); chmod 755 $d; echo 65534:200000:1000 >$d/ids; export PATH d; export start='{start}'
            unshare --mount sh -c 'mount --bind $d/ids /etc/subuid && mount --bind $d/ids /etc/subgid &&
                mkdir $d/bin && {before} && cd / && PATH=$d/bin:$PATH &&
                eval exec setpriv --reuid=65534 --regid=65534 --clear-groups $start $ISOLATE --map-auto true'
            s=$?; rm -rf $d; exit $s"
        ))
    };
    with("true", "").good();
    with("true", "--no-new-privs").refused("no_new_privs is set, so newuidmap gains no privilege");
    let copy = "cp $(command -v newuidmap) $d/bin && chmod 755 $d/bin/newuidmap";
    with(copy, "").refused("is not setuid root and has no file capability: setcap cap_setuid=ep");
    let nosuid = format!("mount -t tmpfs -o nosuid,mode=755 t $d/bin && {copy} && chmod 4755 $d/bin/newuidmap");
    with(&nosuid, "").refused("is on a filesystem mounted nosuid");
    with("true", "$ISOLATE --map-users=0:300000:10 --").refused("the ranges must be granted in /etc/subuid");
}

#[test]
fn a_chroot_that_hides_why_a_new_proc_is_refused_is_named() {
    // What covers it is locked for the inner user namespace alone.
    let inside = |make: &str, line: &str| {
        sh(&format!(
            "export dir=$(mktemp -d) && mkdir $dir/proc && cp $ISOLATE $dir/isolate && chmod 755 $dir
            export inner='{make} && exec chroot $dir {line}'
            $ISOLATE --user --map-root --mount -- sh -c 'mount --bind /dev/null /proc/version &&
                exec $ISOLATE --user --map-root --pid --mount -- sh -c \"$inner\"'
            s=$?; rm -r $dir; exit $s"
        ))
    };
    inside("mount --bind $dir $dir", "/isolate --mount --mount-proc -- /isolate --version")
        .refused("the /proc outside this chroot is covered in part, or there is none");
    inside("true", "/isolate --mount -- /isolate --version")
        .refused("hint: make the chroot a mount first, mount --rbind DIR DIR, or add --propagation unchanged");
    let unchanged = inside("true", "/isolate --mount --propagation unchanged -- /isolate --version");
    assert!(unchanged.good().starts_with("isolate "));
}

#[test]
fn the_limit_that_leaves_no_room_for_a_process_is_named() {
    needs_root!();
    let outcome = sh(
        "cd / && exec setpriv --reuid=65533 --regid=65533 --clear-groups prlimit --nproc=1 $ISOLATE --map-root --pid true",
    );
    outcome.refused("RLIMIT_NPROC is 1, and this user has as many processes");
    let inside = sh("exec $ISOLATE --pid --pids-max 3 -- sh -c '$ISOLATE --pid true; exit $?'");
    if !inside.stderr.contains("fork: too many processes") {
        skip!("no cgroup to limit in: {}", inside.stderr);
    }
    assert!(inside.stderr.contains("/pids.max is 3, and as many are there: raise it"), "{inside:?}");
}
