//! Who will own the files.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use chain::WithHint;
use chain::account::Sort;
use chain::capabilities::{CapabilitySet, are_effective};
use chain::id_map::{self, Range};
use clap::ValueEnum;
use rustix::fs::{AtFlags, Gid, Mode};
use serde_json::{Value, json};

use crate::args::Owner;
use crate::ledger::{Change, Ledger};

#[derive(Debug)]
pub struct Owners {
    pub how: Owner,
    pub uid: u32,
    pub gid: u32,
    uids: Vec<Range>,
    gids: Vec<Range>,
    /// What is made gets its directory's group and not the caller's: a filesystem mounted `grpid` (mount(8)).
    groups_of_directories: AtomicBool,
}

/// An owner as the kernel can be given it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owned {
    pub uid: u32,
    pub gid: u32,
    pub kept_uid: bool,
    pub kept_gid: bool,
}

impl Owners {
    /// `how`, or by default what this process may do.
    pub fn new(how: Option<Owner>) -> Result<Owners> {
        let default = if are_effective(CapabilitySet::CHOWN) { Owner::Map } else { Owner::Squash };
        Ok(Owners {
            how: how.unwrap_or(default),
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            uids: existing(Sort::User)?,
            gids: existing(Sort::Group)?,
            groups_of_directories: AtomicBool::new(false),
        })
    }

    /// What decides which owners files get on disk.
    pub fn described(&self) -> Value {
        let ranges = |ranges: &[Range]| ranges.iter().map(ToString::to_string).collect::<Vec<_>>();
        json!({
            "how": self.how.to_possible_value().map(|how| how.get_name().to_owned()),
            "uid": self.uid,
            "gid": self.gid,
            "uids": ranges(&self.uids),
            "gids": ranges(&self.gids),
        })
    }

    /// Finds out whose group a file gets on the filesystem of `root`.
    pub fn look_at(&self, root: BorrowedFd) -> Result<()> {
        let probe = "group";
        rustix::fs::mkdirat(root, probe, Mode::RWXU)?;
        let group = |path: &str| rustix::fs::statat(root, path, AtFlags::SYMLINK_NOFOLLOW).map(|stat| stat.st_gid);
        // A directory of another group tells; where there is none to give it, it is enough that its own is the caller's.
        let other = self.gids.iter().find_map(|range| {
            (range.inner..range.inner.saturating_add(range.count.min(2))).find(|&gid| gid != self.gid)
        });
        let given = other.filter(|&gid| {
            rustix::fs::chownat(root, probe, None, Some(Gid::from_raw(gid)), AtFlags::SYMLINK_NOFOLLOW).is_ok()
        });
        let of_directory = match given {
            Some(gid) => {
                let inner = "group/group";
                rustix::fs::mkdirat(root, inner, Mode::RWXU)?;
                let found = group(inner)? == gid;
                rustix::fs::unlinkat(root, inner, AtFlags::REMOVEDIR)?;
                found
            }
            None => group(probe)? != self.gid,
        };
        rustix::fs::unlinkat(root, probe, AtFlags::REMOVEDIR)?;
        self.groups_of_directories.store(of_directory, Ordering::Relaxed);
        Ok(())
    }

    pub fn of(&self, uid: u64, gid: u64, path: &[u8], ledger: &Ledger) -> Result<Owned> {
        let (mapped_uid, mapped_gid) = match self.how {
            Owner::Squash => (None, None),
            Owner::Keep | Owner::Map => (mapped(&self.uids, uid), mapped(&self.gids, gid)),
        };
        if self.how == Owner::Keep && (mapped_uid.is_none() || mapped_gid.is_none()) {
            let error: Result<Owned> =
                Err(anyhow::anyhow!("{}: owner {uid}:{gid} is not mapped here", super::shown(path)));
            return error
                .hint("--owner map gives what is not mapped to the caller; isolate --user --map-auto maps more");
        }
        let owned = Owned {
            uid: mapped_uid.unwrap_or(self.uid),
            gid: mapped_gid.unwrap_or(self.gid),
            kept_uid: mapped_uid.is_some() || uid == u64::from(self.uid),
            kept_gid: mapped_gid.is_some() || gid == u64::from(self.gid),
        };
        if !owned.kept_uid || !owned.kept_gid {
            ledger.note(Change::Owner, path);
        }
        Ok(owned)
    }

    /// Whether what the caller makes has this owner from the start.
    pub fn comes_with(&self, owned: Owned) -> bool {
        (owned.uid, owned.gid) == (self.uid, self.gid) && !self.groups_of_directories.load(Ordering::Relaxed)
    }
}

fn mapped(map: &[Range], id: u64) -> Option<u32> {
    let id = u32::try_from(id).ok().filter(|&id| id != u32::MAX)?;
    id_map::contains(map, id).then_some(id)
}

/// The ids that exist inside this user namespace (user_namespaces(7)).
fn existing(sort: Sort) -> Result<Vec<Range>> {
    match id_map::read(sort) {
        // Without /proc: as in the first namespace; chown says what it cannot do.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Ok(vec![Range { inner: 0, outer: 0, count: u32::MAX }])
        }
        read => read.context(id_map::path(sort)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owners(how: Owner) -> Owners {
        Owners {
            how,
            uid: 7,
            gid: 8,
            uids: id_map::parse("0 0 10\n100 100 5").unwrap(),
            gids: id_map::parse("0 0 4294967295").unwrap(),
            groups_of_directories: AtomicBool::new(false),
        }
    }

    #[test]
    fn map_keeps_what_is_mapped_and_squashes_the_rest() {
        let ledger = Ledger::default();
        let owners = owners(Owner::Map);
        let at = |uid, gid| owners.of(uid, gid, b"f", &ledger).unwrap();
        assert_eq!(at(104, 3), Owned { uid: 104, gid: 3, kept_uid: true, kept_gid: true });
        assert_eq!(at(105, 3), Owned { uid: 7, gid: 3, kept_uid: false, kept_gid: true });
        assert_eq!(at(u64::MAX, 1 << 32), Owned { uid: 7, gid: 8, kept_uid: false, kept_gid: false });
        assert_eq!(ledger.number(Change::Owner), 2);
    }

    #[test]
    fn keep_refuses_what_is_not_mapped() {
        assert!(owners(Owner::Keep).of(50, 0, b"f", &Ledger::default()).is_err());
    }

    #[test]
    fn what_is_the_callers_anyway_is_no_change() {
        let ledger = Ledger::default();
        owners(Owner::Squash).of(7, 8, b"f", &ledger).unwrap();
        assert_eq!(ledger.number(Change::Owner), 0);
    }
}
