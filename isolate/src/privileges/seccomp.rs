//! From a profile to the programs that the kernel runs before each system call.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use chain::WithHint;
use nix::errno::Errno;
use nix::libc;
use rustix::thread::CapabilitySet;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch, sock_filter};

use crate::privileges::profile::{Action, Profile, Rules, default};
use crate::privileges::syscall;

/// A profile, and where it is from.
pub struct Seccomp {
    profile: Profile,
}

impl Seccomp {
    pub fn read(file: &Path) -> Result<Seccomp> {
        if file.as_os_str() == "default" {
            return Ok(Seccomp { profile: default() });
        }
        let shown = file.display();
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("--seccomp {shown}"))
            .hint("`default`, or a file: a JSON profile as container runtimes have them")?;
        Seccomp::parse(&text).map_err(|error| {
            let text = error.to_string();
            let what = text.rsplit_once(" at line ").map_or(&text[..], |(what, _)| what);
            anyhow!("--seccomp {shown}: line {}, column {}: {what}", error.line(), error.column())
        })
    }

    pub fn parse(text: &str) -> serde_json::Result<Seccomp> {
        Ok(Seccomp { profile: serde_json::from_str(text)? })
    }

    /// The filters; `capabilities` are those that the command will be bounded by.
    pub fn programs(&self, capabilities: CapabilitySet) -> Result<Vec<BpfProgram>> {
        let fallback = action(self.profile.default_action, self.profile.default_errno_ret);
        // Where two filters disagree the kernel takes the stricter one: so one filter has all that
        // the default is not to be applied to, and each other action has one that is else silent.
        let mut excepted = Rules::new();
        let mut by_action: Vec<(SeccompAction, Rules)> = Vec::new();
        for rule in self.profile.syscalls.iter().filter(|rule| rule.applies(capabilities)) {
            let own = action(rule.action, rule.errno_ret.or(self.profile.default_errno_ret));
            if own == fallback {
                continue;
            }
            rule.add_to(&mut excepted).map_err(|error| anyhow!("seccomp profile: {error}"))?;
            if own == SeccompAction::Allow {
                continue;
            }
            if by_action.iter().all(|(action, _)| *action != own) {
                by_action.push((own.clone(), Rules::new()));
            }
            for (_, rules) in by_action.iter_mut().filter(|(action, _)| *action == own) {
                rule.add_to(rules).map_err(|error| anyhow!("seccomp profile: {error}"))?;
            }
        }
        let mut programs = Vec::new();
        if fallback != SeccompAction::Allow {
            programs.push(program(excepted, fallback, SeccompAction::Allow)?);
        }
        for (action, rules) in by_action {
            programs.push(program(rules, SeccompAction::Allow, action)?);
        }
        Ok(programs)
    }

    /// Applies the filters, for good. Needs no_new_privs, or CAP_SYS_ADMIN in the user namespace.
    pub fn load(&self, capabilities: CapabilitySet) -> Result<()> {
        for program in self.programs(capabilities)? {
            load(&program).context("seccomp").hint("add --no-new-privs, or load the filter as root")?;
        }
        Ok(())
    }
}

fn action(action: Action, errno: Option<u32>) -> SeccompAction {
    match action {
        Action::KillProcess => SeccompAction::KillProcess,
        Action::KillThread => SeccompAction::KillThread,
        Action::Trap => SeccompAction::Trap,
        Action::Errno => SeccompAction::Errno(errno.unwrap_or(libc::EPERM as u32)),
        Action::Trace => SeccompAction::Trace(errno.unwrap_or(libc::EPERM as u32)),
        Action::Log => SeccompAction::Log,
        Action::Allow => SeccompAction::Allow,
    }
}

fn program(rules: Rules, otherwise: SeccompAction, matching: SeccompAction) -> Result<BpfProgram> {
    let machine = TargetArch::try_from(std::env::consts::ARCH)
        .map_err(|_| anyhow!("--seccomp: not for this machine ({})", std::env::consts::ARCH))?;
    let filter = SeccompFilter::new(rules, otherwise, matching, machine).context("seccomp profile")?;
    let mut program = before(machine);
    program.extend(BpfProgram::try_from(filter).context("seccomp profile")?);
    Ok(program)
}

/// Another machine's calls, those of the x32 interface, and those that no profile can know yet are
/// not there: a filter by number would take them for others, or let them through.
fn before(machine: TargetArch) -> BpfProgram {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const ABOVE: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    // AUDIT_ARCH_X86_64, AUDIT_ARCH_AARCH64, AUDIT_ARCH_RISCV64.
    let own = match machine {
        TargetArch::x86_64 => 0xc000_003e,
        TargetArch::aarch64 => 0xc000_00b7,
        TargetArch::riscv64 => 0xc000_00f3,
    };
    let step = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    vec![
        step(LOAD, 0, 0, 4),
        step(EQUAL, 0, 2, own),
        step(LOAD, 0, 0, 0),
        step(ABOVE, 0, 1, syscall::LAST as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32),
    ]
}

fn load(program: &BpfProgram) -> Result<(), Errno> {
    let len = u16::try_from(program.len()).map_err(|_| Errno::E2BIG)?;
    let filter = libc::sock_fprog { len, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: the program outlives the call, and seccompiler's sock_filter is laid out as the kernel's.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const filter) };
    Errno::result(result).map(drop)
}
