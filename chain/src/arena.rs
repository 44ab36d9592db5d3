//! The links' allocator: one block after another. A link runs for a fraction of a millisecond, in which malloc would
//! mostly map and unmap a page for each kind of block.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Untouched pages cost nothing. What no longer fits comes from malloc.
const SIZE: usize = 1 << 18;

pub struct Arena {
    used: AtomicUsize,
    bytes: UnsafeCell<[u8; SIZE]>,
}

// SAFETY: the bytes are reached only through blocks, and `used` gives each to one caller alone.
unsafe impl Sync for Arena {}

impl Arena {
    #[expect(clippy::new_without_default, reason = "it is a static, and there is one")]
    pub const fn new() -> Arena {
        Arena { used: AtomicUsize::new(0), bytes: UnsafeCell::new([0; SIZE]) }
    }

    fn start(&self) -> *mut u8 {
        self.bytes.get().cast()
    }

    /// Where a block of the arena starts; None for one of malloc's.
    fn offset(&self, block: *mut u8) -> Option<usize> {
        block.addr().checked_sub(self.start().addr()).filter(|&offset| offset < SIZE)
    }

    /// Moves the end of what is used, if it still is at `from`: only the last block can grow or be given back.
    fn move_end(&self, from: usize, to: usize) -> bool {
        to <= SIZE && self.used.compare_exchange(from, to, Relaxed, Relaxed).is_ok()
    }
}

// SAFETY: a block of the arena is aligned, as large as asked for, and nobody else's until it is given back; every other
// block is malloc's, before and after.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        loop {
            let used = self.used.load(Relaxed);
            let offset = (self.start().addr() + used).next_multiple_of(layout.align()) - self.start().addr();
            match offset.checked_add(layout.size()).filter(|&end| end <= SIZE) {
                // SAFETY: the caller's layout is passed on.
                None => return unsafe { System.alloc(layout) },
                // SAFETY: the offset and the block behind it lie inside the arena.
                Some(end) if self.move_end(used, end) => return unsafe { self.start().add(offset) },
                Some(_) => {}
            }
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match self.offset(block) {
            Some(offset) => drop(self.move_end(offset + layout.size(), offset)),
            // SAFETY: not ours, so malloc's.
            None => unsafe { System.dealloc(block, layout) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Some(offset) = self.offset(block) else {
            // SAFETY: not ours, so malloc's.
            return unsafe { System.realloc(block, layout, size) };
        };
        let grows_here = offset.checked_add(size).is_some_and(|end| self.move_end(offset + layout.size(), end));
        if grows_here || size <= layout.size() {
            return block;
        }
        // SAFETY: the caller vouches that the new size makes a layout; the old block holds the bytes that are copied.
        unsafe {
            let new = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !new.is_null() {
                new.copy_from_nonoverlapping(block, layout.size());
            }
            new
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_aligned_and_apart_and_keep_their_bytes() {
        static ARENA: Arena = Arena::new();
        let mut blocks = Vec::new();
        for n in 1..3000_usize {
            let layout = Layout::from_size_align(n % 700 + 1, 1 << (n % 9)).unwrap();
            // SAFETY: each block is written inside its layout and given back with it.
            unsafe {
                let block = ARENA.alloc(layout);
                block.write_bytes(n as u8, layout.size());
                let block = ARENA.realloc(block, layout, layout.size() + n % 3 * 100);
                blocks.push((block, n, layout));
            }
        }
        for &(block, n, layout) in &blocks {
            assert_eq!(block.addr() % layout.align(), 0);
            // SAFETY: as above.
            assert!(unsafe { (0..layout.size()).all(|at| block.add(at).read() == n as u8) }, "block {n}");
        }
        assert!(blocks.iter().any(|block| ARENA.offset(block.0).is_none()), "it was never full");
    }

    #[test]
    fn the_last_block_grows_where_it_is_and_is_given_back() {
        static ARENA: Arena = Arena::new();
        let layout = |size| Layout::from_size_align(size, 8).unwrap();
        // SAFETY: as above.
        unsafe {
            let block = ARENA.alloc(layout(100));
            assert_eq!(ARENA.realloc(block, layout(100), 200), block);
            ARENA.dealloc(block, layout(200));
            assert_eq!(ARENA.alloc(layout(50)), block);
        }
    }
}
