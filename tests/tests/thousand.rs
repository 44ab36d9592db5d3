//! Many containers at once: a hundred by default; a thousand, a hundred at a time, with
//! `CHAINROOT_LOAD=all` (scripts/soak load). The only test in its process, whose descriptors and
//! children it counts.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};

use chainroot_tests::{Work, busybox_image};

fn with_root() -> Work {
    let work = Work::new();
    assert_eq!(work.sh(&format!("unpack --quiet '{}'", busybox_image().display())).status, 0);
    work
}

/// A container that says in which namespaces it is, and lives until its stdin is closed.
fn start(work: &Work, limits: &str) -> Child {
    let user = work.user();
    let line = format!(
        "exec isolate {user} {limits} --pid --uts --ipc --net -- pivot --no-handoff ./root -- mountclean -- \
         sh -c 'for ns in pid mnt; do readlink /proc/self/ns/$ns; done | tr \"\\n\" \" \"; echo $$; cat; exit 7'"
    );
    let mut command = work.command("sh");
    command.args(["-c", &line]).stdin(Stdio::piped()).stdout(Stdio::piped());
    command.spawn().expect("spawn")
}

#[test]
fn a_thousand_containers_a_hundred_at_a_time_and_none_is_lost() {
    let all = std::env::var("CHAINROOT_LOAD").is_ok_and(|value| value == "all");
    let (rounds, at_once) = if all { (10, 100) } else { (4, 25) };
    let work = with_root();
    let descriptors = || fs::read_dir("/proc/self/fd").expect("/proc/self/fd").count();
    let before = descriptors();
    // Each in a control group of its own, wherever this user may make one.
    let limits = "--memory 64M --pids-max 32";
    let limits = if work.sh(&format!("isolate {limits} true")).status == 0 { limits } else { "" };
    for _ in 0..rounds {
        let mut containers: Vec<Child> = (0..at_once).map(|_| start(&work, limits)).collect();
        let mut namespaces = BTreeSet::new();
        for container in &mut containers {
            let mut line = String::new();
            let stdout = container.stdout.as_mut().expect("stdout");
            BufReader::new(stdout).read_line(&mut line).expect("a line");
            let words: Vec<&str> = line.split_whitespace().collect();
            assert_eq!(words.len(), 3, "{line:?}");
            assert_eq!(words[2], "1", "the command is PID 1");
            namespaces.extend(words[..2].iter().map(|word| (*word).to_owned()));
        }
        // All of them are alive now, each in namespaces of its own.
        assert_eq!(namespaces.len(), 2 * at_once);
        let pids: BTreeSet<u32> = containers.iter().map(Child::id).collect();
        let limited = groups(Path::new("/sys/fs/cgroup"), &pids);
        assert_eq!(limited.len(), if limits.is_empty() { 0 } else { at_once });
        for container in &mut containers {
            drop(container.stdin.take());
        }
        for mut container in containers {
            assert_eq!(container.wait().expect("wait").code(), Some(7));
        }
        assert_eq!(groups(Path::new("/sys/fs/cgroup"), &pids), BTreeSet::new());
    }
    if limits.is_empty() {
        eprintln!("without control groups: this user may make none");
    }
    assert!(work.processes().is_empty());
    assert_eq!(descriptors(), before);
    assert_eq!(zombies(), Vec::<String>::new());
}

/// Those of these isolates that have control groups, in any hierarchy.
fn groups(dir: &Path, isolates: &BTreeSet<u32>) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir()) {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix("isolate-").and_then(|name| name.rsplit('-').next()?.parse().ok());
        found.extend(pid.filter(|pid| isolates.contains(pid)));
        found.append(&mut groups(&entry.path(), isolates));
    }
    found
}

/// Children of this process that nobody has waited for.
fn zombies() -> Vec<String> {
    let us = format!("PPid:\t{}\n", std::process::id());
    let statuses = fs::read_dir("/proc").expect("/proc").flatten().map(|entry| entry.path().join("status"));
    let read = statuses.filter_map(|path| fs::read_to_string(path).ok());
    read.filter(|status| status.contains(&us) && status.contains("State:\tZ")).collect()
}
