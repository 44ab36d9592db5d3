//! Finds mounts again in a copy of their namespace, where each has another id at the same place.

use std::collections::HashMap;
use std::path::Path;

use crate::mounts::{self, Mount};
use crate::{Carry, HostTree, in_own_mount_namespace, mount_namespace_id};

/// What a carry says of a mount namespace that is about to be copied.
#[derive(Debug)]
pub struct MountRemap {
    host_tree: Option<HostTree>,
    table: Vec<Mount>,
    mounts: Vec<u64>,
}

impl MountRemap {
    /// None if the carry is about another namespace than ours.
    pub fn of(carry: &Carry) -> Option<MountRemap> {
        if !in_own_mount_namespace(carry) {
            return None;
        }
        // Without a table none is found again, and then mountclean takes none of them for one that was asked for.
        let table = if carry.mounts.is_empty() { Vec::new() } else { mounts::table().unwrap_or_default() };
        Some(MountRemap { host_tree: carry.host_tree, table, mounts: carry.mounts.clone() })
    }
}

impl Carry {
    /// In another mount namespace than before: a copy of the one that was marked, where it was one.
    pub fn moved(&mut self, marked: Option<MountRemap>, private: bool) {
        self.mount_namespace = mount_namespace_id().filter(|_| private);
        self.host_tree = marked.as_ref().and_then(|marked| marked.host_tree);
        self.mounts = match marked {
            Some(marked) if !marked.mounts.is_empty() => {
                again(&marked.mounts, &marked.table, &mounts::table().unwrap_or_default())
            }
            _ => Vec::new(),
        };
    }
}

/// The ids in `copy` of the mounts with these ids in `table`, except those that cannot be told apart.
fn again(ids: &[u64], table: &[Mount], copy: &[Mount]) -> Vec<u64> {
    let mut by_trail = HashMap::<_, Option<u64>>::new();
    for (id, trail) in trails(copy) {
        by_trail.entry(trail).and_modify(|two| *two = None).or_insert(Some(id));
    }
    let trails: HashMap<u64, Vec<&Path>> = trails(table).into_iter().collect();
    ids.iter().filter_map(|id| *by_trail.get(trails.get(id)?)?).collect()
}

/// The mount points of a mount and of all mounts above it: its own point alone does not tell stacked mounts apart.
fn trails(table: &[Mount]) -> Vec<(u64, Vec<&Path>)> {
    let by_id: HashMap<u64, &Mount> = table.iter().map(|mount| (mount.id, mount)).collect();
    let trail = |mount: &Mount| {
        let mut points = Vec::new();
        let mut here = by_id.get(&mount.id).copied();
        // A table that changed while it was read may contain a circle.
        while let Some(mount) = here.filter(|_| points.len() <= table.len()) {
            points.push(mount.point.as_path());
            here = by_id.get(&mount.parent).copied().filter(|parent| parent.id != mount.id);
        }
        points
    };
    table.iter().map(|mount| (mount.id, trail(mount))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(id: u64, parent: u64, point: &str) -> Mount {
        Mount { id, parent, point: point.into() }
    }

    #[test]
    fn each_is_found_where_it_was() {
        let table = [mount(1, 0, "/"), mount(2, 1, "/a"), mount(3, 2, "/a"), mount(4, 3, "/a/b"), mount(5, 1, "/c")];
        // Stacked ones, in another order, with one that is new.
        let copy = [
            mount(16, 11, "/d"),
            mount(15, 11, "/c"),
            mount(14, 13, "/a/b"),
            mount(13, 12, "/a"),
            mount(12, 11, "/a"),
            mount(11, 0, "/"),
        ];
        assert_eq!(again(&[1, 2, 3, 4, 5, 99], &table, &copy), [11, 12, 13, 14, 15]);
        assert!(again(&[3], &table, &copy[4..]).is_empty());
    }

    #[test]
    fn one_of_two_at_the_same_place_is_not_guessed() {
        let table = [mount(1, 0, "/"), mount(2, 1, "/a")];
        assert_eq!(again(&[1, 2], &table, &[mount(11, 0, "/"), mount(12, 11, "/a"), mount(13, 11, "/a")]), [11]);
        let circle = [mount(1, 2, "/a"), mount(2, 1, "/a")];
        assert!(again(&[1], &circle, &circle).len() <= 1);
    }
}
