//! A user namespace made for another user, who owns it (user_namespaces(7)).

use std::fmt;

use anyhow::{Context, Error, Result};
use chain::account::{Sort, id};
use chain::capabilities::{CapabilitySet, are_effective};
use chain::hinted;
use nix::errno::Errno;
use nix::unistd::{Gid, Uid, getegid, geteuid, setgroups, setresgid, setresuid};

use crate::args;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    pub user: u32,
    pub group: u32,
}

impl Owner {
    pub fn own() -> Owner {
        Owner { user: geteuid().as_raw(), group: getegid().as_raw() }
    }

    pub fn plan(named: &args::Owner) -> Result<Owner> {
        let user = id(Sort::User, &named.user).context("--owner")?;
        let group = id(Sort::Group, &named.group).context("--owner")?;
        Ok(Owner { user, group })
    }

    /// Becomes this user for good.
    pub fn assume(self) -> Result<()> {
        let (user, group) = (Uid::from_raw(self.user), Gid::from_raw(self.group));
        setgroups(&[]).and_then(|()| setresgid(group, group, group)).and_then(|()| setresuid(user, user, user)).map_err(
            |errno| {
                let hint = match errno {
                    //: --owner | setgroups: EPERM | setgroups is denied in this user namespace | there is CAP_SETGID |
                    //: isolate/owner::a_user_who_may_not_become_the_owner_is_told_why
                    Errno::EPERM if are_effective(CapabilitySet::SETUID | CapabilitySet::SETGID) => {
                        Some("setgroups is denied in this user namespace: make it with --map-auto or --map-groups")
                    }
                    //: --owner | setgroups, setresgid, setresuid: EPERM | no CAP_SETUID, or no CAP_SETGID | capget |
                    //: isolate/owner::a_user_who_may_not_become_the_owner_is_told_why
                    Errno::EPERM => Some("only root makes a user namespace for another user"),
                    //: --owner | setresgid, setresuid: EINVAL | this user namespace does not map the id | the only cause |
                    //: isolate/owner::a_user_who_may_not_become_the_owner_is_told_why
                    Errno::EINVAL => {
                        Some("this user namespace does not map that user or group: --map-auto, --map-users")
                    }
                    _ => None,
                };
                hinted(Error::new(errno).context(format!("--owner {self}")), hint.map(Into::into))
            },
        )
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}:{}", self.user, self.group)
    }
}
