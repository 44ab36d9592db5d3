//! Why the kernel refused a namespace: one errno has several causes, told apart here.

use std::fs::read_to_string;

use anyhow::{Error, anyhow};
use chain::Hint;
use nix::errno::Errno;
use nix::unistd::geteuid;

use crate::namespaces::Kind;

pub fn explain(errno: Errno, new: &[Kind]) -> Error {
    let names = new.iter().map(|kind| kind.option()).collect::<Vec<_>>().join(", ");
    let error = |hint: String| Error::new(errno).context(format!("new namespaces ({names})")).context(Hint(hint));
    if let (Errno::EINVAL, Some(missing)) = (errno, new.iter().find(|kind| kind.is_missing())) {
        let (version, config) = missing.since();
        let with = if config.is_empty() { String::new() } else { format!(", built with {config}") };
        return anyhow!("this kernel has no {missing} namespaces")
            .context(Hint(format!("they need Linux {version} or newer{with}")));
    }
    let user = new.contains(&Kind::User);
    match errno {
        Errno::EPERM if !user && !geteuid().is_root() => {
            error("this needs root, or a user namespace: add --user --map-root".into())
        }
        Errno::EPERM if !user => error("root here lacks CAP_SYS_ADMIN: add --user --map-root".into()),
        Errno::EPERM => error(user_namespaces_forbidden()),
        Errno::ENOSPC => error(full(new)),
        Errno::EUSERS => error("user namespaces can be nested 32 deep; this would be one too many".into()),
        Errno::ENOMEM if new.contains(&Kind::Pid) => {
            error("out of memory, or the pid namespace to fork into has lost its PID 1".into())
        }
        errno => Error::new(errno).context(format!("new namespaces ({names})")),
    }
}

fn setting(path: &str) -> Option<i64> {
    read_to_string(path).ok()?.trim().parse().ok()
}

/// What may stand behind EPERM for a new user namespace.
fn user_namespaces_forbidden() -> String {
    if setting("/proc/sys/kernel/unprivileged_userns_clone") == Some(0) {
        return "user namespaces are for root only here: sysctl kernel.unprivileged_userns_clone=1".into();
    }
    if setting("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == Some(1) {
        return "AppArmor restricts user namespaces here: give isolate a profile with `userns,`, \
                or sysctl kernel.apparmor_restrict_unprivileged_userns=0"
            .into();
    }
    if crate::ids::is_unmapped() {
        return "the own user or group is not mapped in the user namespace that this runs in \
                (/proc/self/uid_map, /proc/self/gid_map)"
            .into();
    }
    if in_chroot() {
        return "the kernel makes no user namespace inside a chroot: use pivot instead of chroot".into();
    }
    "a seccomp filter or security module forbids user namespaces here (inside another container, start that \
     one with its seccomp filter relaxed)"
        .into()
}

/// In a chroot `/` is not the root of any mount that the process sees (user_namespaces(7)).
fn in_chroot() -> bool {
    let Ok(table) = read_to_string("/proc/self/mountinfo") else { return false };
    !table.lines().any(|line| line.split(' ').nth(4) == Some("/"))
}

/// ENOSPC: a limit per user and user namespace (namespaces(7)), or the nesting of 32.
fn full(new: &[Kind]) -> String {
    let exhausted = new.iter().find_map(|kind| {
        let name = format!("max_{}_namespaces", kind.file());
        let limit = setting(&format!("/proc/sys/user/{name}"))?;
        (limit == 0).then_some((name, limit))
    });
    match exhausted {
        Some((name, limit)) => format!("user.{name} is {limit}: sysctl user.{name}=10000"),
        None => "one of the limits in /proc/sys/user/max_*_namespaces is reached, here or in an outer user \
                 namespace, or namespaces are nested 32 deep"
            .into(),
    }
}
