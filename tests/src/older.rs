//! An older kernel, as far as a program can tell: a seccomp filter answers for what it lacks.

use std::os::unix::process::CommandExt;

use nix::libc::{self, c_long};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use crate::{Outcome, Work};

/// Runs a script where these calls are not implemented.
pub fn without(work: &Work, calls: &[c_long], script: &str) -> Outcome {
    let rules = calls.iter().map(|&call| (call, vec![])).collect();
    filtered(work, rules, libc::ENOSYS, script)
}

/// Runs a script where a call with one of these bits in its argument (from 0) is not valid.
pub fn without_flag(work: &Work, call: c_long, argument: u8, bits: u64, script: &str) -> Outcome {
    let same = SeccompCmpOp::MaskedEq(bits);
    let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Qword, same, bits).expect("a condition");
    let rule = SeccompRule::new(vec![condition]).expect("a rule");
    filtered(work, [(call, vec![rule])].into(), libc::EINVAL, script)
}

fn filtered(
    work: &Work,
    rules: std::collections::BTreeMap<i64, Vec<SeccompRule>>,
    errno: i32,
    script: &str,
) -> Outcome {
    let architecture = std::env::consts::ARCH.try_into().expect("an architecture that filters know");
    let answer = SeccompAction::Errno(errno as u32);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, answer, architecture).expect("a filter");
    let program: BpfProgram = filter.try_into().expect("a program");
    let mut command = work.command("sh");
    command.args(["-c", script]);
    // SAFETY: two system calls on memory that was made before the fork.
    unsafe {
        command.pre_exec(move || seccompiler::apply_filter(&program).map_err(std::io::Error::other));
    }
    work.output(command, b"")
}
