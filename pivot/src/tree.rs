//! The new root while mounts are made in it, and where in it a missing place for one may be made.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use chain::attach::{self, READ_ONLY};
use chain::{WithHint, mounts};
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{fstat, stat};
use nix::sys::statvfs::{FsFlags, fstatvfs};
use nix::unistd::{AccessFlags, faccessat};

use crate::cover;
use crate::receives::Receives;

pub struct Tree {
    root: OwnedFd,
    /// ROOT is still writable but will not stay so: its places are made in memory.
    in_memory: bool,
    /// Filesystems that vanish with the container, by device number.
    own: Vec<u64>,
    /// Covers of read-only directories, to become read-only themselves.
    unsealed: Vec<OwnedFd>,
    receives: Receives,
}

/// Who wants something made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// An option that does nothing else.
    Itself,
    /// A mount that needs a place.
    AsPlace,
}

impl AsFd for Tree {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}

impl Tree {
    pub fn new(root: OwnedFd, in_memory: bool, receives: Receives) -> Tree {
        Tree { root, in_memory, own: Vec::new(), unsealed: Vec::new(), receives }
    }

    pub fn receives(&self) -> Receives {
        self.receives
    }

    pub fn root(&self) -> &OwnedFd {
        &self.root
    }

    pub fn owns(&mut self, mounted: &OwnedFd) -> Result<()> {
        self.own.push(fstat(mounted)?.st_dev);
        Ok(())
    }

    /// Sets attributes on all that is mounted so far.
    pub fn set(&mut self, attributes: u64) -> Result<()> {
        self.in_memory = false;
        attach::set(&self.root, attributes)
    }

    /// No place is made after this.
    pub fn seal(&mut self) -> Result<()> {
        self.unsealed.drain(..).try_for_each(|cover| attach::set_alone(&cover, READ_ONLY))
    }

    /// Makes something in the directory `here`, which `parent` is open on, or in memory over it where the caller cannot
    /// write. A directory of the host's that COMMAND could write to is never covered: what it writes would be lost.
    pub fn make_in(
        &mut self,
        here: &Path,
        parent: &OwnedFd,
        wanted: Wanted,
        make: impl Fn(BorrowedFd) -> Result<(), Errno>,
    ) -> Result<()> {
        let is_own = self.own.contains(&fstat(parent)?.st_dev);
        if self.in_memory && !is_own {
            return Ok(make(self.cover(here, parent)?.as_fd())?);
        }
        if !is_own && wanted == Wanted::AsPlace && !self.is_callers(parent)? && is_writable(parent) {
            return Err(anyhow!("the directory is the host's, where no place for a mount is made")).hint(
                "make it there beforehand, as --dir PATH does; --ephemeral, --overlay and --read-only make a place in memory",
            );
        }
        match make(parent.as_fd()) {
            Err(Errno::EEXIST) => Ok(()),
            // EOVERFLOW: in an overlay, where ROOT's directory has an owner whom the user namespace does not know.
            Err(Errno::EACCES | Errno::EPERM | Errno::EOVERFLOW | Errno::EROFS) if here != Path::new("/") => {
                Ok(make(self.cover(here, parent)?.as_fd())?)
            }
            made => Ok(made?),
        }
    }

    /// Whether the directory is ROOT's own and ROOT is not the caller's `/`.
    fn is_callers(&self, directory: &OwnedFd) -> Result<bool> {
        let identity = |stat: nix::sys::stat::FileStat| (stat.st_dev, stat.st_ino);
        Ok(mounts::id_of(directory)? == mounts::id_of(&self.root)?
            && identity(fstat(&self.root)?) != identity(stat("/")?))
    }

    fn cover(&mut self, here: &Path, parent: &OwnedFd) -> Result<OwnedFd> {
        let memory = cover::cover(self.root.as_fd(), here, parent, self.receives)
            .with_context(|| format!("{} in the root", here.display()))?;
        self.owns(&memory)?;
        if fstatvfs(parent)?.flags().contains(FsFlags::ST_RDONLY) {
            self.unsealed.push(memory.try_clone()?);
        }
        if here == Path::new("/") {
            self.root = memory.try_clone()?;
        }
        Ok(memory)
    }
}

fn is_writable(directory: &OwnedFd) -> bool {
    faccessat(directory, ".", AccessFlags::W_OK, AtFlags::AT_EACCESS).is_ok()
}
