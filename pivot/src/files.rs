//! Files of the host's that programs expect, as read-only copies: what the image has there stays
//! below, and a later change on the host does not show.

use std::fmt;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result};
use chain::attach::{self, NODEV, NOEXEC, NOSUID, Place, READ_ONLY};
use chain::retry_eintr::openat;
use chain::{Tool, WithHint, warn};
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::{fchdir, gethostname};
use rustix::fs::CWD;

use crate::place::{self, Kind};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copied {
    Resolv,
    Hosts,
    Hostname,
}

impl Copied {
    pub fn path(self) -> &'static str {
        match self {
            Copied::Resolv => "/etc/resolv.conf",
            Copied::Hosts => "/etc/hosts",
            Copied::Hostname => "/etc/hostname",
        }
    }

    fn name(self) -> &'static str {
        self.path().trim_start_matches("/etc/")
    }

    fn content(self) -> Result<Vec<u8>> {
        match self {
            Copied::Hostname => {
                let mut name = gethostname().context("host name")?.into_encoded_bytes();
                name.push(b'\n');
                Ok(name)
            }
            Copied::Resolv | Copied::Hosts => std::fs::read(self.path())
                .context(self.path())
                .hint(format!("the host has none to copy; leave --{} out", self.option())),
        }
    }

    fn option(self) -> &'static str {
        match self {
            Copied::Resolv => "resolv",
            Copied::Hosts => "hosts",
            Copied::Hostname => "hostname",
        }
    }
}

/// `root` is quoted already.
pub fn shell(files: &[Copied], root: &str, f: &mut fmt::Formatter) -> fmt::Result {
    writeln!(f, "copy_files() {{")?;
    writeln!(f, "mkdir -p \"$1\"/proc && mount -t tmpfs -o mode=755,size=1m tmpfs \"$1\"/proc")?;
    for file in files {
        let (name, path) = (file.name(), file.path());
        let content = match file {
            Copied::Hostname => "hostname".into(),
            Copied::Resolv | Copied::Hosts => format!("cat {path}"),
        };
        writeln!(f, "[ -e \"$1\"{path} ] || install -D -m 644 /dev/null \"$1\"{path}")?;
        writeln!(
            f,
            "{content} >\"$1\"/proc/{name} && mount --bind \"$1\"/proc/{name} \"$1\"{path} && \
             mount -o remount,bind,ro,nosuid,nodev,noexec \"$1\"{path}"
        )?;
    }
    writeln!(f, "umount -l \"$1\"/proc")?;
    write!(f, "}}\ncopy_files {root}")
}

/// Mounts the copies below `tree`. They live in a filesystem in memory that
/// is attached only while they are taken from it (Linux before 6.15 copies no mount that is not).
pub fn mount(files: &[Copied], tree: &OwnedFd) -> Result<()> {
    let proc = Path::new("proc");
    place::ensure(tree, proc, Kind::Directory)?;
    let options = [("mode", Some("755")), ("size", Some("1m"))];
    let memory =
        attach::filesystem("tmpfs", &options, NOSUID | NODEV | NOEXEC, Place { root: tree.as_fd(), path: proc })?;
    let made = files.iter().try_for_each(|&file| one(file, &memory, tree).context(file.path()));
    // By way of the working directory: no path is resolved again.
    let cwd = openat(CWD, ".", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    fchdir(&memory)?;
    umount2(".", MntFlags::MNT_DETACH).context("detach the filesystem of the copies")?;
    fchdir(&cwd)?;
    made
}

fn one(file: Copied, memory: &OwnedFd, tree: &OwnedFd) -> Result<()> {
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    let copy = openat(memory, file.name(), flags, Mode::from_bits_truncate(0o644))?;
    nix::sys::stat::fchmod(&copy, Mode::from_bits_truncate(0o644))?;
    let mut copy = File::from(copy);
    copy.write_all(&file.content()?)?;
    let path = Path::new(file.path());
    place::ensure(tree, path, Kind::File)?;
    let place = Place { root: tree.as_fd(), path };
    // An image may have a link there, to /dev/null for one: what is no file is not replaced.
    if SFlag::from_bits_truncate(fstat(place.open()?)?.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
        warn(
            Tool::Pivot,
            format_args!(
                "{} in the root is not a regular file: left as it is, --{} not done",
                file.path(),
                file.option()
            ),
        );
        return Ok(());
    }
    attach::bind(&copy, place, READ_ONLY | NOSUID | NODEV | NOEXEC).map(drop)
}
