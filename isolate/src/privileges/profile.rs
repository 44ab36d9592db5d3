//! Seccomp profiles in the JSON form of container runtimes: that of the OCI runtime specification, and what moby and
//! podman add to it. A key that none of them knows is an error: ignoring it in silence would leave a rule out.

use std::collections::BTreeMap;

use chain::capabilities::CapabilitySet;
use nix::errno::Errno;
use seccompiler::{SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::args::CapabilityName;
use crate::privileges::capability;
use crate::privileges::syscall::{Machine, Syscalls};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Profile {
    pub default_action: Action,
    pub default_errno_ret: Option<u32>,
    /// The same by name, which wins over the number (podman).
    pub default_errno: Option<String>,
    pub architectures: Option<Vec<String>>,
    pub arch_map: Option<Vec<Architecture>>,
    pub flags: Option<Vec<Flag>>,
    #[serde(default)]
    pub syscalls: Vec<Rule>,
    /// For SCMP_ACT_NOTIFY, which is refused.
    #[serde(rename = "listenerPath")]
    pub _listener_path: Option<IgnoredAny>,
    #[serde(rename = "listenerMetadata")]
    pub _listener_metadata: Option<IgnoredAny>,
}

/// A machine, and those whose programs it runs as well.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Architecture {
    pub architecture: String,
    pub sub_architectures: Option<Vec<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Flag {
    /// All threads: there is one.
    #[serde(rename = "SECCOMP_FILTER_FLAG_TSYNC")]
    Tsync,
    #[serde(rename = "SECCOMP_FILTER_FLAG_LOG")]
    Log,
    #[serde(rename = "SECCOMP_FILTER_FLAG_SPEC_ALLOW")]
    SpecAllow,
    /// For SCMP_ACT_NOTIFY.
    #[serde(rename = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV")]
    WaitKillable,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    #[serde(default)]
    pub names: Vec<String>,
    pub name: Option<String>,
    pub action: Action,
    pub errno_ret: Option<u32>,
    pub errno: Option<String>,
    pub args: Option<Vec<Arg>>,
    pub includes: Option<Conditions>,
    pub excludes: Option<Conditions>,
    #[serde(rename = "comment")]
    pub _comment: Option<IgnoredAny>,
    /// Conditions on the same argument must hold together. Profiles from elsewhere cannot express that.
    #[serde(skip)]
    pub together: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Conditions {
    pub caps: Option<Vec<String>>,
    pub arches: Option<Vec<String>>,
    pub min_kernel: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Arg {
    pub index: u8,
    pub value: u64,
    #[serde(default)]
    pub value_two: u64,
    pub op: Op,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub enum Action {
    #[serde(rename = "SCMP_ACT_KILL_PROCESS")]
    KillProcess,
    #[serde(rename = "SCMP_ACT_KILL", alias = "SCMP_ACT_KILL_THREAD")]
    KillThread,
    #[serde(rename = "SCMP_ACT_TRAP")]
    Trap,
    #[serde(rename = "SCMP_ACT_ERRNO")]
    Errno,
    #[serde(rename = "SCMP_ACT_TRACE")]
    Trace,
    #[serde(rename = "SCMP_ACT_LOG")]
    Log,
    #[default]
    #[serde(rename = "SCMP_ACT_ALLOW")]
    Allow,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub enum Op {
    #[serde(rename = "SCMP_CMP_NE")]
    Ne,
    #[serde(rename = "SCMP_CMP_LT")]
    Lt,
    #[serde(rename = "SCMP_CMP_LE")]
    Le,
    #[serde(rename = "SCMP_CMP_EQ")]
    Eq,
    #[serde(rename = "SCMP_CMP_GE")]
    Ge,
    #[serde(rename = "SCMP_CMP_GT")]
    Gt,
    /// `value` is the mask, `valueTwo` the value to compare with.
    #[serde(rename = "SCMP_CMP_MASKED_EQ")]
    MaskedEq,
}

/// Rules by system call; an empty list is one without a condition.
pub type Rules = BTreeMap<i64, Vec<SeccompRule>>;

impl Profile {
    /// Whose programs may run under it. The machine's own always may, as runc has it.
    pub fn machines(&self) -> Result<Vec<Machine>, String> {
        let own = Machine::own().ok_or_else(|| format!("not for this machine ({})", std::env::consts::ARCH))?;
        let mut named: Vec<&str> = self.architectures.iter().flatten().map(String::as_str).collect();
        for entry in self.arch_map.iter().flatten().filter(|entry| entry.architecture == own.scmp_name()) {
            named.extend(entry.sub_architectures.iter().flatten().map(String::as_str));
        }
        if let Some(other) = named.iter().find(|name| !name.starts_with("SCMP_ARCH_")) {
            return Err(format!("{other}: no such architecture"));
        }
        let mut machines = vec![own];
        if own == Machine::X86_64 && named.contains(&Machine::X86.scmp_name()) {
            machines.push(Machine::X86);
        }
        Ok(machines)
    }

    /// Finds what is wrong on any machine and with any capabilities.
    pub fn check(&self, syscalls: &Syscalls) -> Result<(), String> {
        self.machines()?;
        error_number(self.default_errno.as_deref(), self.default_errno_ret)?;
        for rule in &self.syscalls {
            error_number(rule.errno.as_deref(), rule.errno_ret)?;
            let denies = !matches!(rule.action, Action::Allow | Action::Log);
            // Newer profiles allow calls of newer kernels; here these get the default.
            if let Some(name) = rule.all_names().find(|name| denies && !syscalls.has(name)) {
                return Err(format!("{name}: no system call of any machine has this name, so it cannot be denied"));
            }
        }
        Ok(())
    }
}

/// An error number, given as a number or by name.
pub fn error_number(name: Option<&str>, number: Option<u32>) -> Result<Option<u32>, String> {
    // The highest that the kernel takes (MAX_ERRNO).
    match (name.filter(|name| !name.is_empty()), number) {
        (Some(name), _) => (1..200)
            .find(|&number| format!("{:?}", Errno::from_raw(number)) == name)
            .map(|number| Some(number as u32))
            .ok_or_else(|| format!("{name}: no such error")),
        (None, Some(4096..)) => Err("an error number is at most 4095".into()),
        (None, number) => Ok(number),
    }
}

impl Rule {
    fn all_names(&self) -> impl Iterator<Item = &String> {
        self.names.iter().chain(&self.name)
    }

    /// Whether a rule is for this machine, kernel and set of capabilities.
    pub fn applies(&self, capabilities: CapabilitySet) -> bool {
        let has = |names: &[String]| {
            let names: Vec<CapabilityName> = names.iter().filter_map(|name| name.parse().ok()).collect();
            capability::set(&names).ok()
        };
        let own = Machine::own().map_or(&[][..], Machine::names);
        let machine = |names: &[String]| names.iter().any(|name| own.contains(&&name[..]));
        let included = self.includes.as_ref().is_none_or(|when| {
            when.caps.as_ref().is_none_or(|caps| has(caps).is_some_and(|caps| capabilities.contains(caps)))
                && when.arches.as_ref().is_none_or(|names| names.is_empty() || machine(names))
                && when.min_kernel.as_ref().is_none_or(|version| kernel_at_least(version))
        });
        let excluded = self.excludes.as_ref().is_some_and(|when| {
            when.caps.as_ref().is_some_and(|caps| has(caps).is_some_and(|caps| capabilities.intersects(caps)))
                || when.arches.as_ref().is_some_and(|names| machine(names))
                || when.min_kernel.as_ref().is_some_and(|version| kernel_at_least(version))
        });
        included && !excluded
    }

    /// Adds the rule to those of its action.
    pub fn add_to(&self, rules: &mut Rules, syscalls: &Syscalls, machine: Machine) -> Result<(), String> {
        let alternatives = self.alternatives()?;
        for name in self.all_names() {
            // A profile names the calls of every machine and of kernels to come.
            let Some(number) = syscalls.number(name, machine).map(i64::from) else { continue };
            match (rules.get_mut(&number), alternatives.is_empty()) {
                (Some(known), _) if known.is_empty() => {}
                (Some(known), false) => known.extend(alternatives.iter().cloned()),
                (_, _) => drop(rules.insert(number, alternatives.clone())),
            }
        }
        Ok(())
    }

    /// Conditions on different arguments hold together; on the same one, each alone.
    fn alternatives(&self) -> Result<Vec<SeccompRule>, String> {
        let args = self.args.as_deref().unwrap_or_default();
        let twice = !self.together
            && args.iter().enumerate().any(|(at, arg)| args[..at].iter().any(|other| other.index == arg.index));
        let conditions = args.iter().map(Arg::condition).collect::<Result<Vec<_>, _>>()?;
        let rule = |conditions| SeccompRule::new(conditions).map_err(|error| error.to_string());
        match conditions.is_empty() {
            true => Ok(Vec::new()),
            false if twice => conditions.into_iter().map(|condition| rule(vec![condition])).collect(),
            false => Ok(vec![rule(conditions)?]),
        }
    }
}

impl Arg {
    fn condition(&self) -> Result<SeccompCondition, String> {
        let (op, value) = match self.op {
            Op::Ne => (SeccompCmpOp::Ne, self.value),
            Op::Lt => (SeccompCmpOp::Lt, self.value),
            Op::Le => (SeccompCmpOp::Le, self.value),
            Op::Eq => (SeccompCmpOp::Eq, self.value),
            Op::Ge => (SeccompCmpOp::Ge, self.value),
            Op::Gt => (SeccompCmpOp::Gt, self.value),
            Op::MaskedEq => (SeccompCmpOp::MaskedEq(self.value), self.value_two),
        };
        SeccompCondition::new(self.index, SeccompCmpArgLen::Qword, op, value)
            .map_err(|_| format!("argument {}: a system call has six, from 0 to 5", self.index))
    }
}

fn kernel_at_least(version: &str) -> bool {
    let numbers = |text: &str| {
        let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
    };
    let release = nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned());
    release.is_ok_and(|release| numbers(&release) >= numbers(version))
}
