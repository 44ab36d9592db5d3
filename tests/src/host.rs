//! What must be the same after a test as before it.

use std::fs;

/// The environment variable by which the processes of a test are known.
pub(crate) const MARK: &str = "CHAINROOT_TEST";

/// The host's state that a chain could have changed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Host {
    mounts: String,
    hostname: String,
}

impl Host {
    pub(crate) fn look() -> Host {
        Host {
            mounts: fs::read_to_string("/proc/self/mountinfo").expect("mountinfo"),
            hostname: fs::read_to_string("/proc/sys/kernel/hostname").expect("hostname"),
        }
    }
}

pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Whether the running kernel is this version or newer.
pub fn kernel_at_least(major: u32, minor: u32) -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("osrelease");
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(major), Some(minor))
}

/// The live processes whose environment has this in it: the command lines, for a message.
pub fn processes_with(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let pid = entry.file_name();
        if !pid.to_string_lossy().bytes().all(|b| b.is_ascii_digit())
            || pid.to_string_lossy() == std::process::id().to_string()
        {
            continue;
        }
        let read = |name: &str| fs::read(entry.path().join(name)).unwrap_or_default();
        if read("environ").windows(text.len()).any(|window| window == text.as_bytes()) {
            let line = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
            found.push(format!("{} {line}", pid.to_string_lossy()));
        }
    }
    found
}
