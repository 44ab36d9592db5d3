//! An allocator for links: they run for a fraction of a millisecond, and what malloc asks of the kernel
//! in that time (a page mapped and unmapped for each kind of block) is a good part of it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Pages that are not touched cost nothing.
const SIZE: usize = 256 << 10;

/// Blocks lie one behind the other; only the last one can be given back or grow. What does not fit
/// any more comes from malloc.
pub struct Arena {
    used: AtomicUsize,
    bytes: UnsafeCell<[u8; SIZE]>,
}

// SAFETY: the bytes are reached only through blocks, and `used` gives each to one caller alone.
unsafe impl Sync for Arena {}

impl Arena {
    #[expect(clippy::new_without_default, reason = "a static, never a value")]
    pub const fn new() -> Arena {
        Arena { used: AtomicUsize::new(0), bytes: UnsafeCell::new([0; SIZE]) }
    }

    fn start(&self) -> *mut u8 {
        self.bytes.get().cast()
    }

    /// The offset in the arena at which `block` starts, if it is one of the arena's.
    fn offset(&self, block: *mut u8) -> Option<usize> {
        block.addr().checked_sub(self.start().addr()).filter(|&offset| offset < SIZE)
    }

    /// Moves the end of the used bytes, if it still is at `from`.
    fn move_end(&self, from: usize, to: usize) -> bool {
        to <= SIZE && self.used.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

// SAFETY: a block of the arena is aligned, as large as asked for, and nobody else's until it is given
// back; every other block is malloc's, before and after.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let base = self.start().addr();
        loop {
            let end = self.used.load(Ordering::Relaxed);
            let Some(offset) = (base + end).checked_next_multiple_of(layout.align()).map(|addr| addr - base) else {
                return null_mut();
            };
            match offset.checked_add(layout.size()).filter(|&after| after <= SIZE) {
                // SAFETY: the caller's layout is passed on.
                None => return unsafe { System.alloc(layout) },
                // SAFETY: the offset and the block behind it lie inside the arena.
                Some(after) if self.move_end(end, after) => return unsafe { self.start().add(offset) },
                Some(_) => {}
            }
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match self.offset(block) {
            Some(offset) => {
                self.move_end(offset + layout.size(), offset);
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
        let after = offset.checked_add(size);
        if size <= layout.size() || after.is_some_and(|after| self.move_end(offset + layout.size(), after)) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).unwrap()
    }

    #[test]
    fn blocks_are_aligned_and_apart_and_keep_their_bytes() {
        static ARENA: Arena = Arena::new();
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
        static ARENA: Arena = Arena::new();
        // SAFETY: as above.
        unsafe {
            let block = ARENA.alloc(layout(100, 8));
            ARENA.dealloc(block, layout(100, 8));
            assert_eq!(ARENA.alloc(layout(50, 8)), block);
        }
    }
}
