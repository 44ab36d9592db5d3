//! A minimal /dev for the container.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result};
use chain::Umask;
use chain::attach::{self, NODEV, NOEXEC, NOSUID, Place};
use chain::retry_eintr::{open, openat};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, SFlag, makedev, mkdirat, mknodat, stat};
use nix::unistd::{isatty, symlinkat, ttyname};

use crate::place::{self, Kind};
use crate::tree::{Tree, Wanted};

const NODES: [(&str, u64, u64); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
    ("core", "/proc/kcore"),
];
/// The first ipc namespace has this inode on every machine (PROC_IPC_INIT_INO).
const FIRST_IPC_NAMESPACE: u64 = 0xEFFF_FFFF;

pub fn mount(tree: &mut Tree) -> Result<OwnedFd> {
    let _umask = Umask::set(0);
    let path = Path::new("dev");
    place::ensure(tree, path, Kind::Directory, Wanted::AsPlace)?;
    let options = [("mode", Some("755")), ("size", Some("64k"))];
    let dev = attach::filesystem("tmpfs", &options, NOSUID | NOEXEC, Place { root: tree.as_fd(), path })?;
    let within = |name: &'static str| Place { root: dev.as_fd(), path: Path::new(name) };
    for (name, major, minor) in NODES {
        node(name, makedev(major, minor), within(name)).with_context(|| format!("dev/{name}"))?;
    }
    for (name, target) in LINKS {
        symlinkat(target, &dev, name).with_context(|| format!("dev/{name}"))?;
    }
    for name in ["pts", "shm", "mqueue"] {
        mkdirat(&dev, name, Mode::from_bits_truncate(0o755)).with_context(|| format!("dev/{name}"))?;
    }
    devpts(within("pts")).context("dev/pts")?;
    attach::filesystem("tmpfs", &[("mode", Some("1777"))], NOSUID | NODEV | NOEXEC, within("shm"))
        .context("dev/shm")?;
    if own_ipc_namespace() {
        mqueue(within("mqueue")).context("dev/mqueue")?;
    }
    console(dev.as_fd()).context("dev/console")?;
    Ok(dev)
}

/// Makes a device node if allowed, otherwise binds the host's: in a user namespace the kernel makes none.
fn node(name: &str, device: u64, place: Place) -> Result<()> {
    let mode = Mode::from_bits_truncate(0o666);
    let made = mknodat(place.root, name, SFlag::S_IFCHR, mode, device);
    match made {
        Err(Errno::EPERM) => bind_host(&Path::new("/dev").join(name), place),
        made => Ok(made?),
    }
}

fn bind_host(path: &Path, place: Place) -> Result<()> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    openat(place.root, place.path, flags, Mode::from_bits_truncate(0o644))?;
    let source = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    attach::bind(source, place, 0).map(drop)
}

/// Where ptys belong to a group it is 5, tty, which a user namespace may not map.
fn devpts(place: Place) -> Result<()> {
    let options = [("newinstance", None), ("ptmxmode", Some("0666")), ("mode", Some("0620")), ("gid", Some("5"))];
    let without = options.split_last().map_or(&[][..], |(_, others)| others);
    match attach::filesystem("devpts", &options, NOSUID | NOEXEC, place) {
        Err(error) if error.downcast_ref() == Some(&Errno::EINVAL) => {
            attach::filesystem("devpts", without, NOSUID | NOEXEC, place).map(drop)
        }
        result => result.map(drop),
    }
}

fn own_ipc_namespace() -> bool {
    stat("/proc/self/ns/ipc").is_ok_and(|namespace| namespace.st_ino != FIRST_IPC_NAMESPACE)
}

fn mqueue(place: Place) -> Result<()> {
    match attach::filesystem("mqueue", &[], NOSUID | NODEV | NOEXEC, place) {
        // The namespace is that of a container around this one, or the kernel has no message queues.
        Err(error) if matches!(error.downcast_ref(), Some(Errno::EPERM | Errno::ENODEV)) => Ok(()),
        result => result.map(drop),
    }
}

/// The terminal that the chain was started on: its node is in the host's devpts, so ttyname(3) would find no name for it.
fn console(dev: BorrowedFd) -> Result<()> {
    let stdin = std::io::stdin();
    if !isatty(&stdin).unwrap_or(false) {
        return Ok(());
    }
    match ttyname(&stdin) {
        Ok(name) if name.as_os_str().as_bytes().starts_with(b"/dev/") => {
            bind_host(&name, Place { root: dev, path: Path::new("console") })
        }
        _ => Ok(()),
    }
}

/// `root` is quoted already.
pub fn shell(root: &str, f: &mut fmt::Formatter) -> fmt::Result {
    writeln!(f, "minimal_dev() {{")?;
    writeln!(f, "mount -t tmpfs -o nosuid,noexec,mode=755,size=64k tmpfs \"$1\"/dev")?;
    for (name, major, minor) in NODES {
        writeln!(
            f,
            "mknod -m 666 \"$1\"/dev/{name} c {major} {minor} 2>/dev/null || \
             {{ : >\"$1\"/dev/{name}; mount --bind /dev/{name} \"$1\"/dev/{name}; }}"
        )?;
    }
    for (name, target) in LINKS {
        writeln!(f, "ln -s {target} \"$1\"/dev/{name}")?;
    }
    writeln!(f, "mkdir \"$1\"/dev/pts \"$1\"/dev/shm \"$1\"/dev/mqueue")?;
    writeln!(
        f,
        "mount -t devpts -o nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5 devpts \"$1\"/dev/pts 2>/dev/null || \
         mount -t devpts -o nosuid,noexec,newinstance,ptmxmode=0666,mode=0620 devpts \"$1\"/dev/pts"
    )?;
    writeln!(f, "mount -t tmpfs -o nosuid,nodev,noexec,mode=1777 tmpfs \"$1\"/dev/shm")?;
    writeln!(
        f,
        "[ \"$(stat -L -c %i /proc/self/ns/ipc)\" = {FIRST_IPC_NAMESPACE} ] || \
         mount -t mqueue -o nosuid,nodev,noexec mqueue \"$1\"/dev/mqueue || :"
    )?;
    writeln!(f, "! tty -s || {{ : >\"$1\"/dev/console; mount --bind \"$(tty)\" \"$1\"/dev/console; }}")?;
    write!(f, "}}\nminimal_dev {root}")
}
