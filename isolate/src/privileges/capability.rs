//! Capabilities by name (capabilities(7)).

use anyhow::{Result, anyhow};
use chain::capabilities::CapabilitySet;
use chain::{WithHint, defaults};

use crate::args::CapabilityName;

const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

pub fn set(names: &[CapabilityName]) -> Result<CapabilitySet> {
    let mut set = CapabilitySet::empty();
    for CapabilityName(name) in names {
        set |= match &name[..] {
            "ALL" => CapabilitySet::from_bits_retain(u64::MAX),
            "NONE" => CapabilitySet::empty(),
            "DEFAULT" => defaults::CAPABILITIES.iter().fold(CapabilitySet::empty(), |set, name| set | one(name)),
            name if NAMES.contains(&name) => one(name),
            name => {
                let near = NAMES.iter().find(|known| known.contains(name) || name.contains(**known));
                let hint = match near {
                    Some(near) => format!("did you mean {near}?"),
                    None => "the names are those of capabilities(7), with or without CAP_; ALL, or default".into(),
                };
                return Err(anyhow!("{name}: no such capability")).hint(hint);
            }
        };
    }
    Ok(set)
}

fn one(name: &str) -> CapabilitySet {
    NAMES.iter().position(|known| *known == name).map_or(CapabilitySet::empty(), bit)
}

fn bit(number: usize) -> CapabilitySet {
    CapabilitySet::from_bits_retain(1 << number)
}

/// Each capability of a set that the kernel may know.
pub fn each(set: CapabilitySet) -> impl Iterator<Item = CapabilitySet> {
    (0..64).map(bit).filter(move |&one| set.contains(one))
}

pub fn names(set: CapabilitySet) -> Vec<String> {
    NAMES.iter().enumerate().filter(|(number, _)| set.contains(bit(*number))).map(|(_, n)| n.to_lowercase()).collect()
}
