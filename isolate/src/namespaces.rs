//! The eight kinds of namespace, by all their names.

mod environment;
pub mod join;
pub mod loopback;
pub mod pasta;
pub mod persist;
pub mod status_file;
pub mod unshare;
pub mod why_failed;

use std::fmt;
use std::path::{Path, PathBuf};

use nix::sched::CloneFlags;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    User,
    Mount,
    Uts,
    Ipc,
    Net,
    Pid,
    Cgroup,
    Time,
}

/// CLONE_NEWTIME, which nix lacks (namespaces(7)).
const NEWTIME: CloneFlags = CloneFlags::from_bits_retain(0x80);

impl Kind {
    pub const ALL: [Kind; 8] =
        [Kind::User, Kind::Mount, Kind::Uts, Kind::Ipc, Kind::Net, Kind::Pid, Kind::Cgroup, Kind::Time];

    pub fn flag(self) -> CloneFlags {
        match self {
            Kind::User => CloneFlags::CLONE_NEWUSER,
            Kind::Mount => CloneFlags::CLONE_NEWNS,
            Kind::Uts => CloneFlags::CLONE_NEWUTS,
            Kind::Ipc => CloneFlags::CLONE_NEWIPC,
            Kind::Net => CloneFlags::CLONE_NEWNET,
            Kind::Pid => CloneFlags::CLONE_NEWPID,
            Kind::Cgroup => CloneFlags::CLONE_NEWCGROUP,
            Kind::Time => NEWTIME,
        }
    }

    /// The option's name, here and in unshare(1).
    pub fn option(self) -> &'static str {
        match self {
            Kind::Mount => "mount",
            kind => kind.file(),
        }
    }

    /// The name in /proc/PID/ns.
    pub fn file(self) -> &'static str {
        match self {
            Kind::User => "user",
            Kind::Mount => "mnt",
            Kind::Uts => "uts",
            Kind::Ipc => "ipc",
            Kind::Net => "net",
            Kind::Pid => "pid",
            Kind::Cgroup => "cgroup",
            Kind::Time => "time",
        }
    }

    /// The release that brought it, and what the kernel must be built with (namespaces(7)).
    pub fn since(self) -> (&'static str, &'static str) {
        match self {
            Kind::User => ("3.8", "CONFIG_USER_NS"),
            Kind::Mount => ("2.4.19", ""),
            Kind::Uts => ("2.6.19", "CONFIG_UTS_NS"),
            Kind::Ipc => ("2.6.19", "CONFIG_IPC_NS"),
            Kind::Net => ("2.6.24", "CONFIG_NET_NS"),
            Kind::Pid => ("2.6.24", "CONFIG_PID_NS"),
            Kind::Cgroup => ("4.6", "CONFIG_CGROUPS"),
            Kind::Time => ("5.6", "CONFIG_TIME_NS"),
        }
    }

    /// Whether this kernel has it, as far as /proc can tell.
    pub fn is_missing(self) -> bool {
        Path::new("/proc/self/ns").is_dir() && !Path::new("/proc/self/ns").join(self.file()).exists()
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.option())
    }
}

/// A namespace to make, and the file to keep it in.
#[derive(Clone, Debug)]
pub struct New {
    pub kind: Kind,
    pub file: Option<PathBuf>,
}

pub fn flags<'a>(new: impl IntoIterator<Item = &'a New>) -> CloneFlags {
    new.into_iter().fold(CloneFlags::empty(), |flags, new| flags | new.kind.flag())
}
