//! Which limit a group has reached.

use std::fmt;
use std::fs::read_to_string;
use std::path::PathBuf;

use crate::limits::name::LEAF;
use crate::limits::setting::Limits;

pub struct Exceeded {
    pub limit: &'static str,
    text: String,
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.text)
    }
}

pub fn exceeded(limits: &Limits, dirs: &[PathBuf]) -> Option<Exceeded> {
    let count = |file: &str, key: &str| {
        dirs.iter().find_map(|dir| {
            let text = read_to_string(dir.join(file)).ok()?;
            let value = text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse::<u64>().ok())?;
            (value > 0).then_some(value)
        })
    };
    if let Some(killed) = limits.memory.and_then(|_| {
        // Version 2, then version 1 (Linux 4.13).
        count("memory.events", "oom_kill ").or_else(|| count("memory.oom_control", "oom_kill "))
    }) {
        let text = format!("the limit of memory was reached: the kernel killed {}", counted(killed, "process"));
        return Some(Exceeded { limit: "memory", text });
    }
    // Before Linux 6.11 they count in the group of the forking process.
    let refused = limits
        .pids
        .and_then(|_| count("pids.events", "max ").or_else(|| count(&format!("{LEAF}/pids.events"), "max ")))?;
    let text = format!("the limit of processes was reached: {} failed", counted(refused, "fork"));
    Some(Exceeded { limit: "pids", text })
}

fn counted(count: u64, noun: &str) -> String {
    let plural = match count {
        1 => "",
        _ if noun.ends_with('s') => "es",
        _ => "s",
    };
    format!("{count} {noun}{plural}")
}
