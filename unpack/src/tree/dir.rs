//! A directory that is open for writing, and what it becomes when it is closed.

use std::cell::{Cell, RefCell};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use anyhow::{Context, Result};
use rustix::fs::{Mode, Timespec, Timestamps};
use rustix::io::Errno;

use super::meta::{ACL_DEFAULT, Final, Policy, clear_xattrs};
use super::path::shown;
use super::place::Place;

pub struct Dir {
    fd: Arc<OwnedFd>,
    place: Place,
    /// From the root, without links.
    path: Vec<u8>,
    last: RefCell<Last>,
    /// Something was created or removed in it, so its times are wrong.
    touched: Cell<bool>,
    /// Of one that we made: since when names are remembered, all of its own among them.
    known: Option<u64>,
    standing: Cell<Standing>,
}

/// What the record of a layer says of an open directory, remembered with it.
#[derive(Clone, Copy, Default)]
pub struct Standing {
    pub(super) layer: u32,
    pub(super) own: bool,
    pub(super) live: bool,
}

/// What a directory becomes when it is closed.
enum Last {
    /// As it was found: times, and mode and default ACL if they had to be changed for now.
    AsFound { times: Timestamps, mode: Option<u32>, acl: Option<Vec<u8>> },
    /// As an entry has it.
    Entry { last: Final, fresh: bool },
}

impl Dir {
    /// A new one, which becomes what `last` says.
    pub fn made(fd: OwnedFd, place: Place, path: &[u8], last: Final, known: u64) -> Dir {
        Dir::new(fd, place, path, Last::Entry { last, fresh: true }, Some(known))
    }

    /// One that an earlier entry or layer finished.
    pub fn found(fd: OwnedFd, place: Place, path: &[u8]) -> rustix::io::Result<Dir> {
        let last = as_found(&fd)?;
        Ok(Dir::new(fd, place, path, last, None))
    }

    fn new(fd: OwnedFd, place: Place, path: &[u8], last: Last, known: Option<u64>) -> Dir {
        Dir {
            fd: Arc::new(fd),
            place,
            path: path.to_owned(),
            last: RefCell::new(last),
            touched: Cell::new(false),
            known,
            standing: Cell::default(),
        }
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// For the thread that makes a file in it later.
    pub fn share(&self) -> Arc<OwnedFd> {
        self.fd.clone()
    }

    pub fn all_known_since(&self) -> Option<u64> {
        self.known
    }

    pub fn place(&self) -> Place {
        self.place
    }

    pub fn path(&self) -> &[u8] {
        &self.path
    }

    pub fn standing(&self) -> Standing {
        self.standing.get()
    }

    pub fn set_standing(&self, standing: Standing) {
        self.standing.set(standing);
    }

    pub fn touch(&self) {
        self.touched.set(true);
    }

    /// An entry for a directory that is open already stands for all that it was.
    pub fn becomes(&self, last: Final) {
        let fresh = matches!(*self.last.borrow(), Last::Entry { fresh: true, .. });
        *self.last.borrow_mut() = Last::Entry { last, fresh };
    }

    pub fn close(&self, policy: &Policy) -> Result<()> {
        match &*self.last.borrow() {
            Last::AsFound { times, mode, acl } => {
                let what = || format!("{}: put its times and mode back", shown(&self.path));
                if let Some(mode) = mode {
                    rustix::fs::fchmod(self.fd(), Mode::from_raw_mode(*mode)).with_context(what)?;
                }
                if let Some(acl) = acl {
                    rustix::fs::fsetxattr(self.fd(), ACL_DEFAULT, acl, rustix::fs::XattrFlags::empty())
                        .with_context(what)?;
                }
                if self.touched.get() {
                    rustix::fs::futimens(self.fd(), times).with_context(what)?;
                }
                Ok(())
            }
            Last::Entry { last, fresh } => {
                if !fresh {
                    clear_xattrs(self.fd()).with_context(|| shown(&self.path))?;
                }
                policy.set_by_fd(self.fd(), last, fresh.then_some(0o700), &self.path)
            }
        }
    }
}

/// Opens a directory that an earlier entry or layer finished for writing, and notes how it was.
fn as_found(fd: &OwnedFd) -> rustix::io::Result<Last> {
    let stat = rustix::fs::fstat(fd)?;
    let time = |seconds, nanoseconds: u64| Timespec { tv_sec: seconds, tv_nsec: nanoseconds as _ };
    let times = Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    };
    let acl = match rustix::fs::fgetxattr_query(fd, ACL_DEFAULT) {
        Ok(length) => {
            let mut value = vec![0; length];
            rustix::fs::fgetxattr(fd, ACL_DEFAULT, &mut value[..])?;
            rustix::fs::fremovexattr(fd, ACL_DEFAULT)?;
            Some(value)
        }
        Err(Errno::NODATA | Errno::OPNOTSUPP) => None,
        Err(error) => return Err(error),
    };
    let mut mode = None;
    if stat.st_mode & 0o2000 != 0 {
        mode = Some(stat.st_mode & 0o7777);
        rustix::fs::fchmod(fd, Mode::RWXU)?;
    }
    Ok(Last::AsFound { times, mode, acl })
}
