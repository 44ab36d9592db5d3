//! System calls by name and machine, as seccomp profiles have them.

use std::collections::BTreeMap;

const TABLE: &str = include_str!("syscalls.tbl");

/// The table ends here: a call with a higher number is newer than Linux 6.18, and no filter knows what it does.
pub const LAST: u32 = 469;

/// The machine whose calls a program makes: each has its own numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    X86_64,
    /// 32-bit programs on x86-64.
    X86,
    Aarch64,
    Riscv64,
}

impl Machine {
    /// The one that this program was built for.
    pub fn own() -> Option<Machine> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Machine::X86_64),
            "aarch64" => Some(Machine::Aarch64),
            "riscv64" => Some(Machine::Riscv64),
            _ => None,
        }
    }

    /// As profiles spell it.
    pub fn scmp_name(self) -> &'static str {
        match self {
            Machine::X86_64 => "SCMP_ARCH_X86_64",
            Machine::X86 => "SCMP_ARCH_X86",
            Machine::Aarch64 => "SCMP_ARCH_AARCH64",
            Machine::Riscv64 => "SCMP_ARCH_RISCV64",
        }
    }

    /// What a profile's `arches` call it: Go's name first, then libseccomp's.
    pub fn names(self) -> &'static [&'static str] {
        match self {
            Machine::X86_64 => &["amd64", "x86_64"],
            Machine::X86 => &["x86", "386"],
            Machine::Aarch64 => &["arm64", "aarch64"],
            Machine::Riscv64 => &["riscv64"],
        }
    }

    /// AUDIT_ARCH_…, which a filter finds beside the number (seccomp(2)).
    pub fn audit(self) -> u32 {
        match self {
            Machine::X86_64 => 0xc000_003e,
            Machine::X86 => 0x4000_0003,
            Machine::Aarch64 => 0xc000_00b7,
            Machine::Riscv64 => 0xc000_00f3,
        }
    }
}

/// The table, read.
pub struct Syscalls(BTreeMap<&'static str, [Option<u32>; 4]>);

impl Syscalls {
    pub fn read() -> Syscalls {
        let row = |line: &'static str| {
            let mut words = line.split(' ');
            let name = words.next()?;
            Some((name, std::array::from_fn(|_| words.next()?.parse().ok())))
        };
        Syscalls(TABLE.lines().filter(|line| !line.starts_with('#')).filter_map(row).collect())
    }

    pub fn number(&self, name: &str, machine: Machine) -> Option<u32> {
        self.0.get(name).and_then(|numbers| numbers[machine as usize])
    }

    #[cfg(test)]
    pub fn names(&self, machine: Machine) -> impl Iterator<Item = &'static str> {
        self.0.iter().filter(move |(_, numbers)| numbers[machine as usize].is_some()).map(|(&name, _)| name)
    }

    /// Whether any machine has a call of this name.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_that_the_c_library_numbers_has_that_number() {
        let syscalls = Syscalls::read();
        let own = Machine::own().expect("a machine that filters are made for");
        for (name, number) in [
            ("read", nix::libc::SYS_read),
            ("ptrace", nix::libc::SYS_ptrace),
            ("clone3", nix::libc::SYS_clone3),
            ("mount_setattr", nix::libc::SYS_mount_setattr),
            ("futex_waitv", nix::libc::SYS_futex_waitv),
        ] {
            assert_eq!(syscalls.number(name, own).map(i64::from), Some(number), "{name}");
        }
        assert_eq!(syscalls.number("file_setattr", own), Some(LAST));
        assert_eq!(syscalls.number("exit", Machine::X86), Some(1));
        assert!(syscalls.has("s390_sthyi") && syscalls.number("s390_sthyi", own).is_none());
        assert!(!syscalls.has("mkdri"));
    }

    #[test]
    fn no_machine_has_two_calls_of_one_number() {
        let Syscalls(rows) = Syscalls::read();
        for machine in [Machine::X86_64, Machine::X86, Machine::Aarch64, Machine::Riscv64] {
            let mut numbers: Vec<u32> = rows.values().filter_map(|row| row[machine as usize]).collect();
            let all = numbers.len();
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(numbers.len(), all, "{machine:?}");
            // From 424 on every machine has the same numbers, without a gap.
            assert!(numbers.iter().filter(|&&number| number >= 424).count() >= 44, "{machine:?}");
        }
    }
}
