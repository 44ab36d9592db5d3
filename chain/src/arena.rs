//! An allocator for links: they run for a fraction of a millisecond, and what malloc asks of the kernel
//! in that time (a page mapped and unmapped for each kind of block) is a good part of it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ops::Range;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Pages that are not touched cost nothing. Large enough for the stacks of isolate's processes: a mapping of their own would
/// take page tables of its own.
const SIZE: usize = 1 << 20;

/// The first part is for small blocks, the second for large ones: a list that doubles as it grows would be copied each
/// time if small blocks came to lie behind it, and leave its old copies as pages that were touched for nothing.
const PARTS: [Range<usize>; 2] = [0..SIZE / 2, SIZE / 2..SIZE];
const LARGE: usize = 2 << 10;

/// The allocator of a process that has one: there is one arena, whoever names it.
pub struct Arena;

static BYTES: Bytes = Bytes::new();
static BLOCKS: Blocks = Blocks::new(&BYTES);

/// In each part blocks lie one behind the other; only the last one can be given back or grow. What does
/// not fit any more comes from malloc.
struct Blocks {
    /// The end of the used bytes of each part, from its start.
    used: [AtomicUsize; 2],
    /// Apart, so that the above lie on a page with what else a process writes to.
    bytes: &'static Bytes,
}

#[repr(align(4096))]
struct Bytes(UnsafeCell<[u8; SIZE]>);

// SAFETY: the bytes are reached only through blocks, and `used` gives each to one caller alone.
unsafe impl Sync for Bytes {}

impl Bytes {
    const fn new() -> Bytes {
        Bytes(UnsafeCell::new([0; SIZE]))
    }
}

impl Blocks {
    const fn new(bytes: &'static Bytes) -> Blocks {
        Blocks { used: [const { AtomicUsize::new(0) }; 2], bytes }
    }

    fn start(&self) -> *mut u8 {
        self.bytes.0.get().cast()
    }

    /// The offset in the arena at which `block` starts, if it is one of the arena's.
    fn offset(&self, block: *mut u8) -> Option<usize> {
        block.addr().checked_sub(self.start().addr()).filter(|&offset| offset < SIZE)
    }

    /// Moves the end of a part's used bytes, if it still is at `from`.
    fn move_end(&self, part: usize, from: usize, to: usize) -> bool {
        let Range { start, end } = PARTS[part];
        let used = &self.used[part];
        to <= end && used.compare_exchange(from - start, to - start, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

fn part_of(offset: usize) -> usize {
    usize::from(offset >= PARTS[1].start)
}

// SAFETY: a block of the arena is aligned, as large as asked for, and nobody else's until it is given
// back; every other block is malloc's, before and after.
unsafe impl GlobalAlloc for Blocks {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let base = self.start().addr();
        let part = usize::from(layout.size() >= LARGE);
        loop {
            let end = PARTS[part].start + self.used[part].load(Ordering::Relaxed);
            let Some(offset) = (base + end).checked_next_multiple_of(layout.align()).map(|addr| addr - base) else {
                return null_mut();
            };
            match offset.checked_add(layout.size()).filter(|&after| after <= PARTS[part].end) {
                // SAFETY: the caller's layout is passed on.
                None => return unsafe { System.alloc(layout) },
                // SAFETY: the offset and the block behind it lie inside the arena.
                Some(after) if self.move_end(part, end, after) => return unsafe { self.start().add(offset) },
                Some(_) => {}
            }
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match self.offset(block) {
            Some(offset) => {
                self.move_end(part_of(offset), offset + layout.size(), offset);
            }
            // SAFETY: not ours, so malloc's.
            None => unsafe { System.dealloc(block, layout) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Some(offset) = self.offset(block) else {
            // SAFETY: not ours, so malloc's.
            return unsafe { System.realloc(block, layout, size) };
        };
        let part = part_of(offset);
        let stays = part == 1 || size < LARGE;
        let grown = offset.checked_add(size).filter(|_| stays);
        if size <= layout.size() || grown.is_some_and(|after| self.move_end(part, offset + layout.size(), after)) {
            return block;
        }
        // SAFETY: the caller vouches that the new size makes a layout; the old block holds the bytes copied.
        unsafe {
            let new = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !new.is_null() {
                new.copy_from_nonoverlapping(block, layout.size());
            }
            new
        }
    }
}

// SAFETY: as above.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are passed on, here and below.
        unsafe { BLOCKS.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { BLOCKS.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        unsafe { BLOCKS.realloc(block, layout, size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).unwrap()
    }

    #[test]
    fn blocks_are_aligned_and_apart_and_keep_their_bytes() {
        static BYTES: Bytes = Bytes::new();
        static ARENA: Blocks = Blocks::new(&BYTES);
        let mut blocks = Vec::new();
        for n in 1..2000_usize {
            let layout = layout(n % 700 + 1, 1 << (n % 9));
            // SAFETY: each block is written inside its layout and given back with it.
            unsafe {
                let mut block = ARENA.alloc(layout);
                block.write_bytes(n as u8, layout.size());
                let grown = Layout::from_size_align(layout.size() * 2, layout.align()).unwrap();
                if n % 3 == 0 {
                    block = ARENA.realloc(block, layout, grown.size());
                }
                blocks.push((block, n, layout, if n % 3 == 0 { grown } else { layout }));
            }
        }
        for &(block, n, written, layout) in &blocks {
            assert_eq!(block.addr() % layout.align(), 0);
            // SAFETY: as above.
            unsafe {
                assert!((0..written.size()).all(|at| block.add(at).read() == n as u8), "block {n}");
                ARENA.dealloc(block, layout);
            }
        }
        assert!(blocks.iter().any(|block| ARENA.offset(block.0).is_none()), "it was never full");
    }

    #[test]
    fn the_last_block_is_given_back() {
        static BYTES: Bytes = Bytes::new();
        static ARENA: Blocks = Blocks::new(&BYTES);
        // SAFETY: as above.
        unsafe {
            let block = ARENA.alloc(layout(100, 8));
            ARENA.dealloc(block, layout(100, 8));
            assert_eq!(ARENA.alloc(layout(50, 8)), block);
        }
    }

    #[test]
    fn a_large_block_grows_where_it_is_whatever_small_ones_come() {
        static BYTES: Bytes = Bytes::new();
        static ARENA: Blocks = Blocks::new(&BYTES);
        // SAFETY: as above.
        unsafe {
            let small = ARENA.alloc(layout(LARGE - 1, 8));
            let large = ARENA.realloc(small, layout(LARGE - 1, 8), LARGE);
            assert_ne!(large, small);
            ARENA.alloc(layout(24, 8));
            assert_eq!(ARENA.realloc(large, layout(LARGE, 8), 4 * LARGE), large);
            // Two of them cannot both be the last.
            ARENA.alloc(layout(LARGE, 8));
            assert_ne!(ARENA.realloc(large, layout(4 * LARGE, 8), 8 * LARGE), large);
        }
    }
}
