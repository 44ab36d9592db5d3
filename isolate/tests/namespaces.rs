//! New namespaces and those that exist, option by option.

mod bench;

use std::os::unix::fs::MetadataExt;

use bench::{as_nobody, as_root, have, isolate, sh};

const KINDS: [(&str, &str); 8] = [
    ("--mount", "mnt"),
    ("--uts", "uts"),
    ("--ipc", "ipc"),
    ("--net", "net"),
    ("--pid", "pid"),
    ("--user", "user"),
    ("--cgroup", "cgroup"),
    ("--time", "time"),
];

fn own(file: &str) -> String {
    let inode = std::fs::metadata(format!("/proc/self/ns/{file}")).expect("ns").ino();
    format!("{file}:[{inode}]")
}

#[test]
fn each_option_makes_its_own_namespace_and_no_other() {
    for (option, file) in KINDS {
        let script = KINDS.map(|(_, file)| format!("readlink /proc/self/ns/{file}")).join(";");
        let seen = as_root([option, "--", "sh", "-c", &script]).good();
        for ((_, other), seen) in KINDS.iter().zip(seen.lines()) {
            let changed = seen != own(other);
            let implied = *other == "user" && !bench::is_root();
            assert_eq!(changed, *other == file || implied, "{option}: {other} is {seen}");
        }
    }
}

#[test]
fn the_short_spellings_are_those_of_unshare_and_can_be_joined() {
    let script = KINDS.map(|(_, file)| format!("readlink /proc/self/ns/{file}")).join(";");
    let seen = isolate(["-muinpUCT", "-r", "sh", "-c", &script]).good();
    for ((_, file), seen) in KINDS.iter().zip(seen.lines()) {
        assert_ne!(seen, own(file));
    }
}

#[test]
fn the_other_short_spellings_are_unshares_too() {
    let (dir, home) = (tempfile::tempdir().expect("tempdir"), std::env::current_dir().expect("cwd"));
    let path = dir.path().to_str().expect("text");
    assert_eq!(isolate(["-r", "-f", "-w", path, "sh", "-c", "id -u; pwd"]).good(), format!("0\n{path}"));
    let own = nix::unistd::getuid().to_string();
    assert_eq!(isolate(["-c", "-w", home.to_str().expect("text"), "id", "-u"]).good(), own);
    let outcome = as_root(["-R", path, "no-such-command"]);
    assert_eq!(outcome.status, 127, "{outcome:?}");
    needs_root!();
    assert_eq!(isolate(["-S", "5", "-G", "6", "sh", "-c", "id -u; id -g; id -G"]).good(), "5\n6\n6");
}

#[test]
fn command_is_pid_1() {
    assert_eq!(as_root(["--pid", "sh", "-c", "echo $$"]).good(), "1");
}

#[test]
fn a_hostname_is_set_inside_only() {
    let before = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("hostname");
    assert_eq!(as_root(["--hostname", "inside", "hostname"]).good(), "inside");
    assert_eq!(std::fs::read_to_string("/proc/sys/kernel/hostname").expect("hostname"), before);
    as_root(["--hostname", &"x".repeat(65), "true"]).refused("at most 64 bytes");
}

#[test]
fn the_loopback_of_a_new_network_is_up() {
    assert_eq!(as_root(["--net", "cat", "/sys/class/net/lo/flags"]).status, 0);
    if !have("ip") {
        skip!("no ip");
    }
    assert!(as_root(["--net", "ip", "link", "show", "lo"]).good().contains("LOOPBACK,UP"));
}

#[test]
fn mounts_are_private_unless_told_otherwise() {
    let propagation = |options: &[&str]| {
        let words = [options, &["--mount", "sh", "-c", "head -n1 /proc/self/mountinfo | cut -d' ' -f7"]].concat();
        as_root(words).good()
    };
    assert_eq!(propagation(&[]), "-");
    assert_eq!(propagation(&["--propagation", "private"]), "-");
    assert!(propagation(&["--propagation", "shared"]).starts_with("shared:"));
    // As seen from below a namespace that has something to pass on, and stays.
    let below = |how: &str| {
        let script = format!(
            "$ISOLATE $U --mount --propagation shared -- sh -c \"
                $ISOLATE --mount --propagation {how} -- sh -c 'read -r _ _ _ _ _ _ how _ </proc/self/mountinfo; echo \\$how'; :\""
        );
        sh(&script).good()
    };
    assert_eq!(below("private"), "-");
    assert!(below("slave").starts_with("master:"));
    assert!(below("unchanged").starts_with("shared:"));
    as_root(["--propagation", "slave", "true"]).refused("add --mount");
}

#[test]
fn mount_proc_shows_own_processes_only() {
    assert_eq!(as_root(["--pid", "--mount-proc", "sh", "-c", "echo /proc/[0-9]*"]).good(), "/proc/1");
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().to_str().expect("text");
    as_root(["-p", &format!("--mount-proc={path}"), "cat", &format!("{path}/1/comm")]).good();
    as_root(["--pid", "--mount-proc=/no/such/dir", "true"]).refused("/no/such/dir");
}

#[test]
fn clocks_are_shifted_in_a_new_time_namespace_only() {
    let up = as_root(["--time", "--boottime", "100000000", "cut", "-d.", "-f1", "/proc/uptime"]).good();
    assert!(up.parse::<u64>().expect("a number") >= 100_000_000);
    let offsets = as_root(["--time", "--monotonic=5000", "--boottime=-3", "cat", "/proc/self/timens_offsets"]).good();
    let offsets: Vec<&str> = offsets.split_whitespace().collect();
    assert_eq!(offsets, ["monotonic", "5000", "0", "boottime", "-3", "0"]);
    as_root(["--boottime", "1", "true"]).refused("add --time");
}

#[test]
fn root_and_wd_are_changed_before_the_command() {
    let dir = tempfile::tempdir().expect("tempdir");
    std::fs::create_dir(dir.path().join("below")).expect("mkdir");
    let path = dir.path().to_str().expect("text");
    assert_eq!(as_root(["--wd", path, "pwd"]).good(), path);
    let outcome = as_root(["--root", path, "--wd", "/below", "no-such-command"]);
    assert_eq!(outcome.status, 127, "{outcome:?}");
    as_root(["--root", path, "--wd", "/no", "true"]).refused("working directory /no");
}

#[test]
fn a_namespace_that_is_kept_can_be_joined() {
    needs_root!();
    let outcome = sh("dir=$(mktemp -d); touch $dir/uts $dir/net; trap 'umount $dir/uts $dir/net; rm -r $dir' EXIT
        $ISOLATE --uts=$dir/uts --net=$dir/net --hostname kept true || exit
        $ISOLATE --join uts=$dir/uts,net=$dir/net -- sh -c 'hostname; cat /proc/net/dev | grep -c :'");
    assert_eq!(outcome.good(), "kept\n1");
    isolate(["--uts=/no/such/file", "true"]).refused("touch /no/such/file");
}

#[test]
fn a_running_chain_is_joined_by_the_id_of_its_isolate() {
    let outcome = sh("dir=$(mktemp -d); mkfifo $dir/up $dir/down
        $ISOLATE $U --pid --uts --hostname inner -- sh -c \"echo >$dir/up; read x <$dir/down\" &
        read x <$dir/up
        $ISOLATE --join $! -- sh -c 'hostname; readlink /proc/self/ns/pid'
        $ISOLATE --explain --join $! -- sh -c 'hostname; readlink /proc/self/ns/pid' | sh
        for inside in $(cat /proc/$!/task/$!/children); do :; done
        nsenter -t $inside -U -p --preserve-credentials true 2>/dev/null
        readlink /proc/$inside/ns/pid
        echo >$dir/down; wait $!; rm -r $dir");
    let seen = outcome.good();
    let lines: Vec<&str> = seen.lines().collect();
    let [name, entered, by_hand, entered_by_hand, inside] = lines[..] else { panic!("{seen}") };
    assert_eq!((name, by_hand), ("inner", "inner"), "{seen}");
    assert!(entered == inside && entered_by_hand == inside, "{seen}");
    isolate(["--join", "1000000000", "true"]).refused("no process 1000000000");
}

#[test]
fn an_isolate_that_waits_for_another_one_names_the_chain_as_well() {
    for outer in ["--new-session", "--fork -- $ISOLATE", "--new-session -- $ISOLATE --new-session"] {
        let outcome = sh(&format!(
            "dir=$(mktemp -d); mkfifo $dir/up
            $ISOLATE {outer} $U --uts --hostname inner -- sh -c \"echo >$dir/up; exec sleep 1000\" & pid=$!
            timeout 60 cat $dir/up
            $ISOLATE --join $pid -- hostname; $ISOLATE --explain --join $pid -- hostname | sh
            kill $pid; wait $pid 2>/dev/null; rm -r $dir"
        ));
        assert_eq!(outcome.good(), "\ninner\ninner", "{outer}");
    }
}

/// PID 1 has children in namespaces of their own wherever systemd runs (ProtectSystem=, PrivateDevices=).
#[test]
fn a_process_that_is_no_isolate_is_not_taken_for_its_children() {
    let outcome = sh("dir=$(mktemp -d); mkfifo $dir/up
        sh -c \"unshare --user --map-root-user --uts sh -c 'echo >$dir/up; exec sleep 1000' & wait\" & pid=$!
        timeout 60 cat $dir/up >/dev/null
        $ISOLATE --join $pid -- echo joined; status=$?
        kill $(cat /proc/$pid/task/$pid/children) $pid; wait $pid 2>/dev/null; rm -r $dir; exit $status");
    assert_eq!(outcome.stdout, "", "{outcome:?}");
    outcome.refused("is in no namespace that this one is not in");
}

#[test]
fn without_root_or_a_user_namespace_the_error_says_to_add_it() {
    as_nobody(["--uts", "true"]).refused("add --user --map-root");
    assert_eq!(as_nobody(["--uts", "--map-root", "--hostname", "x", "hostname"]).good(), "x");
}
