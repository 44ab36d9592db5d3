//! Seccomp profiles in the JSON form of container runtimes: that of the OCI runtime specification,
//! and its extension with conditions on capabilities, machines and kernels.

use std::collections::BTreeMap;

use nix::libc;
use rustix::thread::CapabilitySet;
use seccompiler::{SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};
use serde::Deserialize;

use crate::args::CapabilityName;
use crate::privileges::{capability, syscall};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    pub default_action: Action,
    pub default_errno_ret: Option<u32>,
    #[serde(default)]
    pub syscalls: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    #[serde(default)]
    pub names: Vec<String>,
    pub name: Option<String>,
    pub action: Action,
    pub errno_ret: Option<u32>,
    pub args: Option<Vec<Arg>>,
    pub includes: Option<Conditions>,
    pub excludes: Option<Conditions>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Conditions {
    pub caps: Option<Vec<String>>,
    pub arches: Option<Vec<String>>,
    pub min_kernel: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Arg {
    pub index: u8,
    pub value: u64,
    #[serde(default)]
    pub value_two: u64,
    pub op: Op,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
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
    /// `value` is the mask, `valueTwo` what is compared.
    #[serde(rename = "SCMP_CMP_MASKED_EQ")]
    MaskedEq,
}

/// Rules by system call; an empty list is one without a condition.
pub type Rules = BTreeMap<i64, Vec<SeccompRule>>;

impl Rule {
    /// Whether a rule is for this machine, kernel and set of capabilities.
    pub fn applies(&self, capabilities: CapabilitySet) -> bool {
        let has = |names: &[String]| {
            let names: Vec<CapabilityName> = names.iter().filter_map(|name| name.parse().ok()).collect();
            capability::set(&names).ok()
        };
        let machine = |names: &[String]| names.iter().any(|name| machine_names().contains(&&name[..]));
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
    pub fn add_to(&self, rules: &mut Rules) -> Result<(), String> {
        let alternatives = self.alternatives()?;
        for name in self.names.iter().chain(&self.name) {
            // A profile names the calls of every machine and of kernels to come.
            let Some(number) = syscall::number(name) else { continue };
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
        let twice = args.iter().enumerate().any(|(at, arg)| args[..at].iter().any(|other| other.index == arg.index));
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

/// This machine as Go and as libseccomp call it.
fn machine_names() -> &'static [&'static str] {
    match std::env::consts::ARCH {
        "x86_64" => &["amd64", "x86_64"],
        "aarch64" => &["arm64", "aarch64"],
        "riscv64" => &["riscv64"],
        _ => &[],
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

/// `--seccomp default`: everything but the calls by which programs usually leave a container or
/// take over its host.
pub fn default() -> Profile {
    let errno = |names: &[&str], errno: i32, args: Option<Vec<Arg>>| Rule {
        names: names.iter().map(|&name| name.to_owned()).collect(),
        name: None,
        action: Action::Errno,
        errno_ret: Some(errno as u32),
        args,
        includes: None,
        excludes: None,
    };
    let arg = |index, op, value, value_two| Arg { index, value, value_two, op };
    // The kernel takes the command of an ioctl and the flags of clone as 32 and 64 bits; what is
    // above them must not hide them.
    let low = |index, value| vec![arg(index, Op::MaskedEq, 0xffff_ffff, value)];
    let mut syscalls = vec![errno(REFUSED, libc::EPERM, None)];
    // The C libraries disagree about the type of these numbers: TIOCSTI, TIOCLINUX.
    for command in [0x5412, 0x541c] {
        syscalls.push(errno(&["ioctl"], libc::EPERM, Some(low(1, command))));
    }
    for flag in NAMESPACES {
        let set = vec![arg(0, Op::MaskedEq, flag, flag)];
        syscalls.push(errno(&["clone", "unshare"], libc::EPERM, Some(set)));
    }
    // Its flags are in memory, where a filter cannot see them; every C library then takes clone.
    syscalls.push(errno(&["clone3"], libc::ENOSYS, None));
    for family in [libc::AF_VSOCK, libc::AF_ALG] {
        syscalls.push(errno(&["socket"], libc::EAFNOSUPPORT, Some(low(0, family as u64))));
    }
    Profile { default_action: Action::Allow, default_errno_ret: None, syscalls }
}

/// CLONE_NEWTIME, NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
const NAMESPACES: [u64; 8] =
    [0x80, 0x0002_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000];

#[rustfmt::skip]
const REFUSED: &[&str] = &[
    // Mounts and roots.
    "mount", "umount2", "pivot_root", "chroot", "open_tree", "open_tree_attr", "move_mount", "fsopen", "fsconfig", "fsmount", "fspick",
    "mount_setattr", "setns", "quotactl", "quotactl_fd", "swapon", "swapoff", "acct",
    // Files by handle go around every mount.
    "open_by_handle_at", "name_to_handle_at", "fanotify_init", "fanotify_mark",
    // The kernel itself.
    "init_module", "finit_module", "delete_module", "create_module", "query_module", "get_kernel_syms", "kexec_load",
    "kexec_file_load", "reboot", "syslog", "bpf", "perf_event_open", "userfaultfd", "lookup_dcookie", "iopl", "ioperm",
    "modify_ldt", "uselib", "ustat", "sysfs", "_sysctl", "nfsservctl", "vhangup", "io_uring_setup", "io_uring_enter",
    "io_uring_register", "settimeofday", "clock_settime", "clock_adjtime", "sethostname", "setdomainname",
    // Keys are not in any namespace.
    "add_key", "keyctl", "request_key",
    // Other processes' memory, descriptors and places.
    "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "kcmp", "pidfd_getfd", "move_pages",
    "migrate_pages", "mbind", "set_mempolicy", "set_mempolicy_home_node", "get_mempolicy",
];
