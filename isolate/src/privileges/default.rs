//! `--seccomp default`: everything but the calls by which programs usually leave a container or take over its host.
//! Call by call it is what moby's default profile has in 2026 for a container without capabilities;
//! a test holds it against podman's.

use nix::libc;

use crate::privileges::profile::{Action, Arg, Op, Profile, Rule};
use crate::privileges::syscall::Machine;

pub fn default() -> Profile {
    let mut syscalls = vec![errno(REFUSED, libc::EPERM)];
    // The C libraries disagree about the type of these numbers: TIOCSTI, TIOCLINUX.
    for command in [0x5412, 0x541c] {
        syscalls.push(Rule { args: Some(vec![low(1, command)]), ..errno(&["ioctl"], libc::EPERM) });
    }
    for flag in NAMESPACES {
        let set = Arg { index: 0, op: Op::MaskedEq, value: flag, value_two: flag };
        syscalls.push(Rule { args: Some(vec![set]), ..errno(&["clone", "unshare"], libc::EPERM) });
    }
    // Its flags are in memory, where a filter cannot see them; every C library then takes clone.
    syscalls.push(errno(&["clone3"], libc::ENOSYS));
    for family in FAMILIES {
        syscalls.push(Rule { args: Some(vec![low(0, family)]), ..errno(&["socket"], libc::EAFNOSUPPORT) });
    }
    let above = Arg { index: 0, op: Op::Gt, value: LAST_FAMILY, value_two: 0 };
    syscalls.push(Rule { args: Some(vec![above]), ..errno(&["socket"], libc::EAFNOSUPPORT) });
    let other = |value| Arg { index: 0, op: Op::Ne, value, value_two: 0 };
    let persona = Rule { args: Some(PERSONALITIES.map(other).to_vec()), ..errno(&["personality"], libc::EPERM) };
    syscalls.push(Rule { together: true, ..persona });
    let architectures = Some(vec![Machine::X86.scmp_name().to_owned()]);
    Profile { architectures, syscalls, ..Profile::default() }
}

fn errno(names: &[&str], errno: i32) -> Rule {
    let names = names.iter().map(|&name| name.to_owned()).collect();
    Rule { names, action: Action::Errno, errno_ret: Some(errno as u32), ..Rule::default() }
}

/// The kernel takes the command of an ioctl and the family of a socket as 32 bits: set bits above must not hide them.
fn low(index: u8, value: u64) -> Arg {
    Arg { index, op: Op::MaskedEq, value: 0xffff_ffff, value_two: value }
}

/// CLONE_NEWTIME, NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
const NAMESPACES: [u64; 8] =
    [0x80, 0x0002_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000];

/// PER_LINUX, PER_LINUX32 and either with UNAME26; and what asks only. Others map page zero or make the stack
/// executable, for programs with more privileges too (personality(2)).
const PERSONALITIES: [u64; 5] = [0, 8, 0x0002_0000, 0x0002_0008, 0xffff_ffff];

/// DECnet, Econet, ATM SVC, IrDA, Wanpipe, ISDN and CAIF, which the kernel has dropped or nobody keeps up; AF_ALG, the
/// kernel's cryptography; AF_VSOCK, which is in no network namespace. A 32-bit program that calls socketcall(2), whose
/// arguments are in memory, is not kept from them.
const FAMILIES: [u64; 9] = [12, 19, 20, 23, 25, 34, 37, 38, 40];
/// AF_MCTP.
const LAST_FAMILY: u64 = 45;

#[rustfmt::skip]
const REFUSED: &[&str] = &[
    // Mounts and roots.
    "mount", "umount", "umount2", "pivot_root", "chroot", "open_tree", "open_tree_attr", "move_mount", "fsopen", "fsconfig",
    "fsmount", "fspick", "mount_setattr", "setns", "quotactl", "quotactl_fd", "swapon", "swapoff", "acct",
    // Files by handle go around every mount.
    "open_by_handle_at", "fanotify_init",
    // The kernel itself.
    "init_module", "finit_module", "delete_module", "create_module", "query_module", "get_kernel_syms", "kexec_load",
    "kexec_file_load", "reboot", "syslog", "bpf", "perf_event_open", "userfaultfd", "lookup_dcookie", "iopl", "ioperm",
    "vm86", "vm86old", "uselib", "ustat", "sysfs", "_sysctl", "nfsservctl", "vhangup", "io_uring_setup",
    "io_uring_enter", "io_uring_register", "settimeofday", "stime", "clock_settime", "clock_settime64", "sethostname",
    "setdomainname", "lsm_get_self_attr", "lsm_set_self_attr", "lsm_list_modules",
    // Keys are not in any namespace.
    "add_key", "keyctl", "request_key",
    // Other processes' descriptors and places. Reading their memory stays allowed: it takes the same right as ptrace(2),
    // in the same namespaces, and a filter also holds for the calls that a tracer makes its child do (Linux 4.8).
    "process_madvise", "pidfd_getfd", "move_pages", "migrate_pages", "mbind", "set_mempolicy",
    "set_mempolicy_home_node", "get_mempolicy",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::privileges::syscall::Syscalls;

    /// Not in podman's, and let pass here: they do what an older call does that every profile allows, ask only, or are
    /// made by the kernel's own probes; the rest the kernel has not implemented for decades.
    #[rustfmt::skip]
    const ALLOWED: &[&str] = &[
        "file_getattr", "file_setattr", "uretprobe", "uprobe", "afs_syscall", "getpmsg", "putpmsg", "security", "tuxcall",
        "vserver", "epoll_ctl_old", "epoll_wait_old", "vmsplice",
        // Newer than Debian's copy, and in upstream's.
        "cachestat", "fchmodat2", "map_shadow_stack", "futex_wake", "futex_wait", "futex_requeue", "futex_waitv", "statmount",
        "listmount", "mseal", "setxattrat", "getxattrat", "listxattrat", "removexattrat", "io_pgetevents", "kcmp",
    ];

    #[test]
    fn what_podman_refuses_a_container_without_capabilities_the_default_filter_refuses() {
        let installed = "/usr/share/containers/seccomp.json";
        let Ok(text) = std::fs::read_to_string(installed) else {
            eprintln!("skipped: no {installed} (golang-github-containers-common)");
            return;
        };
        let theirs: Profile = serde_json::from_str(&text).expect("a profile");
        let none = chain::capabilities::CapabilitySet::empty();
        let allowed: BTreeSet<&str> = theirs
            .syscalls
            .iter()
            .filter(|rule| rule.action == Action::Allow && rule.applies(none))
            .flat_map(|rule| rule.names.iter().map(String::as_str))
            .collect();
        let (syscalls, own) = (Syscalls::read(), Machine::own().expect("a machine that filters are made for"));
        let unlike: Vec<&str> = syscalls
            .names(own)
            .filter(|name| !allowed.contains(name) && !REFUSED.contains(name) && !ALLOWED.contains(name))
            .collect();
        assert_eq!(unlike, Vec::<&str>::new(), "podman refuses these");
        for name in REFUSED {
            assert!(syscalls.has(name), "{name} is no system call");
        }
    }
}
