//! From a profile to the programs that the kernel runs before each system call.

use std::fs::File;
use std::io::Read;
use std::os::fd::RawFd;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use chain::WithHint;
use chain::capabilities::CapabilitySet;
use nix::errno::Errno;
use nix::libc;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch, sock_filter};

use crate::privileges::builtin;
use crate::privileges::profile::{Action, Flag, Profile, Rule, Rules, error_number};
use crate::privileges::syscall::{LAST, Machine, Syscalls};
use crate::process::close_at_exec;

/// A profile that can be made into filters.
pub struct Seccomp {
    profile: Profile,
    syscalls: Syscalls,
}

impl Seccomp {
    pub fn read(file: &Path) -> Result<Seccomp> {
        let shown = file.display();
        if let Some(words) = file.to_str().filter(|words| builtin::is_one(words)) {
            let syscalls = Syscalls::read();
            let profile = builtin::read(words, &syscalls).map_err(|why| anyhow!("--seccomp {shown}: {why}"))?;
            return Ok(Seccomp { profile, syscalls });
        }
        let text = text_of(file)
            .with_context(|| format!("--seccomp {shown}"))
            .hint("`default`, or a file or fd:N: a JSON profile as container runtimes have them")?;
        Seccomp::parse(&text).map_err(|why| anyhow!("--seccomp {shown}: {why}"))
    }

    pub fn parse(text: &str) -> Result<Seccomp, String> {
        let profile: Profile = serde_json::from_str(text).map_err(|error| {
            let text = error.to_string();
            let what = text.rsplit_once(" at line ").map_or(&text[..], |(what, _)| what);
            format!("line {}, column {}: {what}", error.line(), error.column())
        })?;
        let syscalls = Syscalls::read();
        profile.check(&syscalls)?;
        Ok(Seccomp { profile, syscalls })
    }

    /// What it does, line by line, for a command that is bounded by these capabilities.
    pub fn shown(&self, capabilities: CapabilitySet) -> Vec<String> {
        let rules = self.profile.syscalls.iter().filter(|rule| rule.applies(capabilities));
        std::iter::once(format!("every system call: {}", self.profile.default_action))
            .chain(rules.map(Rule::to_string))
            .collect()
    }

    /// The filters; `capabilities` are those that the command will be bounded by.
    pub fn programs(&self, capabilities: CapabilitySet) -> Result<Vec<BpfProgram>> {
        let machines = self.profile.machines().map_err(profile_error)?;
        let mut programs = vec![only(&machines)];
        for machine in machines {
            programs.extend(self.programs_for(machine, capabilities).map_err(profile_error)?);
        }
        Ok(programs)
    }

    fn programs_for(&self, machine: Machine, capabilities: CapabilitySet) -> Result<Vec<BpfProgram>, String> {
        let default_errno = error_number(self.profile.default_errno.as_deref(), self.profile.default_errno_ret)?;
        let fallback = action(self.profile.default_action, default_errno);
        // Where two filters disagree the kernel takes the stricter one. So one filter applies the default to all but the
        // listed calls, and each other action has a filter that lets everything else pass.
        let mut excepted = Rules::new();
        let mut by_action: Vec<(SeccompAction, Rules)> = Vec::new();
        for rule in self.profile.syscalls.iter().filter(|rule| rule.applies(capabilities)) {
            let errno = error_number(rule.errno.as_deref(), rule.errno_ret)?;
            let own = action(rule.action, errno.or(default_errno));
            if own == fallback {
                continue;
            }
            rule.add_to(&mut excepted, &self.syscalls, machine)?;
            if own == SeccompAction::Allow {
                continue;
            }
            if by_action.iter().all(|(action, _)| *action != own) {
                by_action.push((own.clone(), Rules::new()));
            }
            for (_, rules) in by_action.iter_mut().filter(|(action, _)| *action == own) {
                rule.add_to(rules, &self.syscalls, machine)?;
            }
        }
        let mut programs = Vec::new();
        if fallback != SeccompAction::Allow {
            programs.push(program(machine, excepted, fallback, SeccompAction::Allow)?);
        }
        for (action, rules) in by_action {
            programs.push(program(machine, rules, SeccompAction::Allow, action)?);
        }
        Ok(programs)
    }

    /// Applies the filters, for good. Needs no_new_privs, or CAP_SYS_ADMIN in the user namespace.
    pub fn load(&self, capabilities: CapabilitySet) -> Result<()> {
        for program in self.programs(capabilities)? {
            match load(&program, self.flags()) {
                Err(Errno::EACCES) => {
                    let refused = Err(Errno::EACCES).context("seccomp");
                    //: --seccomp | seccomp: EACCES | neither CAP_SYS_ADMIN nor no_new_privs | the only cause |
                    //: isolate/privileges::what_the_kernel_refuses_is_an_error
                    refused.hint("add --no-new-privs, or load the filter as root")?
                }
                loaded => loaded.context("seccomp")?,
            }
        }
        Ok(())
    }

    fn flags(&self) -> libc::c_ulong {
        let bit = |flag: &Flag| match flag {
            Flag::Tsync | Flag::WaitKillable => 0,
            Flag::Log => libc::SECCOMP_FILTER_FLAG_LOG,
            Flag::SpecAllow => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
        };
        self.profile.flags.iter().flatten().map(bit).fold(0, |flags, flag| flags | flag)
    }
}

/// The number in fd:N.
fn descriptor(file: &Path) -> Option<RawFd> {
    file.to_str()?.strip_prefix("fd:")?.parse().ok()
}

fn text_of(file: &Path) -> Result<String> {
    let Some(number) = descriptor(file) else { return Ok(std::fs::read_to_string(file)?) };
    let fd = chain::inherited(number).context("it is not open")?;
    let mut text = String::new();
    File::from(fd.try_clone_to_owned()?).read_to_string(&mut text)?;
    close_at_exec(Some(number));
    Ok(text)
}

/// Behind a pivot a path is the image's, which could bring a filter of its own that allows everything.
pub fn refuse_path_of_image(file: &Path) -> Result<()> {
    if file.to_str().is_some_and(builtin::is_one) || descriptor(file).is_some() {
        return Ok(());
    }
    Err(anyhow!("--seccomp {}: behind pivot this path would be the image's", file.display()))
        .hint("open it outside: pivot --keep-fd 3 ROOT -- isolate --seccomp fd:3 COMMAND 3<FILE")
}

fn profile_error(why: String) -> anyhow::Error {
    anyhow!("seccomp profile: {why}")
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

/// A filter for one machine's calls. It lets those of other machines pass, which have their own filters.
fn program(
    machine: Machine,
    rules: Rules,
    otherwise: SeccompAction,
    matching: SeccompAction,
) -> Result<BpfProgram, String> {
    let text = |error: seccompiler::BackendError| error.to_string();
    let known = TargetArch::try_from(std::env::consts::ARCH).map_err(text)?;
    let filter = SeccompFilter::new(rules, otherwise, matching, known).map_err(text)?;
    let mut program =
        vec![step(LOAD, 0, 0, MACHINE), step(EQUAL, 1, 0, machine.audit()), answer(libc::SECCOMP_RET_ALLOW)];
    program.push(step(LOAD, 0, 0, NUMBER));
    if machine == Machine::X86_64 {
        // x32 calls have the same numbers with this bit set. No profile knows them.
        program.extend([step(ABOVE, 0, 1, X32_BIT - 1), answer(libc::SECCOMP_RET_KILL_PROCESS)]);
    }
    // A call that no profile can know yet says ENOSYS: a filter by number would let it through, or call it a mistake.
    program.extend([step(ABOVE, 0, 1, LAST), answer(libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32)]);
    // seccompiler knows no 32-bit machine: its own check, three instructions, gives way to the one above.
    program.extend(BpfProgram::try_from(filter).map_err(text)?.into_iter().skip(3));
    Ok(program)
}

/// Kills a program of any other machine, as runc does: an errno for every call, exit(2) included, would not end it.
fn only(machines: &[Machine]) -> BpfProgram {
    let mut program = vec![step(LOAD, 0, 0, MACHINE)];
    for machine in machines {
        program.extend([step(EQUAL, 0, 1, machine.audit()), answer(libc::SECCOMP_RET_ALLOW)]);
    }
    program.push(answer(libc::SECCOMP_RET_KILL_PROCESS));
    program
}

/// Where a filter finds the call's number, and whose number it is (struct seccomp_data).
const NUMBER: u32 = 0;
const MACHINE: u32 = 4;
const X32_BIT: u32 = 0x4000_0000;
const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const ABOVE: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;

fn step(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

fn answer(value: u32) -> sock_filter {
    step((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, value)
}

fn load(program: &BpfProgram, flags: libc::c_ulong) -> Result<(), Errno> {
    let len = u16::try_from(program.len()).map_err(|_| Errno::E2BIG)?;
    let filter = libc::sock_fprog { len, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: the program outlives the call, and seccompiler's sock_filter is laid out as the kernel's.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const filter) };
    Errno::result(result).map(drop)
}
