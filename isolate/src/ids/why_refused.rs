//! Why a map of ids was refused (user_namespaces(7)): one errno has several causes, told apart here.

use std::env::{split_paths, var_os};
use std::fs::read_to_string;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use chain::capabilities::{CapabilitySet, are_effective};
use chain::id_map::{self, MOST_RANGES, Range};
use chain::xattr;
use nix::errno::Errno;
use nix::sys::prctl::get_no_new_privs;
use nix::sys::statvfs::{FsFlags, statvfs};

/// The kernel refused to write it. `ours`: the map of our own namespace, right above the new one; None where this
/// process is in the new one already, and writes its own id alone.
pub fn by_the_kernel(errno: Errno, map: &[Range], file: &str, ours: Option<&str>) -> Option<String> {
    match errno {
        Errno::EINVAL => overlap(map).or_else(|| too_many(map)),
        Errno::EPERM => {
            let outside = ours.and_then(|path| {
                let table = id_map::parse(&read_to_string(path).ok()?)?;
                map.iter().find_map(|range| not_in_one(range, &table, path))
            });
            let maps_root = file == "uid_map" && map.iter().any(|range| range.outer == 0);
            outside.or_else(|| {
                (maps_root && (ours.is_none() || !are_effective(CapabilitySet::SETFCAP))).then(|| {
                    //: /proc/PID/uid_map | write: EPERM | user 0 of outside is mapped, which takes CAP_SETFCAP since Linux 5.12 |
                    //: capget | isolate/refusals::a_map_of_user_0_without_cap_setfcap_is_named
                    "to map user 0 takes CAP_SETFCAP since Linux 5.12: start isolate with it (--cap-add SETFCAP of the \
                     container around us), or map other users"
                        .into()
                })
            })
        }
        _ => None,
    }
}

fn too_many(map: &[Range]) -> Option<String> {
    let count = map.len();
    //: /proc/PID/uid_map, gid_map | write: EINVAL | more than 340 ranges | they are counted |
    //: isolate/refusals_privileges::too_many_ranges_are_counted
    (count > MOST_RANGES).then(|| format!("these are {count} ranges, and the kernel takes {MOST_RANGES}"))
}

/// /proc/PID/setgroups says EPERM for nothing else: no user namespace allows what the one around it denies.
pub fn of_setgroups(errno: Errno, allow: bool) -> Option<String> {
    (errno == Errno::EPERM && allow).then(|| {
        //: /proc/PID/setgroups: allow | write: EPERM | the user namespace around it denies setgroups | the only cause |
        //: isolate/refusals_privileges::where_setgroups_is_denied_it_is_not_allowed_again
        "setgroups is denied in the user namespace around this one: leave out --setgroups allow, or make that one with \
         --map-auto or --map-groups"
            .into()
    })
}

fn overlap(map: &[Range]) -> Option<String> {
    let meets = |a: u32, b: u32, a_count: u32, b_count: u32| {
        u64::from(a) < u64::from(b) + u64::from(b_count) && u64::from(b) < u64::from(a) + u64::from(a_count)
    };
    map.iter().enumerate().find_map(|(at, one)| {
        let other = map[at + 1..].iter().find(|other| {
            meets(one.inner, other.inner, one.count, other.count)
                || meets(one.outer, other.outer, one.count, other.count)
        })?;
        //: /proc/PID/uid_map, gid_map | write: EINVAL | two ranges overlap, inside or outside | they are compared |
        //: isolate/refusals::what_is_wrong_with_a_range_is_named
        Some(format!("the ranges {one} and {other} overlap"))
    })
}

/// The kernel looks each range up in one line of the map outside (map_id_range_down).
fn not_in_one(range: &Range, table: &[Range], path: &str) -> Option<String> {
    let (first, end) = (u64::from(range.outer), u64::from(range.outer) + u64::from(range.count));
    let last = end.saturating_sub(1);
    let mut at = first;
    let mut lines = 0;
    while at < end {
        let line = |line: &Range| (u64::from(line.inner), u64::from(line.inner) + u64::from(line.count));
        let Some((start, after)) = table.iter().map(line).find(|(start, after)| (*start..*after).contains(&at)) else {
            //: /proc/PID/uid_map, gid_map | write: EPERM | an id of outside is not mapped there | /proc/self/uid_map, gid_map |
            //: isolate/refusals::what_is_wrong_with_a_range_is_named
            return Some(format!("id {at} is not mapped in the namespace that this runs in: see {path}"));
        };
        (at, lines) = (after, lines + 1);
        if lines == 2 {
            //: /proc/PID/uid_map, gid_map | write: EPERM | a range goes over two lines of the map outside | /proc/self/uid_map,
            //: gid_map | isolate/refusals::what_is_wrong_with_a_range_is_named
            return Some(format!(
                "the ids {first} to {last} lie in several lines of this namespace's own map: give a range for each, the \
                 next from {start} on",
            ));
        }
    }
    None
}

/// newuidmap(1) or newgidmap(1) failed.
pub fn by_the_program(program: &str) -> String {
    let table = if program == "newuidmap" { "subuid" } else { "subgid" };
    if get_no_new_privs().is_ok_and(|on| on) {
        //: newuidmap, newgidmap | they fail | no_new_privs keeps them from their privilege | prctl |
        //: isolate/refusals::what_keeps_newuidmap_from_its_privilege_is_named
        return format!(
            "no_new_privs is set, so {program} gains no privilege: start this without --no-new-privs, or without \
             NoNewPrivileges= of the unit or the container around us"
        );
    }
    let Some(file) = found(program) else {
        return granted(table);
    };
    if statvfs(&file).is_ok_and(|fs| fs.flags().contains(FsFlags::ST_NOSUID)) {
        let file = file.display();
        //: newuidmap, newgidmap | they fail | a mount with nosuid | statvfs |
        //: isolate/refusals::what_keeps_newuidmap_from_its_privilege_is_named
        return format!("{file} is on a filesystem mounted nosuid, so it gains no privilege");
    }
    let setuid = file.metadata().is_ok_and(|stat| stat.mode() & 0o4000 != 0 && stat.uid() == 0);
    if !setuid && xattr::get(&file, "security.capability", &mut [0; 64]).is_err() {
        let right = if program == "newuidmap" { "cap_setuid" } else { "cap_setgid" };
        let file = file.display();
        //: newuidmap, newgidmap | they fail | the file is not installed with its privilege | stat, getxattr |
        //: isolate/refusals::what_keeps_newuidmap_from_its_privilege_is_named
        return format!("{file} is not setuid root and has no file capability: setcap {right}=ep {file}");
    }
    granted(table)
}

fn granted(table: &str) -> String {
    //: newuidmap, newgidmap | they fail | the ranges are not granted to the user | no other cause holds |
    //: isolate/refusals::what_keeps_newuidmap_from_its_privilege_is_named
    format!("the ranges must be granted in /etc/{table}")
}

fn found(program: &str) -> Option<PathBuf> {
    split_paths(&var_os("PATH")?).map(|dir: PathBuf| Path::new(&dir).join(program)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_looked_for_in_one_line_of_the_map_outside() {
        let table = id_map::parse("         0       1000          1\n         1     100000      65536\n").unwrap();
        let why = |outer, count| not_in_one(&Range { inner: 0, outer, count }, &table, "/proc/self/uid_map");
        assert_eq!(why(1, 65536), None);
        assert!(why(0, 2).is_some_and(|why| why.contains("0 to 1 lie in several lines")));
        assert!(why(65536, 2).is_some_and(|why| why.starts_with("id 65537 is not mapped")));
        let overlapping = [Range { inner: 0, outer: 5, count: 3 }, Range { inner: 2, outer: 50, count: 1 }];
        assert_eq!(overlap(&overlapping).as_deref(), Some("the ranges 0 5 3 and 2 50 1 overlap"));
        assert_eq!(overlap(&overlapping[..1]), None);
    }
}
