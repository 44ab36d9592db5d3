//! What a security module confines this process as (proc_pid_attr(5)): AppArmor and SELinux answer EACCES or EPERM for it
//! where the kernel itself would not.

use std::fs::read_to_string;

/// What to do about a call that was not permitted, if this process is confined.
pub fn hint() -> Option<String> {
    let enforces = || read_to_string("/sys/fs/selinux/enforce").is_ok_and(|text| text.trim_end() == "1");
    of(&read_to_string("/proc/self/attr/current").ok()?, enforces)
}

/// `enforces`: whether SELinux does.
fn of(label: &str, enforces: impl FnOnce() -> bool) -> Option<String> {
    let label = label.trim_end_matches(['\0', '\n']);
    // Ubuntu's, which whatever is not confined by another profile enters with a new user namespace.
    if label.starts_with("unprivileged_userns (") {
        return Some(APPARMOR.into());
    }
    let confines = match label.rsplit_once(" (") {
        Some((_, mode)) => matches!(mode, "enforce)" | "kill)"),
        None => label.contains(':') && !label.contains(":unconfined_") && enforces(),
    };
    confines.then(|| {
        //: any | EPERM, EACCES | AppArmor or SELinux forbids it | /proc/self/attr/current names a profile or domain that
        //: is enforced; no other cause is known | chain/src/security_module::a_confined_process_is_told_so
        format!("a security module confines this process as {label}, which may be why: the kernel's log says DENIED")
    })
}

/// For Ubuntu's restriction of user namespaces.
//: any, --user | EPERM, EACCES | AppArmor lets a program without a profile make no user namespace (the sysctl), or do nothing in
//: it (Ubuntu) | the sysctl, /proc/self/attr/current | isolate/src/namespaces/why_failed::the_setting_that_forbids_user_namespaces_is_named
pub const APPARMOR: &str = "AppArmor restricts user namespaces here: load isolate's profile, \
                            share/doc/chainroot/apparmor/chainroot-isolate (it says how), or sysctl \
                            kernel.apparmor_restrict_unprivileged_userns=0";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_confined_process_is_told_so() {
        let hint = |label| of(label, || true);
        assert_eq!(hint("unprivileged_userns (enforce)\n").as_deref(), Some(APPARMOR));
        assert!(hint("docker-default (enforce)\n").is_some_and(|hint| hint.contains("docker-default (enforce)")));
        assert!(hint("system_u:system_r:container_t:s0:c1,c2\0").is_some_and(|hint| hint.contains(":container_t:")));
        for free in [
            "unconfined\n",
            "chainroot-isolate (unconfined)\n",
            "x (complain)\n",
            "",
            "unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023\0",
        ] {
            assert_eq!(hint(free), None, "{free}");
        }
        assert_eq!(of("system_u:system_r:container_t:s0", || false), None);
    }
}
