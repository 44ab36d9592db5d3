//! Starting processes and threads, and how they end.

use std::cell::Cell;
use std::error::Error;
use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::{Checked, ensure};

/// What this program is when a check starts it.
pub(crate) fn child(role: &str) -> ExitCode {
    match role {
        "seven" => std::process::exit(7),
        "panic" => panic!("on purpose"),
        "backtrace" => {
            let frames = std::backtrace::Backtrace::force_capture();
            let captured = frames.status() == std::backtrace::BacktraceStatus::Captured;
            ExitCode::from(if captured { 0 } else { 1 })
        }
        _ => ExitCode::FAILURE,
    }
}

fn this_as(role: &str) -> Result<Command, Box<dyn Error>> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(role).stdin(Stdio::null());
    Ok(command)
}

pub(crate) fn statuses(dir: &Path) -> Checked {
    ensure!(this_as("seven")?.status()?.code() == Some(7));
    let mut shell = Command::new("sh");
    shell.args(["-c", "pwd; cat; kill -9 $$"]).current_dir(dir).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut running = shell.spawn()?;
    let mut stdin = running.stdin.take().ok_or("no pipe")?;
    stdin.write_all(b"through a pipe")?;
    drop(stdin);
    let out = running.wait_with_output()?;
    ensure!(out.status.signal() == Some(9));
    ensure!(out.stdout == [dir.canonicalize()?.as_os_str().as_bytes(), b"\nthrough a pipe"].concat());
    let missing = Command::new(dir.join("missing")).status();
    ensure!(missing.is_err_and(|error| error.kind() == ErrorKind::NotFound));
    Ok(())
}

/// Ours abort (panic = "abort"), and say where.
pub(crate) fn panics(_: &Path) -> Checked {
    let out = this_as("panic")?.env("RUST_BACKTRACE", "1").output()?;
    ensure!(out.status.signal() == Some(Signal::SIGABRT as i32));
    ensure!(String::from_utf8_lossy(&out.stderr).contains("on purpose"));
    Ok(())
}

/// An error that is made where RUST_BACKTRACE is set walks the stack.
pub(crate) fn backtraces(_: &Path) -> Checked {
    ensure!(this_as("backtrace")?.status()?.success());
    Ok(())
}

static DROPPED: AtomicU32 = AtomicU32::new(0);

struct Counted(Cell<u32>);

impl Drop for Counted {
    fn drop(&mut self) {
        DROPPED.fetch_add(self.0.get(), Ordering::Relaxed);
    }
}

thread_local!(static COUNTED: Counted = const { Counted(Cell::new(0)) });

/// Stacks as large as asked for, thread-local destructors, channels, timed waits, names.
pub(crate) fn threads(_: &Path) -> Checked {
    let (sender, receiver) = mpsc::channel();
    let mut running = Vec::new();
    for n in 1..=16_u32 {
        let sender = sender.clone();
        let body = move || {
            let block = std::hint::black_box(vec![[n as u8; 4096]; 64]);
            let on_stack = std::hint::black_box([n as u8; 3 << 20]);
            COUNTED.with(|counted| counted.0.set(n));
            let name = fs::read_to_string("/proc/thread-self/comm").unwrap_or_default();
            let _ = sender.send((n, block[63][4095] == on_stack[on_stack.len() - 1] && name.trim() == format!("w{n}")));
        };
        running.push(std::thread::Builder::new().name(format!("w{n}")).stack_size(8 << 20).spawn(body)?);
    }
    drop(sender);
    let all: Vec<_> = receiver.iter().collect();
    for thread in running {
        thread.join().map_err(|_| "a thread panicked")?;
    }
    ensure!(all.len() == 16 && all.iter().all(|(_, right)| *right));
    ensure!(DROPPED.load(Ordering::Relaxed) == (1..=16).sum());
    let (_keep, silent) = mpsc::channel::<()>();
    ensure!(silent.recv_timeout(Duration::from_millis(5)) == Err(mpsc::RecvTimeoutError::Timeout));
    let allowed = fs::read_to_string("/proc/self/status")?;
    let mask = allowed.lines().find_map(|line| line.strip_prefix("Cpus_allowed:")).ok_or("no Cpus_allowed")?;
    let cpus: u32 = mask.trim().split(',').map(|hex| u32::from_str_radix(hex, 16).map_or(0, u32::count_ones)).sum();
    // A cgroup's quota may lower the one, never raise it.
    ensure!((1..=cpus as usize).contains(&std::thread::available_parallelism()?.get()));
    Ok(())
}
