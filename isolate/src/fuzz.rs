//! What the fuzzers run of isolate: arguments to a plan, which is only printed, the files that grant ids, and seccomp
//! profiles.

use chain::Tool;
use chain::account::{id_of, name_of, ranges};
use chain::capabilities::CapabilitySet;
use chain::fuzz::Target;
use chain::id_map::Range;
use nix::libc;
use seccompiler::BpfProgram;

use crate::ids::mapping::with_single;
use crate::privileges::seccomp::Seccomp;

/// By the name of the corpus's directory.
pub const TARGETS: [(&str, Target); 3] = [("argv-isolate", argv), ("subids", subids), ("seccomp", seccomp)];

pub fn argv(data: &[u8]) {
    let Some(args) = chain::fuzz::plain_line_arguments::<crate::args::Args>(Tool::Isolate, data) else { return };
    for user in [None, Some(chain::User { uid: 7, gid: u32::MAX, groups: vec![4, 8] })] {
        let mut command = chain::Command::new(args.command.clone(), crate::plan::shell);
        match crate::plan::of(&args, user, &mut command, &mut chain::Carry::default()) {
            Ok(plan) => chain::fuzz::plan(Tool::Isolate, &plan, &command),
            Err(error) => chain::fuzz::refused(&error),
        }
    }
}

/// A subordinate id file, and after a NUL the passwd file.
pub fn subids(data: &[u8]) {
    let mut parts = data.splitn(2, |&byte| byte == 0).map(|part| std::str::from_utf8(part).unwrap_or_default());
    let (table, passwd) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    // 2^32-1 is no id: chown(2) takes it for "no change".
    for user in [0, 1000, u32::MAX - 1] {
        let name = name_of(passwd, user);
        if let Some(name) = &name {
            id_of(passwd, name).expect("who has a name has an id");
        }
        let found = ranges(table, name.as_deref(), user);
        for &(first, count) in &found {
            assert!(count > 0 && first.checked_add(count).is_some(), "{first}:{count} are no ids");
        }
        // --map-auto, and --map-users subids, each with an id of one's own among them.
        let auto = found.first().map(|&(outer, count)| vec![Range { inner: 0, outer, count }]).unwrap_or_default();
        let all: Vec<_> = found.iter().map(|&(id, count)| Range { inner: id, outer: id, count }).collect();
        for asked in [auto, all] {
            for (inner, outer) in [(0, user), (user, user), (65_536, 100_000)] {
                check(&asked, &with_single(&asked, inner, outer), inner, outer);
            }
        }
    }
}

/// Room was made for one id, and nothing else is other than it was granted.
fn check(asked: &[Range], made: &[Range], inner: u32, outer: u32) {
    let single = Range { inner, outer, count: 1 };
    assert_eq!(made.first(), Some(&single), "the id itself is not there");
    let total = |ranges: &[Range]| ranges.iter().map(|range| u64::from(range.count)).sum::<u64>();
    assert!(total(&made[1..]) <= total(asked), "more was mapped than was granted");
    let has = |first: u32, count: u32, id: u32| id >= first && u64::from(id) < u64::from(first) + u64::from(count);
    for range in &made[1..] {
        assert!(range.count > 0, "an empty range");
        assert!(!has(range.inner, range.count, inner) && !has(range.outer, range.count, outer), "{range} has it again");
        let granted = |have: &Range| {
            let last = u64::from(range.outer) + u64::from(range.count);
            have.outer <= range.outer && last <= u64::from(have.outer) + u64::from(have.count)
        };
        assert!(asked.iter().any(granted), "{range} was never granted");
    }
}

pub fn seccomp(data: &[u8]) {
    let Ok(profile) = std::str::from_utf8(data).map(Seccomp::parse) else { return };
    let Ok(profile) = profile else { return };
    let all = CapabilitySet::from_bits_retain(u64::MAX);
    for capabilities in [CapabilitySet::empty(), CapabilitySet::SYS_ADMIN | CapabilitySet::NET_RAW, all] {
        let Ok(programs) = profile.programs(capabilities) else { continue };
        programs.iter().for_each(runs_to_an_answer);
    }
}

/// As the kernel checks a filter before it takes it (seccomp_check_filter): every way through it stays in it.
fn runs_to_an_answer(program: &BpfProgram) {
    let last = program.last().expect("a program has instructions");
    assert_eq!(last.code, (libc::BPF_RET | libc::BPF_K) as u16, "it runs past its end");
    for (at, step) in program.iter().enumerate() {
        let code = u32::from(step.code);
        if code & 7 == libc::BPF_JMP {
            let furthest = match code & 0xf0 {
                libc::BPF_JA => u64::from(step.k),
                _ => u64::from(step.jt.max(step.jf)),
            };
            assert!(at as u64 + 1 + furthest < program.len() as u64, "instruction {at} leads out of the program");
        }
    }
}
