//! A directory for each test, with the tools on PATH.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::host::{Host, MARK, is_root, processes_with};

/// A test's own directory. When it is dropped the host must be as it was, and none of the test's
/// processes alive.
pub struct Work {
    dir: Option<TempDir>,
    mark: String,
    before: Host,
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub struct Outcome {
    pub stdout: String,
    pub stderr: String,
    /// As a shell has it: 128 and the signal's number where a signal ended it.
    pub status: i32,
}

impl Outcome {
    #[track_caller]
    pub fn expect(&self, status: i32, stdout: &str) -> &Outcome {
        assert_eq!((self.status, self.stdout.as_str()), (status, stdout), "stderr:\n{}", self.stderr);
        self
    }

    /// A refusal of the contract: 125, nothing on stdout, and a message with these words.
    #[track_caller]
    pub fn expect_refusal(&self, words: &[&str]) -> &Outcome {
        self.expect(125, "");
        for word in words {
            assert!(self.stderr.contains(word), "no {word:?} in:\n{}", self.stderr);
        }
        assert!(self.stderr.lines().count() <= 3, "more than a line and a hint:\n{}", self.stderr);
        self
    }
}

impl Work {
    #[allow(clippy::new_without_default)]
    pub fn new() -> Work {
        static NUMBER: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        // Not in /tmp, which may be a small tmpfs: roots are large.
        let base = std::env::var_os("CHAINROOT_TEST_DIR").unwrap_or_else(|| "/var/tmp".into());
        let dir = tempfile::Builder::new().prefix("chainroot-test-").tempdir_in(base).expect("a directory");
        // With an end, for the mark of another is not to begin with it.
        let mark = format!("{}.{number}.", std::process::id());
        Work { dir: Some(dir), mark, before: Host::look() }
    }

    pub fn path(&self) -> &Path {
        self.dir.as_ref().expect("not dropped").path()
    }

    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path().join(name)
    }

    /// A command in this directory, with our tools first on PATH.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new(program);
        command
            .current_dir(self.path())
            .env("PATH", format!("{}:{path}:/usr/sbin:/sbin", bin_dir().display()))
            .env(MARK, &self.mark)
            .env_remove("CHAINROOT_CARRY");
        command
    }

    /// The path of one of our binaries.
    pub fn tool(&self, name: &str) -> PathBuf {
        bin_dir().join(name)
    }

    /// A shell script with no terminal and nothing on its stdin.
    pub fn sh(&self, script: &str) -> Outcome {
        self.shell("sh", script)
    }

    pub fn shell(&self, shell: &str, script: &str) -> Outcome {
        self.with_input(shell, script, b"")
    }

    /// The same with bytes on its stdin. It has no controlling terminal, wherever the tests run.
    pub fn with_input(&self, shell: &str, script: &str, input: &[u8]) -> Outcome {
        let mut words = shell.split(' ');
        let mut command = self.command("setsid");
        command.arg("--wait").arg(words.next().expect("a shell")).args(words).arg("-c").arg(script);
        self.output(command, input)
    }

    /// Runs a command to its end; one that takes minutes hangs, and is killed.
    pub fn output(&self, mut command: Command, input: &[u8]) -> Outcome {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("spawn");
        let mut stdin = child.stdin.take().expect("stdin");
        let input = input.to_owned();
        // A command need not read its input: a write error is no failure.
        let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let (mark, (done, ended)) = (self.mark.clone(), std::sync::mpsc::channel::<()>());
        let watchdog = std::thread::spawn(move || {
            if ended.recv_timeout(Duration::from_secs(240)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                kill_marked(&mark);
            }
        });
        let output = child.wait_with_output().expect("wait");
        drop(done);
        watchdog.join().expect("watchdog");
        writer.join().expect("writer");
        Outcome {
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            status: output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0)),
        }
    }

    /// Options for isolate without which an ordinary user can make no namespace.
    pub fn user(&self) -> &'static str {
        if is_root() { "" } else { "--user --map-root" }
    }

    /// Waits for a condition that another process brings about; fails the test after half a minute.
    #[track_caller]
    pub fn wait_until(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !condition() {
            assert!(begun.elapsed() < Duration::from_secs(30), "waited in vain: {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The test's processes that are alive, by command line.
    pub fn processes(&self) -> Vec<String> {
        processes_with(&format!("{MARK}={}", self.mark))
    }

    /// Whether an unpack has left its staging beside some root here.
    pub fn staging(&self) -> Vec<String> {
        let names = fs::read_dir(self.path()).expect("the directory").flatten();
        names
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| name.starts_with('.'))
            .collect()
    }

    pub(crate) fn mark(&self) -> &str {
        &self.mark
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if std::thread::panicking() {
            kill_marked(&self.mark);
            return;
        }
        self.wait_until("the test's processes to end", || self.processes().is_empty());
        assert_eq!(Host::look(), self.before, "the host is not as it was");
        // A root may hold directories without write permission for their owner.
        let _ = Command::new("chmod").args(["-R", "u+rwX"]).arg(self.path()).stderr(Stdio::null()).status();
        self.dir.take().expect("once").close().expect("remove the test's directory");
    }
}

pub(crate) fn kill_marked(mark: &str) {
    for process in processes_with(&format!("{MARK}={mark}")) {
        let pid = process.split(' ').next().and_then(|pid| pid.parse().ok());
        if let Some(pid) = pid {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
    }
}

/// Where the four binaries are: `CHAINROOT_BIN`, or what cargo builds beside this test.
pub(crate) fn bin_dir() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        if let Some(dir) = std::env::var_os("CHAINROOT_BIN") {
            return dir.into();
        }
        let exe = std::env::current_exe().expect("current_exe");
        let dir = exe.parent().and_then(Path::parent).expect("target directory").to_owned();
        if let Some(cargo) = std::env::var_os("CARGO") {
            let mut build = Command::new(cargo);
            build.args(["build", "--quiet", "--workspace", "--bins"]).current_dir(env!("CARGO_MANIFEST_DIR"));
            if dir.ends_with("release") {
                build.arg("--release");
            }
            assert!(build.status().expect("cargo").success(), "cargo build failed");
        }
        dir
    })
}
