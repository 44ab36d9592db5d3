//! Files of /etc that programs expect, as read-only copies: what the image has there stays below, and a later change
//! on the host does not show.

mod account;

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use chain::attach::{self, NODEV, NOEXEC, NOSUID, Place, READ_ONLY};
use chain::retry_eintr::openat;
use chain::{Tool, WithHint, file_kind, warn};
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, SFlag, fchmod};
use nix::unistd::gethostname;

use crate::args::EtcFile;
use crate::hide;
use crate::place::{self, Kind};
use crate::tree::{Tree, Wanted};

impl EtcFile {
    pub fn path(self) -> &'static str {
        match self {
            EtcFile::Resolv => "/etc/resolv.conf",
            EtcFile::Hosts => "/etc/hosts",
            EtcFile::Hostname => "/etc/hostname",
            EtcFile::Passwd => "/etc/passwd",
            EtcFile::Group => "/etc/group",
        }
    }

    fn name(self) -> &'static str {
        self.path().trim_start_matches("/etc/")
    }

    /// The word in the list of --etc.
    fn word(self) -> &'static str {
        self.name().trim_end_matches(".conf")
    }

    /// None where the root's own file will do.
    fn content(self, tree: &OwnedFd) -> Result<Option<Vec<u8>>> {
        match self {
            EtcFile::Hostname => {
                let mut name = gethostname().context("host name")?.into_encoded_bytes();
                name.push(b'\n');
                Ok(Some(name))
            }
            EtcFile::Resolv | EtcFile::Hosts => std::fs::read(self.path())
                .map(Some)
                .context(self.path())
                .hint(format!("the host has none to copy; leave {} out of --etc", self.word())),
            EtcFile::Passwd => account::passwd(tree),
            EtcFile::Group => account::group(tree),
        }
    }
}

/// `root` is quoted already.
pub fn shell(files: &[EtcFile], sets_home: bool, root: &str, f: &mut fmt::Formatter) -> fmt::Result {
    f.write_str(
        "# pivot follows links inside ROOT, within /etc and /run; here no link is followed\n\
         copy_file() {\n\
         [ ! -L \"$1/etc/$2\" ] || return 0\n\
         [ -e \"$1/etc/$2\" ] || install -D -m 644 /dev/null \"$1/etc/$2\"\n\
         cat >\"$1/proc/$2\"; mount --bind \"$1/proc/$2\" \"$1/etc/$2\"\n\
         mount -o remount,bind,ro,nosuid,nodev,noexec \"$1/etc/$2\"\n\
         }\n",
    )?;
    let line = |id: &str| format!("grep -q \"^[^:]*:[^:]*:$(id -{id}):\"");
    writeln!(f, "copy_files() {{")?;
    writeln!(f, "mkdir -p \"$1\"/proc && mount -t tmpfs -o mode=755,size=1m tmpfs \"$1\"/proc")?;
    for &file in files {
        let (name, path) = (file.name(), file.path());
        match file {
            EtcFile::Hostname => writeln!(f, "hostname | copy_file \"$1\" {name}")?,
            EtcFile::Resolv | EtcFile::Hosts => writeln!(f, "copy_file \"$1\" {name} <{path}")?,
            EtcFile::Passwd | EtcFile::Group => {
                let id = if file == EtcFile::Passwd { "u" } else { "g" };
                writeln!(
                    f,
                    "{0} \"$1\"{path} 2>/dev/null || {{ cat \"$1\"{path} 2>/dev/null || :; getent {name} \"$(id -{id})\"; }} | \
                     copy_file \"$1\" {name}",
                    line(id)
                )?;
            }
        }
    }
    writeln!(f, "umount -l \"$1\"/proc\n}}")?;
    if sets_home {
        writeln!(
            f,
            "home() {{ sed -n \"s/^[^:]*:[^:]*:$(id -u):[^:]*:[^:]*:\\([^:]*\\):.*/\\1/p\" \"$1\"/etc/passwd; }}"
        )?;
        return write!(f, "copy_files {root}; HOME=$(home {root} | head -n 1); export HOME");
    }
    write!(f, "copy_files {root}")
}

/// Mounts the copies below `tree`. They live in a filesystem in memory that is attached only while they are taken from
/// it (Linux before 6.15 copies no mount that is not). Returns the caller's home, if the caller's entry is among what was
/// asked for.
pub fn mount(files: &[EtcFile], tree: &mut Tree) -> Result<Option<OsString>> {
    let proc = Path::new("proc");
    place::ensure(tree, proc, Kind::Directory, Wanted::AsPlace)?;
    let options = [("mode", Some("755")), ("size", Some("1m"))];
    let memory =
        attach::filesystem("tmpfs", &options, NOSUID | NODEV | NOEXEC, Place { root: tree.as_fd(), path: proc })?;
    let mut done = Vec::new();
    let made = files.iter().try_for_each(|&file| {
        let is_done = one(file, &memory, tree).context(file.path())?;
        done.extend(is_done.then_some(file));
        anyhow::Ok(())
    });
    hide::detach(&memory)?;
    made?;
    if done.contains(&EtcFile::Passwd) { account::home(tree.root()) } else { Ok(None) }
}

/// Says whether the root has the file then.
fn one(file: EtcFile, memory: &OwnedFd, tree: &mut Tree) -> Result<bool> {
    let Some(path) = place(file, tree)? else {
        left_alone(file, "a link that leads out of /etc and /run");
        return Ok(false);
    };
    let place = Place { root: tree.as_fd(), path: &path };
    let there = place.open()?;
    // An image may have a link there, to /dev/null for one: what is no file is not replaced.
    if file_kind(&there)? != SFlag::S_IFREG {
        left_alone(file, "not a regular file");
        return Ok(false);
    }
    let Some(content) = file.content(tree.root())? else { return Ok(true) };
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    let copy = openat(memory, file.name(), flags, Mode::from_bits_truncate(0o644))?;
    fchmod(&copy, Mode::from_bits_truncate(0o644))?;
    let mut copy = File::from(copy);
    copy.write_all(&content)?;
    attach::bind(&copy, place, READ_ONLY | NOSUID | NODEV | NOEXEC)?;
    Ok(true)
}

/// The place of a file's copy, made where it is missing. An image may have a link there: None where it leads out of
/// /etc and /run, for something else would be covered then.
pub fn place(file: EtcFile, tree: &mut Tree) -> Result<Option<PathBuf>> {
    let path = place::resolve(tree, Path::new(file.path()))?;
    if !["/etc", "/run"].iter().any(|above| path.starts_with(above)) {
        return Ok(None);
    }
    place::ensure(tree, &path, Kind::File, Wanted::AsPlace)?;
    Ok(Some(path))
}

fn left_alone(file: EtcFile, what: &str) {
    let (path, word) = (file.path(), file.word());
    warn(Tool::Pivot, format_args!("{path} in the root is {what}: left as it is, --etc {word} not done"));
}
