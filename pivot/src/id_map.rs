//! Files under other owners than their filesystem has: an idmapped mount (mount_setattr(2)).

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Error, Result};
use chain::attach;
use chain::id_map::{self, MOST_RANGES, Range};
use chain::retry_eintr::waitpid;
use chain::sys::{self, errno_of};
use chain::{hinted, leave, mountinfo, mounts, pidfd, why_no_new_namespace};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{ForkResult, Pid, chroot, fork, pipe2, read};

use crate::args::IdMap;

/// Applies a map to a copy of `source` that is not attached yet.
pub fn apply(map: &IdMap, copy: &OwnedFd, recursive: bool, source: &OwnedFd) -> Result<()> {
    let namespace = namespace(map).with_context(|| format!("idmap {map}"))?;
    attach::map_owners(copy, recursive, &namespace)
        .map_err(|errno| hinted(Error::new(errno).context("idmap"), why_refused(errno, recursive, source, &namespace)))
}

/// The kernel takes a map only as a user namespace's.
fn namespace(map: &IdMap) -> Result<OwnedFd> {
    let (users, groups) = match map {
        IdMap::Namespace(path) => return Ok(File::open(path)?.into()),
        IdMap::Ranges { users, groups } => (users, groups),
    };
    let (ready, childs_ready) = pipe2(OFlag::O_CLOEXEC).context("pipe")?;
    let (childs_end, end) = pipe2(OFlag::O_CLOEXEC).context("pipe")?;
    // SAFETY: the child makes a few system calls and exits, and this process has one thread.
    match unsafe { fork() }? {
        ForkResult::Child => {
            drop((ready, end));
            // The kernel refuses a user namespace to a process above whose root something is mounted, as where ROOT is /
            // (current_chrooted in Linux). This leads to what is mounted there.
            let _ = chroot("/..");
            let made = unshare(CloneFlags::CLONE_NEWUSER).map_or_else(|errno| errno as i32 as u8, |()| 0);
            let _ = nix::unistd::write(&childs_ready, &[made]);
            // Until the parent closes its end, or dies.
            let _ = read(&childs_end, &mut [0]);
            leave(0)
        }
        ForkResult::Parent { child } => {
            drop((childs_ready, childs_end));
            let opened = of_child(child, &ready, users, groups);
            drop(end);
            waitpid(child, None)?;
            opened
        }
    }
}

fn of_child(child: Pid, ready: &OwnedFd, users: &[Range], groups: &[Range]) -> Result<OwnedFd> {
    let mut errno = [0];
    let told = chain::retry_eintr::retry(|| read(ready, &mut errno))?;
    match (told, errno) {
        (1, [0]) => {}
        (_, [errno]) => {
            let errno = Errno::from_raw(errno.into());
            let hint = match errno {
                Errno::ENOSPC => why_no_new_namespace("user"),
                //: idmap | unshare: EPERM | this is a chroot, or a filter or setting forbids user namespaces | the kernel looks for
                //: nothing else | pivot/idmapped::a_map_that_the_kernel_does_not_take_is_explained
                Errno::EPERM => {
                    Some("the map takes a user namespace, which this kernel, a filter or a chroot forbids".into())
                }
                _ => None,
            };
            return Err(hinted(Error::new(errno).context("new user namespace"), hint));
        }
    }
    let proc = in_proc(child)?;
    for (ranges, file) in [(users, "uid_map"), (groups, "gid_map")] {
        let lines: String = ranges.iter().map(|range| format!("{range}\n")).collect();
        std::fs::write(format!("{proc}/{file}"), lines).map_err(|error| {
            hinted(Error::new(errno_of(&error).unwrap_or(Errno::EIO)).context(file), why_no_map(&error))
        })?;
    }
    let path = format!("{proc}/ns/user");
    Ok(File::open(&path).context(path)?.into())
}

/// Its directory in /proc, which may be an outer pid namespace's.
fn in_proc(child: Pid) -> Result<String> {
    let pidfd = pidfd::of(child.as_raw()).context("pidfd")?;
    let path = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
    let info = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    let number = pidfd::number(&info).context(path)?;
    Ok(format!("/proc/{number}"))
}

fn why_no_map(error: &std::io::Error) -> Option<String> {
    match errno_of(error)? {
        //: idmap | write uid_map: EINVAL | ranges overlap, or are too many | the kernel looks for nothing else in numbers that
        //: fit | pivot/idmapped::a_map_that_the_kernel_does_not_take_is_explained
        Errno::EINVAL => Some(format!("two ranges of the map overlap, or it has more than {MOST_RANGES}")),
        //: idmap | write uid_map: EPERM | SHOWN is no id of this user namespace, or there is no CAP_SETUID | the kernel looks
        //: for nothing else | pivot/idmapped::a_map_that_the_kernel_does_not_take_is_explained
        Errno::EPERM => Some("each SHOWN must be an id here, and the caller root here: see /proc/self/uid_map".into()),
        _ => None,
    }
}

/// The causes of can_idmap_mount in Linux, for the copy as a whole.
fn why_refused(errno: Errno, recursive: bool, source: &OwnedFd, namespace: &OwnedFd) -> Option<String> {
    let kind = mounts::id_of(source)
        .ok()
        .and_then(|id| mountinfo::read().ok()?.into_iter().find(|mount| mount.id == id).map(|mount| mount.kind));
    let alone = || attach::copy_alone(source).is_ok_and(|copy| attach::map_owners(&copy, false, namespace).is_ok());
    match errno {
        Errno::ENOSYS => Some(sys::missing("mount_setattr", "Linux 5.12")),
        //: idmap | mount_setattr: EINVAL, EPERM | what is mounted below cannot be mapped | without it the kernel takes the map |
        //: pivot/idmapped::what_cannot_be_mapped_is_refused_with_the_kernels_reason
        Errno::EINVAL | Errno::EPERM if recursive && alone() => {
            Some("a mount below it cannot have other owners; a volume leaves those out with bind: --bind SRC:DST:bind,idmap=MAP".into())
        }
        //: idmap | mount_setattr: EINVAL | the filesystem knows no idmapped mounts | the other causes do not hold |
        //: pivot/idmapped::what_cannot_be_mapped_is_refused_with_the_kernels_reason
        Errno::EINVAL => Some(format!("the kernel has no idmapped mounts of a filesystem like this ({})", kind?)),
        //: idmap | mount_setattr: EPERM | the filesystem was mounted outside this user namespace | this one is not the first |
        //: pivot/idmapped::what_cannot_be_mapped_is_refused_with_the_kernels_reason
        Errno::EPERM if !id_map::is_the_hosts() => Some(
            "the filesystem was mounted outside this user namespace, and only root there may show other owners".into(),
        ),
        //: idmap | mount_setattr: EPERM | it has other owners already | the other causes do not hold |
        //: pivot/idmapped::what_cannot_be_mapped_is_refused_with_the_kernels_reason
        Errno::EPERM => Some("it is an idmapped mount already, or the user namespace is the host's".into()),
        _ => None,
    }
}

/// A function in the script: takes the map, mount's other options and both places. mount(8) makes a user namespace in a child
/// that it has to find in /proc, which must be of its own pid namespace.
pub const SHELL: &str = "\
idmapped() { read -r pid _ </proc/self/stat; [ \"$pid\" = $$ ] || mount -t proc proc /proc; mount \"$2\" -o \"X-mount.idmap=$1\" \"$3\" \"$4\" && \
findmnt -n -o VFS-OPTIONS --mountpoint \"$4\" | grep -q idmapped || { echo 'no idmap: it takes util-linux 2.39' >&2; exit 1; }; }";
