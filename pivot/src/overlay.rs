//! Layers over ROOT that take every change: kept in a directory, or in memory for one run.

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context, Error, Result, anyhow};
use chain::attach::{self, NODEV, NOSUID};
use chain::patient::openat;
use chain::shell::quote;
use chain::{Hint, Umask, WithHint};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, fchmod, fstat, mkdirat, stat};
use nix::unistd::{Gid, Uid, fchown};

use crate::{lock, root};

/// The first user namespace has this inode on every machine (PROC_USER_INIT_INO).
const FIRST_USER_NAMESPACE: u64 = 0xEFFF_FFFD;

/// Where the changes go.
pub struct Layer {
    upper: OwnedFd,
    work: OwnedFd,
    /// The id of the mount that the lock on the directory is held through.
    pub lock: Option<u64>,
}

/// In memory, over ROOT, where the detach of the host's tree takes it away.
pub fn in_memory(root: &OwnedFd) -> Result<Layer> {
    let options = [("mode", Some("755"))];
    let attributes = NOSUID | NODEV;
    let memory = root::stack(root, attach::unattached("tmpfs", &options, attributes), |place| {
        attach::filesystem("tmpfs", &options, attributes, place)
    })?;
    layer(&memory, root)
}

/// In a directory, which no other container may use meanwhile: the kernel's behaviour is undefined then.
pub fn kept(dir: &Path, root: &OwnedFd) -> Result<Layer> {
    let made = match nix::unistd::mkdir(dir, Mode::from_bits_truncate(0o700)) {
        Ok(()) => true,
        Err(Errno::EEXIST) => false,
        Err(errno) => return Err(errno).with_context(|| dir.display().to_string()),
    };
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let opened = chain::patient::open(dir, flags, Mode::empty()).with_context(|| dir.display().to_string())?;
    let path = |fd: &OwnedFd| std::fs::read_link(attach::by_number(fd));
    if path(&opened)?.starts_with(path(root)?) {
        if made {
            let _ = std::fs::remove_dir(dir);
        }
        return Err(anyhow!("{}: --overlay DIR lies in ROOT, which it would change", dir.display()))
            .hint("put it beside ROOT");
    }
    let lock = lock::alone(&opened).with_context(|| dir.display().to_string())?;
    Ok(Layer { lock, ..layer(&opened, root).with_context(|| dir.display().to_string())? })
}

fn layer(dir: &OwnedFd, root: &OwnedFd) -> Result<Layer> {
    let path = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let made = |name: &str| match mkdirat(dir, name, Mode::from_bits_truncate(0o755)) {
        Ok(()) => Ok(true),
        Err(Errno::EEXIST) => Ok(false),
        Err(errno) => Err(errno),
    };
    let _umask = Umask::set(0o022);
    let fresh = made("upper")?;
    made("work")?;
    let upper = openat(dir, "upper", path, Mode::empty())?;
    let work = openat(dir, "work", path, Mode::empty())?;
    if fresh {
        // The merged root shows the upper directory's own mode and owner.
        let like = fstat(root)?;
        let owner = (Uid::from_raw(like.st_uid), Gid::from_raw(like.st_gid));
        // An owner that a user namespace does not map cannot be given.
        let _ = fchown(&upper, Some(owner.0), Some(owner.1));
        fchmod(&upper, Mode::from_bits_truncate(like.st_mode))?;
    }
    Ok(Layer { upper, work, lock: None })
}

/// ROOT with the layer over it, attached on ROOT.
pub fn mount(layer: &Layer, root: &OwnedFd) -> Result<OwnedFd> {
    let path = |fd: &OwnedFd| attach::by_number(fd).display().to_string();
    let (lower, upper, work) = (path(root), path(&layer.upper), path(&layer.work));
    let mut options = vec![("lowerdir", Some(&*lower)), ("upperdir", Some(&*upper)), ("workdir", Some(&*work))];
    if in_user_namespace() {
        // trusted.* attributes are not for us; Linux 5.11 has the overlay's marks in user.* ones.
        options.push(("userxattr", None));
    }
    root::stack(root, attach::unattached("overlay", &options, 0), |place| {
        attach::filesystem("overlay", &options, 0, place)
    })
    .map_err(|error| explained(error, layer))
}

fn explained(error: Error, layer: &Layer) -> Error {
    let Some(&errno) = error.downcast_ref::<Errno>() else { return error };
    let same_filesystem = fstat(&layer.upper).is_ok_and(|u| fstat(&layer.work).is_ok_and(|w| u.st_dev == w.st_dev));
    let hint = match errno {
        Errno::ENODEV => "the kernel has no overlay filesystem: modprobe overlay",
        Errno::EPERM => "an overlay in a user namespace needs Linux 5.11 or later",
        Errno::EBUSY => "another overlay uses the directory: give each container its own --overlay DIR",
        Errno::ELOOP => "--overlay DIR and ROOT must not lie in each other",
        Errno::ESTALE => "the directory was used over another ROOT: give each ROOT its own --overlay DIR",
        Errno::EINVAL if same_filesystem => {
            "the filesystem of the changes cannot hold an overlay's upper layer (overlay itself, NFS and FAT cannot), \
             or ROOT is an overlay two levels deep already, or a mount below ROOT is locked in a user namespace"
        }
        _ => return error,
    };
    error.context(Hint(hint.into()))
}

fn in_user_namespace() -> bool {
    stat("/proc/self/ns/user").is_ok_and(|namespace| namespace.st_ino != FIRST_USER_NAMESPACE)
}

/// `root` and `dir` are quoted already.
pub fn shell(dir: Option<&Path>, root: &str, f: &mut fmt::Formatter) -> fmt::Result {
    writeln!(
        f,
        "userxattr=$([ \"$(stat -L -c %i /proc/self/ns/user)\" = {FIRST_USER_NAMESPACE} ] || echo ,userxattr)"
    )?;
    match dir {
        Some(dir) => {
            let dir = quote(dir);
            writeln!(
                f,
                "[ -d {dir}/upper ] || {{ mkdir -p {dir}/upper {dir}/work; chmod --reference={root} {dir}/upper; }}"
            )?;
            write!(
                f,
                "mount -t overlay -o lowerdir={root},upperdir={dir}/upper,workdir={dir}/work$userxattr overlay {root}"
            )
        }
        None => write!(
            f,
            "overlay_in_memory() (\n\
             cd -P \"$1\"; mount -t tmpfs -o nosuid,nodev,mode=755 tmpfs \"$PWD\"\n\
             mkdir \"$PWD/upper\" \"$PWD/work\"; chmod --reference=. \"$PWD/upper\"\n\
             mount -t overlay -o \"lowerdir=.,upperdir=$PWD/upper,workdir=$PWD/work$userxattr\" overlay \"$PWD\"\n\
             )\noverlay_in_memory {root}"
        ),
    }
}
