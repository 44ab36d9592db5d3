//! Blocks of memory: copied, moved, filled and compared, at every length and where they may overlap.

use std::cmp::Ordering;
use std::hint::black_box;
use std::path::Path;

use crate::{Checked, ensure};

/// More than the longest block that is treated as a short one.
const SIZE: usize = 3000;

/// A value at each place that no other place near it has.
fn pattern(at: usize) -> u8 {
    (at * 31 + at / 251 + 1) as u8
}

fn lengths() -> impl Iterator<Item = usize> {
    (0..300).chain([511, 512, 1000, 1023, 1024, 1025, 1100, 1500])
}

/// Byte by byte, so that nothing of what is checked does the checking.
fn all(bytes: &[u8], expected: impl Fn(usize) -> u8) -> bool {
    (0..bytes.len()).all(|at| black_box(bytes[at]) == expected(at))
}

fn patterned() -> Vec<u8> {
    (0..SIZE).map(|at| black_box(pattern(at))).collect()
}

pub(crate) fn blocks(_: &Path) -> Checked {
    let source = patterned();
    for length in lengths() {
        for (from, to) in [(0, 0), (1, 8), (7, 3), (16, 17), (40, 1)] {
            let mut bytes = vec![0; SIZE];
            bytes[to..to + black_box(length)].copy_from_slice(&source[from..from + length]);
            let within = |at: usize| (to..to + length).contains(&at);
            ensure!(all(&bytes, |at| if within(at) { pattern(at - to + from) } else { 0 }));
            bytes[to..to + black_box(length)].fill(black_box(0xa5));
            ensure!(all(&bytes, |at| if within(at) { 0xa5 } else { 0 }));
        }
        for (from, to) in
            [(100, 100), (100, 101), (101, 100), (100, 117), (117, 100), (100, 190), (190, 100), (100, 1400)]
        {
            let mut bytes = patterned();
            bytes.copy_within(from..from + black_box(length), to);
            let within = |at: usize| (to..to + length).contains(&at);
            ensure!(all(&bytes, |at| pattern(if within(at) { at - to + from } else { at })));
        }
        let mut other = source[5..5 + length].to_vec();
        ensure!(source[5..5 + length].cmp(&other) == Ordering::Equal);
        for at in (0..length).rev().step_by(7) {
            other[at] = other[at].wrapping_add(1);
            let order = if other[at] == 0 { Ordering::Greater } else { Ordering::Less };
            ensure!(black_box(&source[5..5 + length]).cmp(&other) == order && source[5..5 + length] != other);
        }
    }
    Ok(())
}
