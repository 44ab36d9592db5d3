//! The ids that a user namespace has, as its maps list them (user_namespaces(7)).

use std::fmt;
use std::fs::read_to_string;
use std::io;

use nix::unistd::{getegid, geteuid};

use crate::account::Sort;

/// So many ranges a map may have since Linux 4.15 (user_namespaces(7), UID_GID_MAP_MAX_EXTENTS).
pub const MOST_RANGES: usize = 340;

/// `count` ids from `inner` on are those from `outer` on outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub inner: u32,
    pub outer: u32,
    pub count: u32,
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} {} {}", self.inner, self.outer, self.count)
    }
}

impl Range {
    /// How far into the range an id of the namespace is.
    pub fn position(&self, inner: u32) -> Option<u32> {
        inner.checked_sub(self.inner).filter(|&at| at < self.count)
    }
}

/// The map of this process's own namespace.
pub fn path(sort: Sort) -> &'static str {
    match sort {
        Sort::User => "/proc/self/uid_map",
        Sort::Group => "/proc/self/gid_map",
    }
}

pub fn read(sort: Sort) -> io::Result<Vec<Range>> {
    parse(&read_to_string(path(sort))?).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

pub fn contains(map: &[Range], inner: u32) -> bool {
    map.iter().any(|range| range.position(inner).is_some())
}

/// Whether this process's own namespace has the id. False without /proc.
pub fn is_mapped(sort: Sort, inner: u32) -> bool {
    read(sort).is_ok_and(|map| contains(&map, inner))
}

pub fn parse(map: &str) -> Option<Vec<Range>> {
    map.lines()
        .map(|line| {
            let mut numbers = line.split_whitespace().map_while(|number| number.parse().ok());
            Some(Range { inner: numbers.next()?, outer: numbers.next()?, count: numbers.next()? })
        })
        .collect()
}

/// EOVERFLOW where something is to be made: the filesystem has no number for who makes it (fsuidgid_has_mapping in
/// Linux, and nothing else in these calls).
pub fn why_unknown_here() -> String {
    let (user, group) = (geteuid(), getegid());
    //: unpack's ROOT; --overlay DIR | mkdir: EOVERFLOW | the filesystem has no number for who makes something there |
    //: the only cause | pivot/places::a_filesystem_that_does_not_know_the_user_is_named
    format!(
        "user {user} or group {group} has no number on the filesystem there, which is idmapped or was mounted in a user \
         namespace: use another place, or start this as a user whom it knows"
    )
}

/// Whether users have the numbers that they have on the host, all of them.
pub fn is_the_hosts() -> bool {
    read(Sort::User).is_ok_and(|map| map == [Range { inner: 0, outer: 0, count: u32::MAX }])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_read_as_the_kernel_writes_it() {
        let map = parse("         0       1000          1\n         1     100000      65536\n").unwrap();
        assert_eq!(map.iter().map(Range::to_string).collect::<Vec<_>>(), ["0 1000 1", "1 100000 65536"]);
        assert_eq!((map[1].position(0), map[1].position(65536), map[1].position(65537)), (None, Some(65535), None));
        assert_eq!((parse("0 0"), parse("0 x 1"), parse("")), (None, None, Some(Vec::new())));
    }
}
