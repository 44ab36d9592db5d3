//! What the tests of single links share: a root to work on, and the ways into namespaces that this
//! machine and user have.

use crate::{Outcome, Work, busybox_image, is_root, kernel_at_least};

/// As real root, and in a user namespace of the user who runs the tests.
pub fn ways() -> Vec<&'static str> {
    let user = "isolate --user --map-root --pid --";
    if is_root() { vec!["isolate --pid --", user] } else { vec![user] }
}

/// Whether the kernel has what pivot's options and ROOT ask for: an overlay in a user namespace, and for anybody a stack
/// (`.mstack`), whose marks are user attributes, are of Linux 5.11.
pub fn has_overlay_for(way: &str, options: &str) -> bool {
    let overlay = options.contains("--ephemeral") || options.contains("--overlay");
    let wanted = options.contains(".mstack") || overlay && way.contains("--user");
    !wanted || kernel_at_least(5, 11)
}

/// The ways in which pivot has these options here.
pub fn ways_for(options: &str) -> Vec<&'static str> {
    let ways: Vec<_> = ways().into_iter().filter(|way| has_overlay_for(way, options)).collect();
    if ways.is_empty() {
        println!("skipped: an overlay in a user namespace, or of a stack, is of Linux 5.11");
    }
    ways
}

/// Whether an overlay of that way can keep removed directories in a tmpfs: as a user, in extended
/// attributes, which a tmpfs has from Linux 6.6.
pub fn removes_directories(way: &str) -> bool {
    !way.contains("--user") || kernel_at_least(6, 6)
}

/// A directory with a busybox root in it, at `root`.
pub fn scene() -> Work {
    let work = Work::new();
    let made = work.sh(&format!("mkdir root && tar -xf '{}' -C root && mkdir root/mnt", busybox_image().display()));
    made.expect(0, "");
    work
}

/// Runs a line of pivot's in which strace(1) stops pivot after its first call of a kind; meanwhile a script,
/// to which it is `$PID`.
pub fn stopped_at(work: &Work, call: &str, way: &str, line: &str, script: &str) -> Outcome {
    let log = work.join("log");
    let strace = format!("strace -o '{}' -e trace={call} -e inject={call}:signal=SIGSTOP:when=1", log.display());
    let mut command = work.command("sh");
    command.arg("-c").arg(format!("{way} {strace} {line}"));
    let outcome = std::thread::scope(|scope| {
        let run = scope.spawn(|| work.output(command, b""));
        let stopped = || std::fs::read_to_string(&log).is_ok_and(|log| log.contains("stopped by SIGSTOP"));
        work.wait_until("pivot to be stopped", stopped);
        let processes = work.processes();
        let pivot = processes.iter().find(|line| line.split(' ').nth(1) == Some("pivot")).expect("pivot runs");
        let pid = pivot.split(' ').next().expect("a number");
        let script = format!("PID={pid}; ({script}); s=$?; kill -CONT $PID; exit $s");
        work.sh(&script).expect(0, "");
        run.join().expect("the run")
    });
    std::fs::remove_file(log).expect("the log");
    outcome
}
