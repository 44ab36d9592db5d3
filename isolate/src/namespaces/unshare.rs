//! Enters new namespaces: in this process, or in a child that it waits for.

use std::fmt;
use std::fs::File;

use anyhow::{Context, Result};
use chain::shell::quote;
use chain::{Carry, MountRemap, WithHint};
use nix::errno::Errno;
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sched::{setns, unshare};

use crate::args::Propagation;
use crate::ids::Maps;
use crate::ids::owner::Owner;
use crate::namespaces::why_failed;
use crate::namespaces::{Kind, New, flags};
use crate::signals;

#[derive(Clone, Debug)]
pub struct Unshare {
    pub new: Vec<New>,
    pub maps: Maps,
    /// The options of unshare(1) that stand for the maps.
    pub maps_shown: Vec<String>,
    pub propagation: Propagation,
    /// The offsets of the monotonic and the boot-time clock.
    pub clocks: [(&'static str, Option<i64>); 2],
    pub keep_caps: bool,
    /// Who makes the user namespace, if not the caller.
    pub owner: Option<Owner>,
    pub wait: Option<Wait>,
}

/// A child enters the namespaces, and this process waits for it.
#[derive(Clone, Debug)]
pub struct Wait {
    /// What the child gets when this process dies.
    pub kill: i32,
    pub status: Option<i32>,
    pub pasta: bool,
    /// The child will be isolate's own reaper.
    pub init: bool,
    /// This process leads a session of COMMAND's own.
    pub session: bool,
}

impl Unshare {
    pub fn has(&self, kind: Kind) -> bool {
        self.new.iter().any(|new| new.kind == kind)
    }

    pub fn kinds(&self) -> Vec<Kind> {
        self.new.iter().map(|new| new.kind).collect()
    }

    /// In this process.
    pub fn perform(&self, carry: &mut Carry) -> Result<()> {
        let marked = self.marked(carry);
        unshare(flags(&self.new)).map_err(|errno| why_failed::explain(errno, &self.kinds()))?;
        self.maps.write(None)?;
        self.after_unshare(carry, marked)
    }

    /// What the carry says of the mount namespace that is about to be copied.
    pub fn marked(&self, carry: &Carry) -> Option<MountRemap> {
        self.has(Kind::Mount).then(|| MountRemap::of(carry)).flatten()
    }

    /// In the new namespaces, ids mapped.
    pub fn after_unshare(&self, carry: &mut Carry, marked: Option<MountRemap>) -> Result<()> {
        if self.has(Kind::User) || self.has(Kind::Mount) {
            // The chain's earlier mount namespace is left behind, or now belongs to another user namespace.
            carry.mount_namespace = None;
        }
        if self.has(Kind::Mount) {
            let flags = match self.propagation {
                Propagation::Private => Some(MsFlags::MS_PRIVATE),
                Propagation::Slave => Some(MsFlags::MS_SLAVE),
                Propagation::Shared => Some(MsFlags::MS_SHARED),
                Propagation::Unchanged => None,
            };
            if let Some(flags) = flags {
                match mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | flags, None::<&str>) {
                    Err(Errno::EINVAL) => Err(Errno::EINVAL)
                        .context("propagation of every mount: / is not a mount point, so this is a chroot")
                        //: propagation of every mount | mount MS_PRIVATE and the like: EINVAL | / is not a mount point, as in
                        //: a chroot | the only cause |
                        //: isolate/refusals::a_chroot_that_hides_why_a_new_proc_is_refused_is_named
                        .hint("make the chroot a mount first, mount --rbind DIR DIR, or add --propagation unchanged")?,
                    result => result.context("propagation of every mount")?,
                }
            }
            carry.moved(marked, self.propagation == Propagation::Private);
        }
        if self.has(Kind::Time) {
            self.enter_time()?;
        }
        Ok(())
    }

    fn enter_time(&self) -> Result<()> {
        let path = "/proc/self/timens_offsets";
        for (clock, offset) in self.clocks {
            if let Some(offset) = offset {
                std::fs::write(path, format!("{clock} {offset} 0\n"))
                    .with_context(|| format!("{path}: {clock} {offset}"))?;
            }
        }
        // unshare(2) puts only children into the new one (time_namespaces(7)).
        let path = "/proc/self/ns/time_for_children";
        let namespace = File::open(path).context(path)?;
        setns(namespace, Kind::Time.flag()).context("enter the new time namespace")
    }
}

impl fmt::Display for Unshare {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        if self.wait.as_ref().is_some_and(|wait| wait.pasta) {
            f.write_str(
                "# then, from outside: pasta --config-net PID (the child's; as root --runas 0 --netns FILE)\n",
            )?;
        }
        f.write_str("unshare")?;
        for new in &self.new {
            match &new.file {
                Some(file) => write!(f, " --{}={}", new.kind, quote(file))?,
                None => write!(f, " --{}", new.kind)?,
            }
        }
        if let Some(owner) = self.owner {
            write!(f, " --owner={owner}")?;
        }
        for option in &self.maps_shown {
            write!(f, " {option}")?;
        }
        if self.has(Kind::Mount) {
            match self.propagation {
                Propagation::Private => {}
                Propagation::Slave => f.write_str(" --propagation slave")?,
                Propagation::Shared => f.write_str(" --propagation shared")?,
                Propagation::Unchanged => f.write_str(" --propagation unchanged")?,
            }
        }
        for (clock, offset) in self.clocks {
            if let Some(offset) = offset {
                write!(f, " --{clock}={offset}")?;
            }
        }
        if self.keep_caps {
            f.write_str(" --keep-caps")?;
        }
        match &self.wait {
            Some(Wait { kill: libc::SIGKILL, .. }) => f.write_str(" --fork --kill-child"),
            Some(Wait { kill, .. }) => write!(f, " --fork --kill-child={}", signals::name(*kill)),
            // Only a child is in the new time namespace.
            None if self.has(Kind::Time) => f.write_str(" --fork"),
            None => Ok(()),
        }
    }
}
