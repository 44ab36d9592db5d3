//! Signals at random moments: each start gets one, at isolate, its guard, the child or the group, from the first microsecond
//! on, every fourth of them at a terminal. 300 starts by default, as many as `CHAINROOT_SIGNALS` says otherwise (scripts/soak signals), and then unshare and
//! bubblewrap on the same schedule for comparison.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use chainroot_tests::{Terminal, Work, have};
use nix::libc;

const OPTIONS: [&str; 15] = [
    "--fork",
    "--pid",
    "--init",
    "--pid --uts --ipc --mount",
    "--pid --verbose",
    "--net --fork",
    "--pid --mount-proc",
    "--init --uts",
    "--fork --kill-child=TERM",
    "--pid --status-fd 2",
    "--user --pid",
    "--pid --time",
    "--pid --cgroup",
    "--pid --hostname soak",
    "--all",
];

/// xorshift64: the same schedule for everybody.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum At {
    Isolate,
    Guard,
    Child,
    Group,
}

#[derive(Debug)]
struct Round {
    options: &'static str,
    at: At,
    signal: i32,
    delay: Duration,
    /// The command ends by itself, with 7.
    ends: bool,
    at_terminal: bool,
}

impl Round {
    fn next(random: &mut Random) -> Round {
        let at = match random.below(8) {
            0 => At::Guard,
            1 => At::Child,
            2 => At::Group,
            _ => At::Isolate,
        };
        let signal = match 1 + random.below(64) as i32 {
            // The C library's own (nptl(7)).
            32 | 33 => libc::SIGKILL,
            signal => signal,
        };
        let signal = if matches!(at, At::Guard | At::Child) { libc::SIGKILL } else { signal };
        let options = OPTIONS[random.below(15) as usize];
        let delay = Duration::from_micros(random.below(4_000));
        let (ends, at_terminal) = (random.below(2) == 0, random.below(4) == 0);
        Round { options, at, signal, delay, ends, at_terminal }
    }

    /// Whether this is an end that the signal, the SIGTERM that follows it or the command itself explains.
    fn explains(&self, status: ExitStatus) -> bool {
        let by_itself = self.ends && status.code() == Some(7);
        // A shell that is PID 1 and handles a signal to die of it cannot, and leaves with its number.
        let by_number = status.code() == Some(128 + self.signal);
        let is_harmless = self.is_harmless();
        let by_signal = status.signal() == Some(self.signal) && !is_harmless;
        let by_term = status.signal() == Some(libc::SIGTERM) && (is_harmless || self.at == At::Child);
        by_itself || by_signal || by_term || by_number && !is_harmless
    }

    /// Nothing ends of it.
    fn is_harmless(&self) -> bool {
        let ignored = [libc::SIGCHLD, libc::SIGURG, libc::SIGWINCH, libc::SIGCONT];
        let stops = [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU, libc::SIGSTOP];
        self.at == At::Guard || ignored.contains(&self.signal) || stops.contains(&self.signal)
    }
}

fn send(to: i32, signal: i32) {
    // SAFETY: kill(2) takes any numbers; the process is not waited for yet.
    unsafe { libc::kill(to, signal) };
}

fn children(pid: i32) -> Vec<i32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn is_guard(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "chainroot-guard")
}

/// What has been started, as the leader of a process group.
enum Started<'a> {
    AtTerminal(Terminal<'a>),
    Without(Child),
}

impl Started<'_> {
    fn pid(&self) -> i32 {
        match self {
            Started::AtTerminal(terminal) => terminal.pid(),
            Started::Without(child) => child.id() as i32,
        }
    }

    fn ended(&mut self, within: Duration) -> Option<ExitStatus> {
        let begun = Instant::now();
        loop {
            let status = match self {
                Started::AtTerminal(terminal) => terminal.try_wait(),
                Started::Without(child) => child.try_wait().expect("wait"),
            };
            if status.is_some() || begun.elapsed() > within {
                return status;
            }
            std::thread::sleep(Duration::from_micros(300));
        }
    }
}

fn start<'a>(work: &'a Work, line: &str, at_terminal: bool) -> Started<'a> {
    let mut command = work.command("sh");
    command.args(["-c", &format!("exec {line}")]);
    if at_terminal {
        return Started::AtTerminal(work.terminal_with(command));
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // nohup(1) has the first ignored, a shell without job control the others for what it runs in the background.
    let default = || {
        for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT] {
            // SAFETY: signal(2) is async-signal-safe, and no handler is installed.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        Ok(())
    };
    // SAFETY: the closure only makes system calls.
    Started::Without(unsafe { command.process_group(0).pre_exec(default) }.spawn().expect("spawn"))
}

/// One start. What was wrong with it.
fn run(work: &Work, line: &str, round: &Round) -> Result<(), String> {
    let mut started = start(work, line, round.at_terminal);
    let pid = started.pid();
    std::thread::sleep(round.delay);
    match round.at {
        At::Isolate => send(pid, round.signal),
        At::Group => send(-pid, round.signal),
        At::Guard => children(pid).into_iter().filter(|&pid| is_guard(pid)).for_each(|pid| send(pid, round.signal)),
        At::Child => {
            children(pid).into_iter().find(|&pid| !is_guard(pid)).into_iter().for_each(|pid| send(pid, round.signal))
        }
    }
    // What is to end of the signal is to end of it before it gets another one.
    let patience = if round.is_harmless() || round.at == At::Child { 30 } else { 10_000 };
    if started.ended(Duration::from_millis(patience)).is_none() {
        // To isolate alone, also where a whole group was stopped.
        send(pid, libc::SIGCONT);
        send(pid, libc::SIGTERM);
    }
    match started.ended(Duration::from_secs(20)) {
        None => {
            send(pid, libc::SIGKILL);
            let _ = started.ended(Duration::from_secs(20));
            Err("hangs".into())
        }
        Some(status) if round.explains(status) => Ok(()),
        Some(status) => Err(format!("ended with {status:?}")),
    }
}

/// Most of a start's time is waiting: so many at once are the load.
const AT_ONCE: u64 = 8;

fn soak(starts: u64, line: impl Fn(&Work, &Round) -> String + Sync) -> Vec<String> {
    std::thread::scope(|scope| {
        let line = &line;
        let share = |nth| starts / AT_ONCE + u64::from(nth < starts % AT_ONCE);
        let all: Vec<_> = (0..AT_ONCE).map(|nth| scope.spawn(move || soak_one(nth, share(nth), line))).collect();
        all.into_iter().flat_map(|one| one.join().expect("a thread")).collect()
    })
}

/// One start after the other.
fn soak_one(nth: u64, starts: u64, line: impl Fn(&Work, &Round) -> String) -> Vec<String> {
    let work = Work::new();
    let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ nth << 32);
    let mut wrong = Vec::new();
    for number in 0..starts {
        let round = Round::next(&mut random);
        if let Err(what) = run(&work, &line(&work, &round), &round) {
            wrong.push(format!("{nth}.{number}: {what}: {round:?}"));
        }
        if number % 50 == 49 || number + 1 == starts {
            let begun = Instant::now();
            while !work.processes().is_empty() && begun.elapsed() < Duration::from_secs(10) {
                std::thread::sleep(Duration::from_millis(1));
            }
            let left = work.processes();
            if !left.is_empty() {
                wrong.push(format!("{nth}.{number}: left behind: {left:?}"));
                left.iter()
                    .filter_map(|line| line.split(' ').next()?.parse().ok())
                    .for_each(|pid| send(pid, libc::SIGKILL));
            }
        }
    }
    wrong
}

fn command_of(round: &Round) -> &'static str {
    if round.ends { "sh -c 'sleep 0.02; exit 7'" } else { "sleep 1000" }
}

#[test]
fn no_signal_at_any_moment_gives_a_wrong_status_a_hang_or_a_leftover() {
    let asked = std::env::var("CHAINROOT_SIGNALS").ok().and_then(|number| number.parse().ok());
    let starts = asked.unwrap_or(300);
    let isolate =
        |work: &Work, round: &Round| format!("isolate {} {} -- {}", work.user(), round.options, command_of(round));
    let wrong = soak(starts, isolate);
    assert!(wrong.is_empty(), "{} of {starts} wrong:\n{}", wrong.len(), wrong.join("\n"));
    if asked.is_some() {
        eprintln!("isolate: 0 of {starts} wrong");
        let peers = [
            ("unshare", "unshare --fork --pid --kill-child --"),
            ("bwrap", "bwrap --unshare-pid --die-with-parent --bind / / --"),
        ];
        for (name, line) in peers.into_iter().filter(|(name, _)| have(name)) {
            let theirs = soak(starts.min(400), |_, round| format!("{line} {}", command_of(round)));
            eprintln!("{name}: {} of {} wrong", theirs.len(), starts.min(400));
        }
    }
}
