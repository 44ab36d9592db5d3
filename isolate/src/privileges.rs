//! What the command may do: its ids, capabilities and system calls, changed in the order in which
//! the kernel still allows the next change.

mod builtin;
pub mod capability;
mod default;
pub mod profile;
pub mod seccomp;
mod shown;
pub mod syscall;

use std::fmt;
use std::os::fd::BorrowedFd;

use anyhow::{Context, Result, anyhow};
use chain::account::{Sort, id};
use chain::capabilities::{self, CapabilitySet, CapabilitySets};
use chain::{Tool, User, WithHint, id_map, warn};
use nix::errno::Errno;
use nix::sys::prctl::{set_keepcaps, set_no_new_privs};
use nix::unistd::{AccessFlags, Gid, Uid, access, geteuid, setgroups, setresgid, setresuid};

use crate::args::Args;
use crate::privileges::seccomp::Seccomp;

pub struct Privileges {
    user: Option<u32>,
    group: Option<u32>,
    /// The supplementary groups, if the group changes or some are asked for.
    groups: Vec<u32>,
    asks_for_groups: bool,
    keep: Option<CapabilitySet>,
    drop: CapabilitySet,
    add: CapabilitySet,
    keep_caps: bool,
    /// A link follows, and needs the capabilities that an exec by a user other than root takes away.
    lends: bool,
    /// The previous link lent the capabilities that are inheritable now.
    was_lent: bool,
    no_new_privs: bool,
    seccomp: Option<(String, Seccomp)>,
}

impl Privileges {
    /// `image` is the image's user; options override it.
    pub fn plan(args: &Args, image: Option<User>, lends: bool, was_lent: bool) -> Result<Option<Privileges>> {
        let seccomp = args
            .seccomp
            .as_ref()
            .map(|file| Ok::<_, anyhow::Error>((file.display().to_string(), Seccomp::read(file)?)));
        let user = args.setuid.as_ref().map(|name| id(Sort::User, name)).transpose().context("--setuid")?;
        let group = args.setgid.as_ref().map(|name| id(Sort::Group, name)).transpose().context("--setgid")?;
        let asked =
            args.groups.iter().map(|name| id(Sort::Group, name)).collect::<Result<Vec<_>>>().context("--groups")?;
        let privileges = Privileges {
            user: user.or(image.as_ref().map(|image| image.uid)),
            group: group.or(image.as_ref().map(|image| image.gid)),
            // Another user's groups are not this one's.
            groups: match image.filter(|_| asked.is_empty() && user.is_none() && group.is_none()) {
                Some(image) => image.groups,
                None => asked,
            },
            asks_for_groups: !args.groups.is_empty(),
            keep: match args.cap_keep.is_empty() {
                true => None,
                false => Some(capability::set(&args.cap_keep).context("--cap-keep")?),
            },
            drop: capability::set(&args.cap_drop).context("--cap-drop")?,
            add: capability::set(&args.cap_add).context("--cap-add")?,
            keep_caps: args.keep_caps,
            lends,
            was_lent,
            no_new_privs: args.no_new_privs,
            seccomp: seccomp.transpose()?,
        };
        Ok(privileges.is_any().then_some(privileges))
    }

    fn is_any(&self) -> bool {
        self.changes_ids()
            || self.changes_capabilities()
            || self.keep_caps
            || self.lends
            || self.no_new_privs
            || self.seccomp.is_some()
    }

    /// Whether this is about what COMMAND has, not about what the links need.
    pub fn decides(&self) -> bool {
        self.changes_ids() || self.changes_capabilities() || self.keep_caps
    }

    fn changes_ids(&self) -> bool {
        self.user.is_some() || self.group.is_some() || self.asks_for_groups
    }

    fn changes_capabilities(&self) -> bool {
        self.keep.is_some() || !self.drop.is_empty() || !self.add.is_empty()
    }

    /// All that COMMAND may ever have.
    fn bound(&self) -> CapabilitySet {
        let all = CapabilitySet::from_bits_retain(u64::MAX);
        (self.keep.unwrap_or(all) & !self.drop) | self.add
    }

    /// `parent` is the isolate with which this process must die: the kernel forgets it when ids change.
    pub fn perform(&self, parent: Option<BorrowedFd>) -> Result<()> {
        let mut had = capabilities::get().context("capabilities")?;
        if self.was_lent {
            had.inheritable = CapabilitySet::empty();
        }
        let bound = self.bound();
        self.limit_bounding_set(bound)?;
        self.become_other(had)?;
        let (permitted, ambient) = self.target(had, bound)?;
        if let Some(parent) = parent.filter(|_| self.changes_ids()) {
            chain::die_with_parent(parent)?;
        }
        if let (Some((_, seccomp)), false) = (&self.seccomp, self.no_new_privs) {
            // Without no_new_privs a filter takes CAP_SYS_ADMIN, so it goes before the capabilities.
            seccomp.load(bound)?;
        }
        if self.decides() || self.lends {
            let inheritable = if self.changes_capabilities() { ambient } else { had.inheritable | ambient };
            let sets = CapabilitySets { effective: permitted, permitted, inheritable };
            capabilities::set(sets).context("capset")?;
            capabilities::clear_ambient_set().context("ambient capabilities")?;
            for one in capability::each(ambient) {
                capabilities::add_to_ambient_set(one).context("ambient capabilities")?;
            }
        }
        if self.no_new_privs {
            set_no_new_privs().context("no_new_privs")?;
            if let Some((_, seccomp)) = &self.seccomp {
                seccomp.load(bound)?;
            }
        }
        if self.changes_capabilities() && is_root_of_the_host() && may_write_sysctls() {
            warn(
                Tool::Isolate,
                "root of the host needs no capability to write /proc/sys: this is no sandbox without mountclean --mask",
            );
        }
        Ok(())
    }

    fn limit_bounding_set(&self, bound: CapabilitySet) -> Result<()> {
        if !self.changes_capabilities() {
            return Ok(());
        }
        for one in capability::each(!bound) {
            if capabilities::is_in_bounding_set(one) == Ok(true) {
                capabilities::drop_from_bounding_set(one).context("bounding set").hint(
                    //: --cap-drop, --cap-keep | prctl PR_CAPBSET_DROP: EPERM | no CAP_SETPCAP | the only cause |
                    //: isolate/privileges::what_the_kernel_refuses_is_an_error
                    "dropping capabilities for good takes CAP_SETPCAP: root, or a user namespace (--user --map-root)",
                )?;
            }
        }
        Ok(())
    }

    fn become_other(&self, had: CapabilitySets) -> Result<()> {
        if self.group.is_some() || self.asks_for_groups {
            // After a pivot there may be no /proc to ask about setgroups; the capability alone is no refusal.
            let denied = had.effective.contains(CapabilitySet::SETGID);
            let groups: Vec<Gid> = self.groups.iter().copied().map(Gid::from_raw).collect();
            match (setgroups(&groups), groups.first()) {
                (Err(Errno::EPERM), None) if denied => {}
                (Err(Errno::EPERM), Some(_)) if denied && self.asks_for_groups => {
                    return Err(anyhow!("--groups: setgroups is denied in this user namespace"))
                        .hint("it is allowed where groups are mapped from outside: --map-auto or --map-groups");
                }
                (Err(Errno::EPERM), Some(_)) if denied => {
                    let refused =
                        Err(anyhow!("the image's user is in other groups, and setgroups is denied in this namespace"));
                    //: the image's user | setgroups: EPERM | /proc/PID/setgroups says deny, since the own group alone is
                    //: mapped | CAP_SETGID is there | pivot/image::where_the_images_user_cannot_be_had_it_says_why
                    return refused
                        .hint("--setgid GROUP gives it that one alone, --map-auto a namespace in which it may");
                }
                (Err(errno), Some(_)) => {
                    let first = self.groups.iter().copied().find(|&group| !id_map::is_mapped(Sort::Group, group));
                    return Err(unmapped(errno, "group", first.unwrap_or(self.groups[0])));
                }
                (Err(Errno::EPERM), None) => {
                    return Err(Errno::EPERM).context("leave the supplementary groups").hint(privilege("CAP_SETGID"));
                }
                (result, None) => result.context("leave the supplementary groups")?,
                (Ok(()), Some(_)) => {}
            }
        }
        if let Some(group) = self.group {
            let group = Gid::from_raw(group);
            setresgid(group, group, group).map_err(|errno| unmapped(errno, "group", group.as_raw()))?;
        }
        if let Some(user) = self.user {
            // The code below decides what to keep, not the kernel.
            set_keepcaps(true).context("PR_SET_KEEPCAPS")?;
            let user = Uid::from_raw(user);
            setresuid(user, user, user).map_err(|errno| unmapped(errno, "user", user.as_raw()))?;
            let sets = CapabilitySets { effective: had.permitted, ..had };
            capabilities::set(sets).context("capset")?;
        }
        Ok(())
    }

    /// The permitted set, which is also the effective one, and the part of it that outlives an exec by a user other than
    /// root.
    fn target(&self, had: CapabilitySets, bound: CapabilitySet) -> Result<(CapabilitySet, CapabilitySet)> {
        let here = had.permitted & bound;
        let lacking = self.add & !had.permitted;
        // ALL means all that are there.
        if self.add.bits() != u64::MAX && !lacking.is_empty() {
            return Err(anyhow!("--cap-add {}: it is not there to be kept", capability::names(lacking).join(",")))
                .hint("isolate can leave a capability, not give one: it takes root, or a user namespace");
        }
        if geteuid().is_root() {
            return Ok((here, CapabilitySet::empty()));
        }
        let kept = if self.keep_caps || self.lends { here } else { self.add & had.permitted };
        let ambient = kept & known();
        Ok((if self.user.is_some() { ambient } else { here }, ambient))
    }
}

/// The capabilities that the kernel knows.
fn known() -> CapabilitySet {
    let all = CapabilitySet::from_bits_retain(u64::MAX);
    capability::each(all)
        .filter(|&one| capabilities::is_in_bounding_set(one).is_ok())
        .fold(CapabilitySet::empty(), |a, b| a | b)
}

fn privilege(name: &str) -> String {
    //: become user ID, group ID; leave the supplementary groups | setresuid, setresgid, setgroups: EPERM | no CAP_SETUID,
    //: or no CAP_SETGID | capget, or the only cause | isolate/refusals_privileges::why_ids_cannot_be_set_is_told
    format!("this takes {name}: root, or a user namespace (--user --map-root)")
}

fn unmapped(errno: Errno, noun: &str, id: u32) -> anyhow::Error {
    let hint = match errno {
        //: become user ID, group ID | setresuid, setresgid, setgroups: EINVAL | the user namespace does not map the id |
        //: the only cause | isolate/refusals_privileges::why_ids_cannot_be_set_is_told
        Errno::EINVAL => format!("{id} is not mapped in this user namespace: --map-auto, --map-users, --map-groups"),
        Errno::EPERM => privilege(if noun == "user" { "CAP_SETUID" } else { "CAP_SETGID" }),
        _ => return anyhow::Error::new(errno).context(format!("become {noun} {id}")),
    };
    anyhow::Error::new(errno).context(format!("become {noun} {id}")).context(chain::Hint(hint))
}

fn is_root_of_the_host() -> bool {
    geteuid().is_root() && id_map::is_the_hosts()
}

fn may_write_sysctls() -> bool {
    access("/proc/sys/kernel/core_pattern", AccessFlags::W_OK).is_ok()
}

impl fmt::Display for Privileges {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        if let Some((name, seccomp)) = &self.seccomp {
            writeln!(f, "# and the seccomp filter {name}, which no program of util-linux compiles:")?;
            for line in seccomp.shown(self.bound()) {
                writeln!(f, "#   {line}")?;
            }
        }
        f.write_str("setpriv")?;
        if let Some(user) = self.user {
            write!(f, " --reuid={user}")?;
        }
        if let Some(group) = self.group {
            write!(f, " --regid={group}")?;
        }
        if self.group.is_some() || self.asks_for_groups {
            match self.groups.as_slice() {
                [] => f.write_str(" --clear-groups")?,
                groups => write!(f, " --groups={}", groups.iter().map(u32::to_string).collect::<Vec<_>>().join(","))?,
            }
        }
        if self.changes_capabilities() {
            let bound = self.bound();
            let list = |sign: &str, set| {
                capability::names(set).iter().map(|name| format!(",{sign}{name}")).collect::<String>()
            };
            let bounding = match capability::names(bound).len() > 20 {
                true => list("-", !bound),
                false => format!(",-all{}", list("+", bound)),
            };
            write!(f, " --bounding-set={}", bounding.trim_start_matches(','))?;
            let ambient = if self.add.bits() == u64::MAX { ",+all".into() } else { list("+", self.add) };
            write!(f, " --inh-caps=-all{ambient}")?;
            if self.user.is_some_and(|user| user != 0) && !self.add.is_empty() {
                write!(f, " --ambient-caps=-all{ambient}")?;
            }
        }
        if self.no_new_privs {
            f.write_str(" --no-new-privs")?;
        }
        Ok(())
    }
}
