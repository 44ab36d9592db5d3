//! Why the kernel refused a namespace: one errno has several causes, told apart here.

use std::fs::read_to_string;
use std::path::Path;

use anyhow::{Error, anyhow};
use chain::capabilities::{CapabilitySet, are_effective};
use chain::security_module::APPARMOR;
use chain::{Hint, mountinfo, why_no_new_namespace};
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
        let hint = match config {
            "" => format!("they need Linux {version} or newer"),
            //: this kernel has no NAME namespaces | clone, unshare: EINVAL | it is too old, or built without them |
            //: /proc/self/ns, and each kind is tried alone |
            //: isolate/refusals::a_kernel_without_a_kind_is_told_from_one_that_has_it
            config => format!("they need Linux {version} or newer, built with {config}"),
        };
        return anyhow!("this kernel has no {missing} namespaces").context(Hint(hint));
    }
    let user = new.contains(&Kind::User);
    match errno {
        //: new namespaces | clone, unshare: EPERM | a filter or module, since the capability is there | capget |
        //: isolate/refusals::a_kernel_without_a_kind_is_told_from_one_that_has_it
        Errno::EPERM if !user && are_effective(CapabilitySet::SYS_ADMIN) => {
            error("a seccomp filter or security module forbids these namespaces here".into())
        }
        //: new namespaces | clone, unshare: EPERM | no CAP_SYS_ADMIN: an ordinary user | geteuid |
        //: isolate/refusals::who_may_not_is_told_what_to_add
        Errno::EPERM if !user && !geteuid().is_root() => {
            error("this needs root, or a user namespace: add --user --map-root".into())
        }
        //: new namespaces | clone, unshare: EPERM | no CAP_SYS_ADMIN: root of a container | geteuid |
        //: isolate/refusals::who_may_not_is_told_what_to_add
        Errno::EPERM if !user => error("root here lacks CAP_SYS_ADMIN: add --user --map-root".into()),
        Errno::EPERM => error(user_namespaces_forbidden(setting)),
        Errno::ENOSPC => error(full(culprit)),
        //: new namespaces | clone, unshare: EUSERS | user namespaces are nested 32 deep | the only cause |
        //: isolate/refusals::a_kernel_without_a_kind_is_told_from_one_that_has_it
        Errno::EUSERS => error("user namespaces can be nested 32 deep; this would be one too many".into()),
        Errno::EAGAIN | Errno::ENOMEM => no_process(errno),
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
        //: new namespaces, --user | clone, unshare: EPERM | Debian's setting: user namespaces are for root only | the
        //: sysctl | isolate/src/namespaces/why_failed::the_setting_that_forbids_user_namespaces_is_named
        return "user namespaces are for root only here: sysctl kernel.unprivileged_userns_clone=1".into();
    }
    if setting("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == Some(1) {
        return APPARMOR.into();
    }
    if crate::ids::is_unmapped() {
        //: new namespaces, --user | clone, unshare: EPERM | the caller's ids are not mapped | the maps of /proc/self |
        //: isolate/refusals::an_id_that_is_not_mapped_is_named
        return "the own user or group is not mapped in the user namespace that this runs in \
                (/proc/self/uid_map, /proc/self/gid_map)"
            .into();
    }
    if in_chroot() {
        //: new namespaces, --user | clone, unshare: EPERM | a chroot | mountinfo has no / |
        //: isolate/refusals::a_chroot_is_named
        return "the kernel makes no user namespace inside a chroot: use pivot instead of chroot".into();
    }
    //: new namespaces, --user | clone, unshare: EPERM | a seccomp filter or security module | no other cause holds |
    //: isolate/refusals::a_kernel_without_a_kind_is_told_from_one_that_has_it
    "a seccomp filter or security module forbids user namespaces here (inside another container, start that \
     one with its seccomp filter relaxed)"
        .into()
}

/// In a chroot `/` is not the root of any visible mount (user_namespaces(7)).
fn in_chroot() -> bool {
    mountinfo::read().is_ok_and(|table| !table.iter().any(|mount| mount.point == Path::new("/")))
}

fn full(kind: Option<Kind>) -> String {
    kind.and_then(|kind| why_no_new_namespace(kind.file())).unwrap_or_else(|| {
        //: new namespaces | clone, unshare: ENOSPC | one of the limits is reached | none is refused alone, or there is no
        //: /proc | isolate/refusals::a_limit_that_cannot_be_told_is_one_of_several
        "one of the limits in /proc/sys/user/max_*_namespaces is reached, here or in an outer user namespace".into()
    })
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
