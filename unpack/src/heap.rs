//! The program's memory. musl's malloc returns and maps pages again for each directory's worth of names, which in a
//! process with several threads interrupts all processors.

use std::alloc::{GlobalAlloc, Layout};

use dlmalloc::GlobalDlmalloc;

pub struct Heap;

/// Out of memory is a failure like others: one line and 125. std would abort, with a backtrace where RUST_BACKTRACE is
/// set. The next run sweeps the staging directory.
fn there(block: *mut u8) -> *mut u8 {
    if block.is_null() {
        let _ = rustix::io::write(rustix::stdio::stderr(), b"unpack: memory: there is no more\n");
        // SAFETY: _exit takes any status and has no other condition; exit could want memory.
        unsafe { nix::libc::_exit(125) }
    }
    block
}

// SAFETY: every call and every block is dlmalloc's.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are passed on.
        there(unsafe { GlobalDlmalloc.alloc(layout) })
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { GlobalDlmalloc.dealloc(block, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        there(unsafe { GlobalDlmalloc.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        there(unsafe { GlobalDlmalloc.realloc(block, layout, size) })
    }
}
