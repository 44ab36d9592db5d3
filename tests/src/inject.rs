//! A fault injector: runs the real binary under ptrace(2) and makes the n-th call of one kind fail
//! in the process that has become a given tool, wherever in the chain that is.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc::{self, c_long};
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, setsid};

use crate::Outcome;

/// What the kernel is made to answer.
pub const ERRNOS: [Errno; 7] =
    [Errno::ENOMEM, Errno::EIO, Errno::EINTR, Errno::ENOSPC, Errno::EMFILE, Errno::EACCES, Errno::ENOSYS];

/// The `nth` (from 1) call of this number fails with this error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub call: c_long,
    pub nth: usize,
    pub errno: Errno,
}

/// What a traced run did.
#[derive(Debug)]
pub struct Traced {
    pub outcome: Outcome,
    /// How often the tool made each call.
    pub calls: BTreeMap<c_long, usize>,
    /// The fault happened, and in a write to this descriptor where it was one.
    pub hit: Option<Option<u64>>,
    /// The run was killed because it did not end.
    pub hung: bool,
    /// Every process and thread that it had.
    pub pids: BTreeSet<Pid>,
}

/// Whether this call can be made to fail at all: not those that have no way to, or that fail only
/// for arguments that are no valid ones. (brk(2) answers with the old break and no error.)
pub fn can_fail(call: c_long, errno: Errno) -> bool {
    match call {
        libc::SYS_brk
        | libc::SYS_exit
        | libc::SYS_exit_group
        | libc::SYS_rt_sigreturn
        | libc::SYS_restart_syscall
        | libc::SYS_sched_yield
        | libc::SYS_sigaltstack
        | libc::SYS_rt_sigaction
        | libc::SYS_rt_sigprocmask
        | libc::SYS_capget
        | libc::SYS_kill
        | libc::SYS_set_robust_list
        | libc::SYS_set_tid_address
        | libc::SYS_rseq
        | libc::SYS_arch_prctl
        | libc::SYS_getpid
        | libc::SYS_getppid
        | libc::SYS_gettid
        | libc::SYS_getuid
        | libc::SYS_geteuid
        | libc::SYS_getgid
        | libc::SYS_getegid
        | libc::SYS_umask => false,
        // An attribute that unpack may not set is noted, and the tree is made without it.
        libc::SYS_fsetxattr | libc::SYS_lsetxattr => !matches!(errno, Errno::EACCES | Errno::EPERM | Errno::EINTR),
        // The C library and Rust's end the process on answers that the kernel has not.
        libc::SYS_futex | libc::SYS_getrandom | libc::SYS_rt_sigtimedwait => errno == Errno::EINTR,
        _ => errno != Errno::EINTR || can_be_interrupted(call),
    }
}

/// The calls whose manual pages list EINTR.
fn can_be_interrupted(call: c_long) -> bool {
    matches!(
        call,
        libc::SYS_open
            | libc::SYS_openat
            | libc::SYS_openat2
            | libc::SYS_close
            | libc::SYS_read
            | libc::SYS_readv
            | libc::SYS_pread64
            | libc::SYS_preadv
            | libc::SYS_write
            | libc::SYS_writev
            | libc::SYS_pwrite64
            | libc::SYS_pwritev
            | libc::SYS_dup2
            | libc::SYS_dup3
            | libc::SYS_fcntl
            | libc::SYS_flock
            | libc::SYS_wait4
            | libc::SYS_waitid
            | libc::SYS_poll
            | libc::SYS_ppoll
            | libc::SYS_select
            | libc::SYS_pselect6
            | libc::SYS_epoll_wait
            | libc::SYS_epoll_pwait
            | libc::SYS_accept4
            | libc::SYS_connect
            | libc::SYS_recvfrom
            | libc::SYS_recvmsg
            | libc::SYS_sendto
            | libc::SYS_sendmsg
            | libc::SYS_ftruncate
            | libc::SYS_fallocate
            | libc::SYS_fsync
            | libc::SYS_fdatasync
            | libc::SYS_statfs
            | libc::SYS_fstatfs
            | libc::SYS_getrandom
            | libc::SYS_nanosleep
            | libc::SYS_clock_nanosleep
            | libc::SYS_rt_sigtimedwait
            | libc::SYS_rt_sigsuspend
            | libc::SYS_pause
            | libc::SYS_splice
            | libc::SYS_tee
            | libc::SYS_futex
    )
}

/// Runs a command to its end, with the fault in what runs as `tool`. Only processes that have become
/// the tool are looked at, from the time that their own code runs: what the C library and Rust's
/// runtime do before main is not the tool's to handle.
pub fn run(command: &mut Command, tool: &str, fault: Option<Fault>) -> Traced {
    follow(command, tool, fault, None)
}

/// The same as root in a fraction of the time, where only calls of the fault's own kind are counted.
pub fn run_filtered(command: &mut Command, tool: &str, fault: Fault) -> Traced {
    // The child's own execve comes before there is a tracer that hears of filters.
    let filter = (fault.call != libc::SYS_execve).then(|| only(fault.call));
    follow(command, tool, Some(fault), filter)
}

fn follow(command: &mut Command, tool: &str, fault: Option<Fault>, filter: Option<Filter>) -> Traced {
    let (mut stdout, mut stderr) = (tempfile::tempfile().expect("a file"), tempfile::tempfile().expect("a file"));
    command.stdout(stdout.try_clone().expect("dup")).stderr(stderr.try_clone().expect("dup"));
    let filtered = filter.is_some();
    // SAFETY: ptrace, setsid and prctl are async-signal-safe, and the filter was made before the fork.
    unsafe {
        command.pre_exec(move || {
            setsid()?;
            ptrace::traceme()?;
            filter.as_ref().map_or(Ok(()), install)
        });
    }
    let child = Pid::from_raw(command.spawn().expect("spawn").id() as i32);
    let (ended, watched) = mpsc::channel::<()>();
    let watchdog = std::thread::spawn(move || {
        let hung = watched.recv_timeout(Duration::from_secs(30)) == Err(RecvTimeoutError::Timeout);
        if hung {
            // Its death is that of all: PTRACE_O_EXITKILL is the tracer's, so the group and session go one by one.
            kill_descendants(child);
        }
        hung
    });
    let mut tracer = Tracer {
        tool,
        fault,
        filtered,
        tasks: HashMap::new(),
        calls: BTreeMap::new(),
        hit: None,
        pids: BTreeSet::new(),
    };
    let status = tracer.follow(child);
    drop(ended);
    let hung = watchdog.join().expect("watchdog");
    let outcome = Outcome { stdout: text(&mut stdout), stderr: text(&mut stderr), status };
    Traced { outcome, calls: tracer.calls, hit: tracer.hit, hung, pids: tracer.pids }
}

type Filter = [libc::sock_filter; 6];

/// A filter that stops for this call and for what prepares a task, and for nothing else: a stop at
/// every call costs more than all the rest of a run.
fn only(call: c_long) -> Filter {
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let equal = |call: c_long, jt| step((libc::BPF_JMP | libc::BPF_JEQ) as u16, jt, 0, call as u32);
    [
        step((libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, 0, 0, 0),
        equal(call, 3),
        equal(libc::SYS_ppoll, 2),
        equal(libc::SYS_rseq, 1),
        step(libc::BPF_RET as u16, 0, 0, libc::SECCOMP_RET_ALLOW),
        step(libc::BPF_RET as u16, 0, 0, libc::SECCOMP_RET_TRACE),
    ]
}

/// As root, which needs no no_new_privs for it: that would be seen.
fn install(filter: &Filter) -> std::io::Result<()> {
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    // SAFETY: the kernel copies the program, which is alive.
    let result = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    Errno::result(result).map(drop).map_err(std::io::Error::from)
}

fn text(file: &mut File) -> String {
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).expect("output");
    String::from_utf8_lossy(&bytes).into_owned()
}

fn kill_descendants(pid: Pid) {
    let children = format!("/proc/{pid}/task/{pid}/children");
    for child in std::fs::read_to_string(children).unwrap_or_default().split_whitespace() {
        kill_descendants(Pid::from_raw(child.parse().unwrap_or(i32::MAX)));
    }
    let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
}

/// Where a task is on the way to its own code, and inside which call.
#[derive(Clone, Copy, Debug, Default)]
struct Task {
    /// It runs the tool's binary.
    ours: bool,
    /// It asked about its three standard streams, the first thing that a tool does itself (chain/src/start.rs).
    prepared: bool,
    /// A thread, which the C library prepares with rseq(2).
    thread: bool,
    inside: Option<Inside>,
}

#[derive(Clone, Copy, Debug)]
struct Inside {
    answer: Option<i64>,
    /// It ends the preparation.
    prepares: bool,
}

struct Tracer<'a> {
    tool: &'a str,
    fault: Option<Fault>,
    /// A filter chooses the calls that are stopped for, where they are entered.
    filtered: bool,
    tasks: HashMap<Pid, Task>,
    calls: BTreeMap<c_long, usize>,
    hit: Option<Option<u64>>,
    pids: BTreeSet<Pid>,
}

impl Tracer<'_> {
    /// Follows the child and all that it starts until none is left, and returns the child's status.
    fn follow(&mut self, child: Pid) -> i32 {
        let mut status = None;
        loop {
            let event = match waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)) {
                Ok(event) => event,
                Err(Errno::ECHILD) => return status.expect("the child's end was seen"),
                Err(Errno::EINTR) => continue,
                Err(errno) => panic!("waitpid: {errno}"),
            };
            self.pids.extend(event.pid());
            match event {
                WaitStatus::Exited(pid, code) => {
                    self.tasks.remove(&pid);
                    status = if pid == child { Some(code) } else { status };
                }
                WaitStatus::Signaled(pid, signal, _) => {
                    self.tasks.remove(&pid);
                    status = if pid == child { Some(128 + signal as i32) } else { status };
                }
                // The first stop of the child is that of its exec.
                WaitStatus::Stopped(pid, Signal::SIGTRAP) if pid == child && self.tasks.is_empty() => {
                    let options = Options::PTRACE_O_TRACESYSGOOD
                        | Options::PTRACE_O_TRACEFORK
                        | Options::PTRACE_O_TRACEVFORK
                        | Options::PTRACE_O_TRACECLONE
                        | Options::PTRACE_O_TRACEEXEC
                        | Options::PTRACE_O_TRACESECCOMP
                        | Options::PTRACE_O_EXITKILL;
                    ptrace::setoptions(pid, options).expect("PTRACE_SETOPTIONS");
                    self.became(pid);
                    self.go_on(pid, None);
                }
                // A new task stops before its first instruction; it may do so before its parent's event is seen.
                WaitStatus::Stopped(pid, Signal::SIGSTOP) if !self.tasks.contains_key(&pid) => {
                    let parent = status_field(pid, if is_thread(pid) { "Tgid" } else { "PPid" });
                    let ours = self.tasks.get(&parent).is_some_and(|task| task.ours) || self.runs_tool(pid);
                    let thread = is_thread(pid);
                    self.tasks.insert(pid, Task { ours, prepared: !thread, thread, inside: None });
                    self.go_on(pid, None);
                }
                WaitStatus::PtraceEvent(pid, _, libc::PTRACE_EVENT_EXEC) => {
                    // The other threads are gone, without an event of their own.
                    self.became(pid);
                    self.go_on(pid, None);
                }
                WaitStatus::PtraceSyscall(pid) => {
                    // Asked, not counted: after an exec or in a new task the next stop may be either.
                    let enters = ptrace::syscall_info(pid).is_ok_and(|info| info.op == libc::PTRACE_SYSCALL_INFO_ENTRY);
                    self.at_call(pid, enters);
                    self.go_on(pid, None);
                }
                WaitStatus::PtraceEvent(pid, _, libc::PTRACE_EVENT_SECCOMP) => {
                    if self.tasks.get(&pid).is_some_and(|task| task.ours) {
                        self.at_call(pid, true);
                    }
                    self.go_on(pid, None);
                }
                WaitStatus::Stopped(pid, signal) => {
                    let stop = matches!(signal, Signal::SIGSTOP | Signal::SIGTSTP | Signal::SIGTTIN | Signal::SIGTTOU);
                    // A group stop has no signal to deliver: PTRACE_GETSIGINFO says EINVAL, ptrace(2).
                    let group_stop = stop && ptrace::getsiginfo(pid) == Err(Errno::EINVAL);
                    self.go_on(pid, (!group_stop).then_some(signal));
                }
                WaitStatus::PtraceEvent(pid, ..) => self.go_on(pid, None),
                WaitStatus::Continued(_) | WaitStatus::StillAlive => {}
            }
        }
    }

    /// A process has become another program.
    fn became(&mut self, pid: Pid) {
        let ours = self.runs_tool(pid);
        self.tasks.insert(pid, Task { ours, ..Task::default() });
    }

    fn runs_tool(&self, pid: Pid) -> bool {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let word = line.split(|&b| b == 0).next().unwrap_or_default();
        word.rsplit(|&b| b == b'/').next() == Some(self.tool.as_bytes())
    }

    /// On to the next call, or for programs that are not the tool to the next event.
    fn go_on(&self, pid: Pid, signal: Option<Signal>) {
        let ours = self.tasks.get(&pid).filter(|task| task.ours);
        // Past a filter only the end of a call is looked at, where it matters.
        let to_next = ours.is_some_and(|task| !self.filtered || task.inside.is_some());
        let result = if to_next { ptrace::syscall(pid, signal) } else { ptrace::cont(pid, signal) };
        // ESRCH: it was killed meanwhile.
        assert!(matches!(result, Ok(()) | Err(Errno::ESRCH)), "{result:?}");
    }

    /// A task enters a call or leaves one.
    fn at_call(&mut self, pid: Pid, enters: bool) {
        let Ok(mut registers) = ptrace::getregs(pid) else { return };
        let mut task = self.tasks.get(&pid).copied().unwrap_or_default();
        match task.inside.take() {
            _ if enters => {
                let call = registers.orig_rax as c_long;
                let mut inside = Inside { answer: None, prepares: false };
                if !task.prepared {
                    inside.prepares = match call {
                        libc::SYS_ppoll => !task.thread && registers.rsi == 3,
                        libc::SYS_rseq => task.thread,
                        _ => false,
                    };
                } else {
                    let count = self.calls.entry(call).or_default();
                    *count += 1;
                    let now = |fault: &Fault| (fault.call, fault.nth) == (call, *count);
                    // Of these two only what waits can be interrupted: for a lock, for another thread.
                    let operation = registers.rsi as i32;
                    let waits = match call {
                        libc::SYS_fcntl => [libc::F_SETLKW, libc::F_OFD_SETLKW].contains(&operation),
                        libc::SYS_futex => [libc::FUTEX_WAIT, libc::FUTEX_WAIT_BITSET].contains(&(operation & 0x7f)),
                        _ => true,
                    };
                    // Nothing is written back when a directory is closed, and Rust's library counts on that.
                    let is_directory = || Path::new(&format!("/proc/{pid}/fd/{}", registers.rdi)).is_dir();
                    let possible = |fault: &Fault| match fault.errno {
                        Errno::EINTR => waits,
                        _ => call != libc::SYS_close || !is_directory(),
                    };
                    if let Some(fault) = self.fault.filter(|fault| now(fault) && possible(fault)) {
                        let written = matches!(call, libc::SYS_write | libc::SYS_writev).then_some(registers.rdi);
                        self.hit = Some(written);
                        inside.answer = Some(-i64::from(fault.errno as i32));
                        // close(2) frees the descriptor whatever it answers.
                        if call != libc::SYS_close {
                            // A filter of the tool's own comes after this stop, and kills for a call of no number.
                            let harmless = if call == libc::SYS_execve { libc::SYS_getpid as u64 } else { u64::MAX };
                            registers.orig_rax = harmless;
                            let _ = ptrace::setregs(pid, registers);
                        }
                    }
                }
                task.inside = Some(inside);
            }
            Some(inside) => {
                task.prepared |= inside.prepares;
                if let Some(answer) = inside.answer {
                    registers.rax = answer as u64;
                    let _ = ptrace::setregs(pid, registers);
                }
            }
            None => {}
        }
        self.tasks.insert(pid, task);
    }
}

fn status_field(pid: Pid, field: &str) -> Pid {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let value = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(":\t"));
    Pid::from_raw(value.and_then(|value| value.parse().ok()).unwrap_or(0))
}

fn is_thread(pid: Pid) -> bool {
    status_field(pid, "Tgid") != pid
}
