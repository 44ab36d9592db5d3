//! Every call of a tool fails once, in one way after the other: what must hold of each such run.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::libc::{self, c_long};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::Pid;

use crate::Work;
use crate::inject::{ERRNOS, Fault, Traced, can_fail, run, run_filtered};

/// A chain, and what it prints where nothing fails.
pub struct Case<'a> {
    /// The tool whose calls fail.
    pub tool: &'a str,
    /// A line for a shell: a tool first, with redirections, or a pipeline of tools.
    pub line: &'a str,
    pub stdout: String,
    /// What must be before each run.
    pub before: &'a dyn Fn(),
    /// What must hold after a run that ended with this status.
    pub after: &'a dyn Fn(i32) -> Result<(), String>,
}

/// Namespaces for this thread and what it starts: should a tool that lost a call mount or unmount in
/// the host's namespace, it is seen here and only here. Shared, as on a host that systemd booted.
pub fn behind_a_wall() {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS).expect("unshare");
    for kind in [MsFlags::MS_PRIVATE, MsFlags::MS_SHARED] {
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | kind, None::<&str>).expect("propagation");
    }
}

/// What a failing tool could have changed.
fn state() -> (String, String) {
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo").expect("mountinfo");
    (mounts, nix::unistd::gethostname().expect("hostname").to_string_lossy().into_owned())
}

/// The control groups that are named for a process of this run.
fn groups(dir: &Path, traced: &Traced) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let name = entry.file_name().to_string_lossy().into_owned();
            let ours = name.starts_with("isolate-");
            let mut numbers = name.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok());
            if ours && numbers.any(|number| traced.pids.contains(&Pid::from_raw(number))) {
                found.push(entry.path().display().to_string());
            }
            found.append(&mut groups(&entry.path(), traced));
        }
    }
    found
}

fn host_is_as_it_was(before: &(String, String), traced: &Traced, next: impl Fn()) -> Result<(), String> {
    let (mounts, hostname) = state();
    let mut left = groups(Path::new("/sys/fs/cgroup"), traced);
    if !left.is_empty() {
        // What a run could not remove, the next one sweeps.
        next();
        left = groups(Path::new("/sys/fs/cgroup"), traced);
    }
    if mounts != before.0 {
        return Err(format!("the mount table is now\n{mounts}"));
    }
    if hostname != before.1 {
        return Err(format!("the host is now called {hostname}"));
    }
    if left.is_empty() { Ok(()) } else { Err(format!("groups are left: {left:?}")) }
}

fn command(work: &Work, line: &str) -> Command {
    // The tools by their paths, and a PATH in which the command is found at once.
    let mut starts = true;
    let words = line.split(' ').map(|word| match std::mem::replace(&mut starts, word == "|") {
        true => work.tool(word).display().to_string(),
        false => word.to_owned(),
    });
    let script = format!("exec {}", words.collect::<Vec<_>>().join(" "));
    let mut command = work.command("sh");
    command.args(["-c", &script]).env("PATH", "/bin").stdin(Stdio::null());
    command
}

#[track_caller]
pub fn fail_every_call(work: &Work, case: &Case) {
    let all = std::env::var("CHAINROOT_FAULTS").is_ok_and(|value| value == "all");
    let host = state();
    (case.before)();
    let whole = run(&mut command(work, case.line), case.tool, None);
    whole.outcome.expect(0, &case.stdout);
    (case.after)(0).expect("the run without a fault");
    assert!(!whole.calls.is_empty(), "{} did not run", case.tool);
    let mut faults = Vec::new();
    for (&call, &count) in &whole.calls {
        for nth in 1..=count {
            for errno in ERRNOS.into_iter().filter(|&errno| can_fail(call, errno)) {
                faults.push(Fault { call, nth, errno });
            }
        }
    }
    // A prime step, so that the sample has every kind of error in it.
    let step = if all { 1 } else { 17 };
    let (mut broken, mut hit, mut interrupted) = (Vec::new(), 0, 0);
    for &fault in faults.iter().step_by(step) {
        (case.before)();
        let traced = run_filtered(&mut command(work, case.line), case.tool, fault);
        let next = || drop(run(&mut command(work, case.line), case.tool, None));
        hit += usize::from(traced.hit.is_some());
        interrupted += usize::from(traced.hit.is_some() && fault.errno == Errno::EINTR);
        let verdict = judge(case, fault, &whole, &traced)
            .and_then(|()| (case.after)(traced.outcome.status))
            .and_then(|()| host_is_as_it_was(&host, &traced, next));
        if let Err(why) = verdict {
            let Traced { outcome, .. } = &traced;
            let line = format!(
                "{fault:?}: {why}: status {} stdout {:?} stderr {:?}",
                outcome.status, outcome.stdout, outcome.stderr
            );
            // At once: a whole run takes minutes.
            eprintln!("{}: {line}", case.line);
            broken.push(line);
        }
        if state() != host {
            break;
        }
    }
    eprintln!(
        "{}: {} calls of {} kinds, {} faults tried, {hit} hit, {interrupted} of them EINTR",
        case.line,
        whole.calls.values().sum::<usize>(),
        whole.calls.len(),
        faults.len().div_ceil(step)
    );
    assert!(
        broken.is_empty(),
        "{}: {} of {}:\n{}",
        case.line,
        broken.len(),
        faults.len().div_ceil(step),
        broken.join("\n")
    );
}

/// The calls by which a mount table and the tree below a root are changed, and what they are changed by.
const MOUNTING: [c_long; 20] = [
    libc::SYS_unshare,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_mount_setattr,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_chdir,
    libc::SYS_fchdir,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_symlinkat,
    libc::SYS_flock,
    libc::SYS_setns,
    libc::SYS_close_range,
];

/// Fails each of a tool's steps in each call that could leave a mount behind: COMMAND, which prints
/// `done`, does not start, and the mount table outside is the same. Needs no root; as root it is behind a wall.
#[track_caller]
pub fn fail_every_step(work: &Work, tool: &str, line: &str) {
    let outside = || fs::read_to_string("/proc/thread-self/mountinfo").expect("mountinfo");
    let before = outside();
    let line = line.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
    let with = |option: &str| line.replacen(tool, &format!("{tool} {option}"), 1);
    let whole = run(&mut command(work, &line), tool, None);
    whole.outcome.expect(0, "done\n");
    let mut said = Vec::new();
    for (&call, &count) in whole.calls.iter().filter(|(call, _)| MOUNTING.contains(call)) {
        for nth in 1..=count {
            let traced = run(&mut command(work, &line), tool, Some(Fault { call, nth, errno: Errno::EIO }));
            let outcome = &traced.outcome;
            let about = || format!("{line}: call {call}, time {nth}: {} {:?}", outcome.status, outcome);
            assert!(!traced.hung, "{}", about());
            match outcome.status {
                0 => assert_eq!(outcome.stdout, "done\n", "{}", about()),
                125 => {
                    assert_eq!(outcome.stdout, "", "{}", about());
                    said.push(outcome.stderr.clone());
                }
                _ => panic!("{}", about()),
            }
            assert_eq!(outside(), before, "{}", about());
        }
    }
    // Every step that has a name has failed once.
    let explained = run(&mut command(work, &with("--explain")), tool, None).outcome.stdout;
    let verbose = run(&mut command(work, &with("--verbose")), tool, None).outcome.stderr;
    let prefix = format!("{tool}: ");
    let steps = verbose.lines().filter_map(|line| Some(line.strip_prefix(&prefix)?.rsplit_once(" (")?.0));
    for step in steps.filter(|step| !explained.contains(&format!("# {step}\n"))) {
        let failed = said.iter().any(|said| said.contains(&format!("{prefix}{step}: ")));
        assert!(failed, "{line}: {step:?} has not failed in:\n{}", said.concat());
    }
    eprintln!("{line}: {} failures", said.len());
}

/// Whether the run ended as the contract has it.
fn judge(case: &Case, fault: Fault, whole: &Traced, traced: &Traced) -> Result<(), String> {
    let outcome = &traced.outcome;
    if traced.hung {
        return Err("it hangs".into());
    }
    for line in outcome.stderr.lines() {
        if !["unpack", "isolate", "pivot", "mountclean"].iter().any(|tool| line.starts_with(&format!("{tool}: "))) {
            return Err("a line that is no message".into());
        }
    }
    if fault.errno == Errno::EINTR && outcome.status != 0 {
        return Err("an interrupted call is no failure".into());
    }
    match outcome.status {
        0 if outcome.stdout == case.stdout => Ok(()),
        0 => Err("it succeeded with another result".into()),
        125..=127 => {
            // What the run without a fault says too is a warning.
            let messages: Vec<&str> =
                outcome.stderr.lines().filter(|line| !whole.outcome.stderr.contains(line)).collect();
            let hints = messages.iter().filter(|line| line.contains(": hint: ")).count();
            // The message itself may be what could not be written.
            if messages.len() - hints != 1 && traced.hit != Some(Some(2)) {
                return Err("not one message".into());
            }
            if hints > 1 {
                return Err("more than one hint".into());
            }
            Ok(())
        }
        _ => Err("a status that is not in the contract".into()),
    }
}
