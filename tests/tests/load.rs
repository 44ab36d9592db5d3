//! Many containers at once, and little memory and few descriptors to unpack with.
//!
//! A hundred containers by default; a thousand, a hundred at a time, with `CHAINROOT_LOAD=all`
//! (scripts/soak load).

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use chainroot_tests::{Work, busybox_image, debian_image, needs_root, skip};

fn with_root() -> Work {
    let work = Work::new();
    assert_eq!(work.sh(&format!("unpack --quiet '{}'", busybox_image().display())).status, 0);
    work
}

/// A container that says in which namespaces it is, and lives until its stdin is closed.
fn start(work: &Work) -> Child {
    let user = work.user();
    let line = format!(
        "exec isolate {user} --pid --uts --ipc --net -- pivot --no-handoff ./root -- mountclean -- \
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
    for _ in 0..rounds {
        let mut containers: Vec<Child> = (0..at_once).map(|_| start(&work)).collect();
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
        for container in &mut containers {
            drop(container.stdin.take());
        }
        for mut container in containers {
            assert_eq!(container.wait().expect("wait").code(), Some(7));
        }
    }
    assert!(work.processes().is_empty());
    assert_eq!(descriptors(), before);
    assert_eq!(zombies(), Vec::<String>::new());
}

/// Children of this process that nobody has waited for.
fn zombies() -> Vec<String> {
    let us = format!("PPid:\t{}\n", std::process::id());
    let statuses = fs::read_dir("/proc").expect("/proc").flatten().map(|entry| entry.path().join("status"));
    let read = statuses.filter_map(|path| fs::read_to_string(path).ok());
    read.filter(|status| status.contains(&us) && status.contains("State:\tZ")).collect()
}

/// A control group of this test's that has this much memory.
struct Small {
    dir: PathBuf,
}

impl Small {
    fn new(limit: &str) -> Option<Small> {
        let name = format!("chainroot-load-{}", std::process::id());
        let groups = fs::read_to_string("/proc/self/cgroup").expect("cgroup");
        let own = |prefix: &str| {
            let line = groups.lines().find(|line| line.split(':').nth(1) == Some(prefix))?;
            line.splitn(3, ':').nth(2).map(|path| path.trim_start_matches('/').to_owned())
        };
        let root = Path::new("/sys/fs/cgroup");
        let (dir, file) = match own("memory") {
            Some(path) => (root.join("memory").join(path).join(name), "memory.limit_in_bytes"),
            None => (root.join(name), "memory.max"),
        };
        fs::create_dir(&dir).ok()?;
        let small = Small { dir };
        fs::write(small.dir.join(file), limit).ok()?;
        Some(small)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        fs::remove_dir(&self.dir).expect("the group is empty");
    }
}

#[test]
fn ninety_six_mebibytes_are_enough_to_unpack_with() {
    needs_root!();
    let Some(small) = Small::new("100663296") else { skip!("no memory controller to make a group in") };
    for compression in ["", "gz", "xz", "zst"] {
        let Some(image) = debian_image(compression) else { skip!("no Debian image") };
        let work = Work::new();
        let script =
            format!("echo $$ >'{}/cgroup.procs'; exec unpack --quiet '{}'", small.dir.display(), image.display());
        work.sh(&script).expect(0, &format!("{}\n", work.join("root").display()));
        let script = format!(
            "cat '{}' | (echo 0 >'{}/cgroup.procs'; exec unpack --quiet - piped)",
            image.display(),
            small.dir.display()
        );
        work.sh(&script).expect(0, &format!("{}\n", work.join("piped").display()));
    }
}

#[test]
fn sixty_four_descriptors_are_enough_to_unpack_with() {
    let image = debian_image("gz").unwrap_or_else(busybox_image);
    let work = Work::new();
    let script = format!("ulimit -n 64 && exec unpack --quiet '{}'", image.display());
    work.sh(&script).expect(0, &format!("{}\n", work.join("root").display()));
}

#[test]
fn a_directory_of_more_directories_than_there_are_descriptors_can_be_unpacked() {
    let work = Work::new();
    let script = "mkdir d && (cd d && seq 3000 | xargs mkdir) && tar -cf d.tar d && ulimit -n 64 && \
                  unpack --quiet d.tar >/dev/null && ls root/d | wc -l";
    work.sh(script).expect(0, "3000\n");
}

#[test]
fn sixty_four_descriptors_are_enough_for_a_chain() {
    let work = with_root();
    let user = work.user();
    let script = format!("ulimit -n 64 && isolate {user} --pid -- pivot ./root -- mountclean -- echo done");
    work.sh(&script).expect(0, "done\n");
}
