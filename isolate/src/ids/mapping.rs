//! From options to the maps of a new user namespace.

use anyhow::{Context, Result, anyhow};
use chain::WithHint;
use chain::account::{Sort, id};
use chain::id_map::{self, Range};

use crate::args::{Args, Mapping};
use crate::ids::owner::Owner;
use crate::ids::{Maps, subordinate};

pub fn is_wanted(args: &Args) -> bool {
    args.map_root
        || args.map_current
        || args.map_auto
        || args.map_subids
        || args.map_user.is_some()
        || args.map_group.is_some()
        || !args.map_users.is_empty()
        || !args.map_groups.is_empty()
        || args.owner.is_some()
}

/// The maps for one who is `own` outside, and the options of unshare(1) that stand for them.
pub fn of(args: &Args, own: Owner) -> Result<(Maps, Vec<String>)> {
    let auto_alone = args.map_auto
        && args.map_user.is_none()
        && args.map_group.is_none()
        && !args.map_current
        && !args.map_subids
        && args.map_users.is_empty()
        && args.map_groups.is_empty();
    let single = |sort, asked: &Option<std::ffi::OsString>, own| {
        Ok::<_, anyhow::Error>(match asked {
            Some(name) => Some(id(sort, name)?),
            None if args.map_root || auto_alone => Some(0),
            None if args.map_current => Some(own),
            None => None,
        })
    };
    let user = single(Sort::User, &args.map_user, own.user)?;
    let group = single(Sort::Group, &args.map_group, own.group)?;
    let asked = |own: &[Mapping]| -> Vec<Mapping> {
        let whole = [(args.map_auto, Mapping::Auto), (args.map_subids, Mapping::Subids)];
        whole.into_iter().filter(|(on, _)| *on).map(|(_, mapping)| mapping).chain(own.iter().cloned()).collect()
    };
    let users = map(Sort::User, own.user, &asked(&args.map_users), user.map(|inner| (inner, own.user)))?;
    let groups = map(Sort::Group, own.user, &asked(&args.map_groups), group.map(|inner| (inner, own.group)))?;
    let only_own = matches!(groups[..], [Range { count: 1, outer, .. }] if outer == own.group);
    if only_own && args.setgroups == Some(true) {
        return Err(anyhow!("--setgroups allow: the kernel allows it only with groups mapped from outside"))
            .hint("add --map-auto or --map-groups");
    }
    // Without privilege outside, a group map may be written only once setgroups is denied.
    let setgroups = if only_own { Some(false) } else { args.setgroups };
    let shown = shown(args, auto_alone, (user, group), (&users, &groups));
    Ok((Maps { users, groups, setgroups }, shown))
}

/// `user` is whom the subordinate ids are granted to.
fn map(sort: Sort, user: u32, asked: &[Mapping], single: Option<(u32, u32)>) -> Result<Vec<Range>> {
    let mut ranges = Vec::new();
    for mapping in asked {
        match *mapping {
            Mapping::Range { inner, outer, count } => ranges.push(Range { inner, outer, count }),
            Mapping::Auto => {
                ranges.extend(subordinate::in_a_row(&subordinate::of(sort, user)?, single.map(|(inner, _)| inner)));
            }
            Mapping::Subids => {
                let own = subordinate::of(sort, user)?;
                ranges.extend(own.into_iter().map(|(id, count)| Range { inner: id, outer: id, count }));
            }
            Mapping::All => ranges.extend(mapped_here(sort)?),
        }
    }
    let ranges = match single {
        Some((inner, outer)) => with_single(&ranges, inner, outer),
        None => ranges,
    };
    let granted = asked.iter().any(|mapping| matches!(mapping, Mapping::Auto | Mapping::Subids));
    Ok(if granted { subordinate::within_limit(sort, ranges) } else { ranges })
}

/// Makes room for one id in ranges that contain it: as in unshare(1), the ids behind it move up and the last is lost.
pub fn with_single(ranges: &[Range], inner: u32, outer: u32) -> Vec<Range> {
    let mut all = vec![Range { inner, outer, count: 1 }];
    for range in ranges {
        let mut insides = around(range.inner, range.count, inner).into_iter();
        let mut outsides = around(range.outer, range.count, outer).into_iter();
        let (mut inside, mut outside) = (insides.next(), outsides.next());
        while let (Some((from, have)), Some((to, want))) = (inside, outside) {
            let count = have.min(want);
            if count > 0 {
                all.push(Range { inner: from, outer: to, count });
            }
            inside = if have > count { Some((from + count, have - count)) } else { insides.next() };
            outside = if want > count { Some((to + count, want - count)) } else { outsides.next() };
        }
    }
    all
}

/// A range without one of its ids: first id and count of each part.
fn around(first: u32, count: u32, hole: u32) -> Vec<(u32, u32)> {
    match hole.checked_sub(first) {
        Some(before) if before < count => {
            let after = count - before - 1;
            [(first, before), (hole.saturating_add(1), after)].into_iter().filter(|part| part.1 > 0).collect()
        }
        _ => vec![(first, count)],
    }
}

/// Maps every id of our user namespace to itself.
fn mapped_here(sort: Sort) -> Result<Vec<Range>> {
    let map = id_map::read(sort).context(id_map::path(sort))?;
    Ok(map.into_iter().map(|range| Range { outer: range.inner, ..range }).collect())
}

/// The options of unshare(1). Each range by its numbers: that program cuts those of --map-auto.
fn shown(
    args: &Args,
    auto_alone: bool,
    (user, group): (Option<u32>, Option<u32>),
    (users, groups): (&[Range], &[Range]),
) -> Vec<String> {
    let mut shown = Vec::new();
    if args.map_root || auto_alone {
        shown.push("--map-root-user".into());
    } else if args.map_current {
        shown.push("--map-current-user".into());
    } else {
        shown.extend(user.map(|user| format!("--map-user={user}")));
        shown.extend(group.map(|group| format!("--map-group={group}")));
    }
    for (option, single, ranges) in [("--map-users", user, users), ("--map-groups", group, groups)] {
        // Every unshare(1) with this option takes this form.
        let ranges = ranges.iter().skip(usize::from(single.is_some()));
        shown.extend(ranges.map(|Range { inner, outer, count }| format!("{option}={outer},{inner},{count}")));
    }
    if let Some(allow) = args.setgroups {
        shown.push(format!("--setgroups={}", if allow { "allow" } else { "deny" }));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_id_in_a_range_moves_what_follows_it() {
        let range = [Range { inner: 0, outer: 100_000, count: 65536 }];
        let map = |inner| {
            let map = with_single(&range, inner, 1000);
            map.iter().map(Range::to_string).collect::<Vec<_>>().join("; ")
        };
        // What unshare(1) of util-linux 2.38 makes of --map-auto with --map-user=0, 5 and 70000.
        assert_eq!(map(0), "0 1000 1; 1 100000 65535");
        assert_eq!(map(5), "5 1000 1; 0 100000 5; 6 100005 65530");
        assert_eq!(map(70000), "70000 1000 1; 0 100000 65536");
    }

    #[test]
    fn an_id_that_is_in_the_range_outside_as_well_is_mapped_once() {
        let map = with_single(&[Range { inner: 0, outer: 0, count: 10 }], 0, 4);
        assert_eq!(map.iter().map(|r| r.count).sum::<u32>(), 10);
        assert!(map[1..].iter().all(|r| !(r.outer..r.outer + r.count).contains(&4)));
    }
}
