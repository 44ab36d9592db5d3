//! Why the kernel refused a namespace: one errno has several causes, told apart here.

use std::fs::read_to_string;
use std::path::Path;

use anyhow::{Error, anyhow};
use chain::{Hint, mountinfo};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::geteuid;

use crate::namespaces::Kind;
use crate::process::{Ending, ending_of, fork, no_process};

pub fn explain(errno: Errno, new: &[Kind]) -> Error {
    let names = new.iter().map(|kind| kind.option()).collect::<Vec<_>>().join(", ");
    let what = if new.is_empty() { "fork".to_owned() } else { format!("new namespaces ({names})") };
    let error = |hint: String| Error::new(errno).context(what.clone()).context(Hint(hint));
    let culprit = match errno {
        Errno::EINVAL => new.iter().copied().find(|kind| kind.is_missing()).or_else(|| refused(errno, new)),
        Errno::ENOSPC => refused(errno, new),
        _ => None,
    };
    if let (Errno::EINVAL, Some(missing)) = (errno, culprit) {
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
        Errno::EPERM => error(user_namespaces_forbidden(setting)),
        Errno::ENOSPC => error(full(culprit)),
        Errno::EUSERS => error("user namespaces can be nested 32 deep; this would be one too many".into()),
        Errno::ENOMEM if new.is_empty() || new.contains(&Kind::Pid) => {
            error("out of memory, or the pid namespace to fork into has lost its PID 1".into())
        }
        Errno::EAGAIN => no_process(errno),
        errno => Error::new(errno).context(what),
    }
}

/// The kind at fault: tries each alone, in a process that exits with the answer.
fn refused(errno: Errno, new: &[Kind]) -> Option<Kind> {
    let privilege = match new.contains(&Kind::User) {
        true => Kind::User.flag(),
        false => CloneFlags::empty(),
    };
    let answer = |kind: &Kind| match fork().ok()? {
        None => chain::leave(unshare(privilege | kind.flag()).err().map_or(0, |errno| errno as u8)),
        Some(child) => match ending_of(child).ok()? {
            Ending::Exit(code) => Some(code),
            Ending::Signal(_) => None,
        },
    };
    new.iter().copied().find(|kind| answer(kind) == Some(errno as i32))
}

fn setting(path: &str) -> Option<i64> {
    read_to_string(path).ok()?.trim().parse().ok()
}

/// The possible causes of EPERM for a new user namespace.
fn user_namespaces_forbidden(setting: impl Fn(&str) -> Option<i64>) -> String {
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

/// In a chroot `/` is not the root of any visible mount (user_namespaces(7)).
fn in_chroot() -> bool {
    mountinfo::read().is_ok_and(|table| !table.iter().any(|mount| mount.point == Path::new("/")))
}

/// ENOSPC: a limit per user and user namespace (namespaces(7)), or the nesting of 32.
fn full(kind: Option<Kind>) -> String {
    let name = |kind: Kind| format!("max_{}_namespaces", kind.file());
    let limit = kind.and_then(|kind| Some((name(kind), setting(&format!("/proc/sys/user/{}", name(kind)))?)));
    match limit {
        Some((name, limit @ ..=0)) => format!("user.{name} is {limit}: sysctl user.{name}=10000"),
        Some((name, limit)) if kind == Some(Kind::User) => format!(
            "user.{name} ({limit} here) is reached, here or in an outer user namespace, or they are nested 32 deep"
        ),
        Some((name, limit)) => {
            format!("user.{name} ({limit} here) is reached, here or in an outer user namespace")
        }
        None => {
            "one of the limits in /proc/sys/user/max_*_namespaces is reached, here or in an outer user namespace".into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_that_forbids_user_namespaces_is_named() {
        let with = |name: &'static str, value| {
            user_namespaces_forbidden(move |path: &str| (path.rsplit('/').next() == Some(name)).then_some(value))
        };
        let sysctl = "unprivileged_userns_clone";
        assert!(with(sysctl, 0).contains("sysctl kernel.unprivileged_userns_clone=1"));
        assert!(!with(sysctl, 1).contains(sysctl));
        let apparmor = "apparmor_restrict_unprivileged_userns";
        assert!(with(apparmor, 1).contains("sysctl kernel.apparmor_restrict_unprivileged_userns=0"));
        assert!(!with(apparmor, 0).contains(apparmor));
    }
}
