//! Why the kernel lets nobody in.

use anyhow::Error;
use chain::capabilities::{CapabilitySet, are_effective};
use chain::pidfd;
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};

use crate::namespaces::Kind;

pub fn explain(errno: Errno, flags: CloneFlags) -> Error {
    let hint = match errno {
        // Several at once, by a pidfd.
        Errno::EINVAL if flags.bits().count_ones() > 1 && takes_no_pidfd() => {
            //: --join PID | setns: EINVAL | setns takes a pidfd since Linux 5.8 | it refuses our own |
            //: tests/kernels::without_several_namespaces_at_once_a_join_names_the_version_that_has_it
            "a process's namespaces can be entered since Linux 5.8; before it, one by one: --join uts=/proc/PID/ns/uts,…"
        }
        Errno::EINVAL if flags.contains(Kind::Pid.flag()) => {
            //: --join | setns: EINVAL | the pid namespace is not below this one | the kernel takes a pidfd, or there is but
            //: one | isolate/refusals_kept::what_keeps_a_process_from_being_joined_is_named
            "a pid namespace can be entered only from one above it: start isolate there, or join the others one by one: \
             --join uts=/proc/PID/ns/uts,…"
        }
        Errno::EPERM if flags.contains(Kind::User.flag()) => {
            //: --join | setns: EPERM | the user namespace is not below this one, or another user's | it is among them |
            //: isolate/refusals_kept::what_keeps_a_process_from_being_joined_is_named
            "a user namespace can be entered only by the user who made it, or by root outside it"
        }
        Errno::EPERM
            if flags.contains(Kind::Mount.flag())
                && are_effective(CapabilitySet::SYS_ADMIN)
                && !are_effective(CapabilitySet::SYS_CHROOT) =>
        {
            //: --join | setns: EPERM | a mount namespace takes CAP_SYS_CHROOT too, which podman and buildah leave out |
            //: capget | isolate/refusals_kept::what_keeps_a_process_from_being_joined_is_named
            "to enter a mount namespace takes CAP_SYS_CHROOT too: start this with it (--cap-add SYS_CHROOT of the container \
             around us)"
        }
        Errno::EPERM => {
            //: --join | setns: EPERM | no CAP_SYS_ADMIN in the user namespace that owns them | the other causes do not hold |
            //: isolate/refusals_kept::what_keeps_a_process_from_being_joined_is_named
            "this takes root in the user namespace that owns them: where a chain of yours has one, enter that as well"
        }
        _ => return Error::new(errno).context("setns"),
    };
    Error::new(errno).context("setns").context(chain::Hint(hint.into()))
}

/// Linux before 5.8 says EINVAL to any; later ones let us into the namespace that we are in, or say EPERM.
fn takes_no_pidfd() -> bool {
    pidfd::own().is_ok_and(|own| setns(own, Kind::Uts.flag()) == Err(Errno::EINVAL))
}
