//! Binds namespaces to files, so that they outlive their last process.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

use anyhow::{Context, Error, Result};
use chain::{Hint, mountinfo, mounts, why_denied};
use nix::errno::Errno;
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::unistd::Pid;

use crate::namespaces::{Kind, New};

/// Binds those namespaces of `child` for which a file was given, in this process's mount namespace.
pub fn keep(new: &[New], child: Pid) -> Result<()> {
    for New { kind, file } in new {
        let Some(file) = file else { continue };
        let source = format!("/proc/{child}/ns/{}", kind.file());
        let result = mount(Some(source.as_str()), file, None::<&str>, MsFlags::MS_BIND, None::<&str>);
        result
            .map_err(|errno| why(errno, *kind, child, file))
            .with_context(|| format!("keep the new {kind} namespace"))?;
    }
    Ok(())
}

fn why(errno: Errno, kind: Kind, child: Pid, path: &Path) -> Error {
    let file = path.display();
    let hint = match errno {
        //: keep the new NAME namespace | mount MS_BIND: ENOENT | FILE is not there | the only cause |
        //: isolate/refusals_kept::what_keeps_a_namespace_from_being_bound_is_named
        Errno::ENOENT => format!("the file must be there: touch {file}"),
        Errno::ENOTDIR if path.is_dir() => {
            //: keep the new NAME namespace | mount MS_BIND: ENOTDIR | FILE is a directory | stat |
            //: isolate/refusals_kept::what_keeps_a_namespace_from_being_bound_is_named
            format!("a namespace is kept in a file, not in a directory: touch {file}/{kind}")
        }
        Errno::EACCES => why_denied::explain(path),
        //: keep the new NAME namespace | mount MS_BIND: EPERM | no CAP_SYS_ADMIN over the caller's mount namespace | the
        //: only cause | isolate/refusals_kept::what_keeps_a_namespace_from_being_bound_is_named
        Errno::EPERM => "only root can bind a namespace to a file".into(),
        Errno::EINVAL if kind == Kind::Mount && is_numbered_below_ours(child) => {
            //: keep the new mount namespace | mount MS_BIND: EINVAL | its number is below the caller's own: Linux 6.18 gives
            //: each processor a range of its own (mnt_ns_loop) | NS_GET_MNTNS_ID of both |
            //: isolate/refusals_kept::a_mount_namespace_with_a_number_below_ours_is_told
            "Linux 6.18 numbers namespaces by processor, and binds none with a number below ours: start isolate on another \
             processor (taskset -c N)"
                .into()
        }
        Errno::EINVAL if kind == Kind::Mount && is_on_shared_mount(path) => {
            //: keep the new mount namespace | mount MS_BIND: EINVAL | FILE is on a shared mount, and the bind would reach
            //: other namespaces | mountinfo | isolate/refusals_kept::what_keeps_a_namespace_from_being_bound_is_named
            format!(
                "a mount namespace can be bound only to a file on a private mount: mount --bind DIR DIR; \
                 mount --make-private DIR, for the DIR that {file} is in"
            )
        }
        _ => return Error::new(errno).context(file.to_string()),
    };
    Error::new(errno).context(file.to_string()).context(Hint(hint))
}

fn is_on_shared_mount(file: &Path) -> bool {
    let id = file.to_str().and_then(|file| mounts::id_at(file).ok());
    mountinfo::read().is_ok_and(|table| table.iter().any(|mount| Some(mount.id) == id && mount.is_shared))
}

/// The kernel takes a greater number for a sign that the namespace is no ancestor of this one (mnt_ns_loop in Linux).
fn is_numbered_below_ours(child: Pid) -> bool {
    match (number("self"), number(&child.to_string())) {
        (Some(ours), Some(childs)) => childs <= ours,
        _ => false,
    }
}

/// ioctl_ns(2), Linux 6.11.
fn number(process: &str) -> Option<u64> {
    const NS_GET_MNTNS_ID: libc::Ioctl = 0x8008_b705_u32 as libc::Ioctl;
    let namespace = File::open(format!("/proc/{process}/ns/mnt")).ok()?;
    let mut number = 0_u64;
    // SAFETY: the kernel writes one u64.
    let result = unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_MNTNS_ID, &raw mut number) };
    (result == 0).then_some(number)
}
