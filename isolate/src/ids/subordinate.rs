//! The ranges of ids that a user was granted (subuid(5)), as a user namespace can have them.

use anyhow::Result;
use chain::account::{self, Sort};
use chain::id_map::{MOST_RANGES, Range};
use chain::{Tool, warn};

/// The kernel takes a map in one page (user_namespaces(7)).
const MOST_BYTES: usize = 4095;

/// All ranges of a user, in the order of the file. An id that two of them hold counts once: the kernel takes no id twice.
pub fn of(sort: Sort, user: u32) -> Result<Vec<(u32, u32)>> {
    let granted = account::subordinate(sort, user)?;
    if let [(first, 1), ..] = granted[..] {
        let file = sort.sub_file();
        warn(Tool::Isolate, format_args!("{file}: the first range of user {user} is one id, {first}"));
    }
    Ok(each_once(&granted))
}

fn each_once(granted: &[(u32, u32)]) -> Vec<(u32, u32)> {
    let mut all: Vec<(u32, u32)> = Vec::new();
    for &range in granted {
        let mut parts = vec![range];
        for &(taken, length) in &all {
            parts = parts.into_iter().flat_map(|part| outside(part, taken, taken + length)).collect();
        }
        all.extend(parts);
    }
    all
}

/// The parts of a range below `from`, and from `to` on.
fn outside((first, count): (u32, u32), from: u32, to: u32) -> impl Iterator<Item = (u32, u32)> {
    let end = first + count;
    [(first, end.min(from)), (first.max(to), end)]
        .into_iter()
        .filter(|(first, end)| first < end)
        .map(|(first, end)| (first, end - first))
}

/// One after the other from id 0 on. The ids from `hole` on move up by one, and none is lost.
pub fn in_a_row(ranges: &[(u32, u32)], hole: Option<u32>) -> Vec<Range> {
    let mut row = Vec::new();
    let mut next = 0;
    for &(outer, count) in ranges {
        let before = hole.and_then(|hole| hole.checked_sub(next)).filter(|&before| before < count);
        let parts = match before {
            Some(before) => vec![(next, outer, before), (next + before + 1, outer + before, count - before)],
            None => vec![(next, outer, count)],
        };
        row.extend(parts.into_iter().filter(|part| part.2 > 0).map(|(inner, outer, count)| Range {
            inner,
            outer,
            count,
        }));
        next = row.last().map_or(next, |last: &Range| last.inner.saturating_add(last.count));
    }
    row
}

/// As many as the kernel takes. A warning says what is left out.
pub fn within_limit(sort: Sort, mut ranges: Vec<Range>) -> Vec<Range> {
    let mut bytes = 0;
    let fits = |range: &&Range| {
        bytes += range.to_string().len() + 1;
        bytes <= MOST_BYTES
    };
    let taken = ranges.iter().take(MOST_RANGES).take_while(fits).count();
    let left: u64 = ranges[taken..].iter().map(|range| u64::from(range.count)).sum();
    if left > 0 {
        let file = sort.sub_file();
        warn(
            Tool::Isolate,
            format_args!("ids of {file} are left out ({left}): the kernel takes no more than {taken} ranges of them"),
        );
        ranges.truncate(taken);
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(ranges: &[Range]) -> String {
        ranges.iter().map(Range::to_string).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn no_id_is_lost_beside_the_own_one() {
        let row = |ranges: &[(u32, u32)], hole| shown(&in_a_row(ranges, hole));
        assert_eq!(row(&[(100_000, 65536)], None), "0 100000 65536");
        assert_eq!(row(&[(100_000, 65536)], Some(0)), "1 100000 65536");
        assert_eq!(row(&[(100_000, 65536)], Some(1000)), "0 100000 1000; 1001 101000 64536");
        assert_eq!(row(&[(100_000, 65536)], Some(70_000)), "0 100000 65536");
        assert_eq!(row(&[(100_000, 1)], Some(0)), "1 100000 1");
        assert_eq!(row(&[(7, 1), (100_000, 10), (9000, 5)], Some(3)), "0 7 1; 1 100000 2; 4 100002 8; 12 9000 5");
        assert_eq!(row(&[(7, 3), (100, 3)], Some(3)), "0 7 3; 4 100 3");
    }

    #[test]
    fn an_id_that_was_granted_twice_is_mapped_once() {
        assert_eq!(each_once(&[(10, 5), (10, 5)]), [(10, 5)]);
        assert_eq!(each_once(&[(10, 5), (8, 10)]), [(10, 5), (8, 2), (15, 3)]);
        assert_eq!(each_once(&[(0, u32::MAX), (5, 5)]), [(0, u32::MAX)]);
    }

    #[test]
    fn more_ranges_than_the_kernel_takes_are_cut() {
        let many: Vec<Range> = (0..400).map(|n| Range { inner: n, outer: n * 2, count: 1 }).collect();
        assert_eq!(within_limit(Sort::User, many).len(), 340);
        let long: Vec<Range> =
            (0..300).map(|n| Range { inner: 100_000 + n, outer: (1 << 30) + n * 2, count: 1 }).collect();
        let taken = within_limit(Sort::User, long);
        assert_eq!(taken.len(), 4095 / "100000 1073741824 1\n".len());
    }
}
