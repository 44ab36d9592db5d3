//! Standard streams that we were started without. Rust's runtime opens /dev/null in their place; the
//! command finds them closed, as its caller left them, and learns of what it cannot write.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicI32, Ordering};

use nix::libc;
use rustix::io::{FdFlags, fcntl_setfd};

/// A bit for each.
static CLOSED: AtomicI32 = AtomicI32::new(0);

extern "C" fn look() {
    for stream in 0..3 {
        // SAFETY: only asks, and takes any number.
        if unsafe { libc::fcntl(stream, libc::F_GETFD) } == -1 {
            CLOSED.fetch_or(1 << stream, Ordering::Relaxed);
        }
    }
}

// SAFETY: as in signals.rs: called once before main, and needs nothing of the runtime.
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;

/// Has them closed at exec, unless something else takes their place until then.
pub fn stay_closed() {
    let closed = CLOSED.load(Ordering::Relaxed);
    if closed == 0 {
        return;
    }
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    for (number, stream) in [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()].into_iter().enumerate() {
        if closed >> number & 1 == 1 {
            let _ = fcntl_setfd(stream, FdFlags::CLOEXEC);
        }
    }
}
