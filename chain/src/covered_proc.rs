//! Why the kernel refuses a new proc or sysfs in a user namespace (mount_too_revealing in Linux).

use std::path::{Path, PathBuf};

use crate::owner::is_ours;
use crate::{at_root_of_mount_namespace, mounts};

/// Mounts on directories that are empty for good cover nothing (mnt_already_visible in Linux).
const HARMLESS: [&str; 13] = [
    "/proc/sys/fs/binfmt_misc",
    "/proc/fs/nfsd",
    "/sys/fs/cgroup",
    "/sys/fs/bpf",
    "/sys/fs/fuse/connections",
    "/sys/fs/pstore",
    "/sys/fs/selinux",
    "/sys/fs/smackfs",
    "/sys/firmware/efi/efivars",
    "/sys/kernel/config",
    "/sys/kernel/debug",
    "/sys/kernel/security",
    "/sys/kernel/tracing",
];

/// A place below /proc or /sys that something is mounted over, as container runtimes do it.
fn covered(top: &str) -> Option<PathBuf> {
    let points = mounts::table().ok()?.into_iter().map(|mount| mount.point);
    let covers = |point: &PathBuf| {
        point.starts_with(top) && point != Path::new(top) && !HARMLESS.iter().any(|path| point.starts_with(path))
    };
    points.filter(covers).min()
}

/// The cause of EPERM that holds in an own net namespace, with what to do about it.
pub fn why_no_new_sysfs(is_read_only: bool) -> Option<String> {
    if !is_ours("net") {
        return None;
    }
    if let Some(place) = covered("/sys") {
        let place = place.display();
        //: --sys | fsmount, mount: EPERM | a mount covers a part of the sysfs outside | the table of mounts |
        //: mountclean/failures::a_sys_that_is_covered_or_read_only_outside_is_named
        return Some(format!(
            "{place} is covered, and a user namespace gets no new sysfs then: take the host's read-only: --sys=ro"
        ));
    }
    is_read_only.then(|| {
        //: --sys | fsmount, mount: EPERM | the sysfs outside is read-only, as in most containers | statvfs |
        //: mountclean/failures::a_sys_that_is_covered_or_read_only_outside_is_named
        "the /sys outside is read-only, and a user namespace gets no other: --sys=ro".into()
    })
}

/// The cause of EPERM that holds, with what to do about it.
pub fn why_no_new_proc() -> String {
    if !is_ours("pid") {
        //: a new proc (mountclean, isolate --mount-proc) | mount, fsmount: EPERM | the user namespace does not own the pid
        //: namespace | NS_GET_USERNS | mountclean/failures::a_proc_that_is_covered_in_part_is_named_with_what_uncovers_it
        return "in a user namespace a new proc takes a pid namespace of its own: add --pid, \
                isolate --user --map-root --pid -- …"
            .into();
    }
    if let Some(place) = covered("/proc") {
        let place = place.display();
        //: a new proc (mountclean, isolate --mount-proc) | mount, fsmount: EPERM | a mount covers a part of the proc outside |
        //: the table of mounts | mountclean/failures::a_proc_that_is_covered_in_part_is_named_with_what_uncovers_it
        return format!(
            "{place} is covered, and a user namespace gets no new proc then: start the container around us with \
             --security-opt unmask=ALL (podman) or systempaths=unconfined (docker)"
        );
    }
    if at_root_of_mount_namespace().is_ok_and(|at_root| !at_root) {
        //: a new proc (mountclean, isolate --mount-proc) | mount, fsmount: EPERM | a chroot hides what covers the proc
        //: outside | setns, or a user namespace, tells that it is one |
        //: isolate/refusals::a_chroot_that_hides_why_a_new_proc_is_refused_is_named
        return "the /proc outside this chroot is covered in part, or there is none, and a user namespace gets no new \
                proc then: use pivot instead of chroot"
            .into();
    }
    //: a new proc (mountclean, isolate --mount-proc) | mount, fsmount: EPERM | no whole proc is mounted outside | no other
    //: cause holds | mountclean/mounts::behind_another_link_in_a_user_namespace_the_kernel_refuses_proc_and_it_says_why
    "in a user namespace the kernel allows a new proc only where one is mounted already, with nothing over any part of \
     it: let mountclean follow pivot directly"
        .into()
}
