//! A real network without root: the program pasta joins the child's network namespace to ours.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow};
use chain::{WithHint, pidfd};
use nix::libc::SIGKILL;
use nix::unistd::{Pid, geteuid};

/// By default pasta forwards what the host listens on, in both directions, and makes the gateway's address the host's
/// loopback: COMMAND would reach every service that trusts local users. Names are resolved by the host's own resolver,
/// wherever that listens.
const CLOSED: [&str; 11] =
    ["--no-map-gw", "-t", "none", "-u", "none", "-T", "none", "-U", "none", "--dns-forward", RESOLVER];

/// Where pasta answers for the host's resolver: link-local, so it collides with no real host.
const RESOLVER: &str = "169.254.1.1";

/// For root, with the network namespace as its stdin.
const ROOTS_OPTIONS: [&str; 6] = ["--netns-only", "--runas", "0", "--no-netns-quit", "--netns", "/proc/self/fd/0"];

/// pasta goes into the background and stays: it is in the network namespace, and would keep that alive.
pub struct Pasta(OwnedFd);

impl Pasta {
    pub fn descriptor(&self) -> i32 {
        self.0.as_raw_fd()
    }

    pub fn stop(&self) {
        // PID 1 of a namespace of its own, where it drops every other signal.
        let _ = pidfd::send(&self.0, SIGKILL);
    }
}

/// Starts it, and returns once the network is there.
pub fn start(child: Pid) -> Result<Pasta> {
    let pid_file = PidFile::create()?;
    let mut pasta = Command::new("pasta");
    pasta
        .args(["--config-net", "--quiet", "--pid"])
        .arg(&pid_file.0)
        .args(CLOSED)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    if geteuid().is_root() {
        // By itself it would become nobody, who may enter nothing of root's; and before it looks at a
        // process it drops what it takes to look at root's (proc(5), ptrace(2)). Its own input is its own.
        let path = format!("/proc/{child}/ns/net");
        pasta.args(ROOTS_OPTIONS).stdin(File::open(&path).context(path)?);
    } else {
        pasta.arg(child.to_string());
    }
    let output =
        pasta.output().context("pasta").hint("--net=pasta runs the program pasta: install the package passt")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().filter(|line| !line.contains("syslog")).collect::<Vec<_>>().join("; ");
        let hint = if said.contains("tun") {
            "pasta needs /dev/net/tun, which the own user must be able to open: chmod 666 /dev/net/tun"
        } else {
            "try it by hand: pasta --config-net -- ip address"
        };
        return Err(anyhow!("pasta: {}", if said.is_empty() { "it failed and does not say why" } else { &said }))
            .hint(hint);
    }
    let pid = std::fs::read_to_string(&pid_file.0).context("pasta's process id")?;
    let pid = pid.trim().parse().context("pasta's process id")?;
    Ok(Pasta(pidfd::of(pid).context("pasta")?))
}

/// Where pasta says which process it became.
struct PidFile(PathBuf);

impl PidFile {
    fn create() -> Result<PidFile> {
        let file = std::env::temp_dir().join(format!("isolate-pasta-{}", std::process::id()));
        let make = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file);
        // A file of this name is from an isolate that was killed, and had our process id.
        let made = make().or_else(|_| std::fs::remove_file(&file).and_then(|()| make()));
        made.with_context(|| file.display().to_string())?;
        Ok(PidFile(file))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
