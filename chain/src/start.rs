//! From the C library to a tool's `main`, without std's start: that ignores SIGPIPE, opens /dev/null in place of closed
//! streams and installs a handler for stack overflows, but COMMAND must get everything as we got it.

use std::ffi::{CStr, OsStr, OsString, c_char, c_int};
use std::os::unix::ffi::OsStrExt;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::retry_on_intr;
use rustix::stdio;

/// Defines the program's C `main`, which calls `$main` with the words behind the tool's own name; what that returns is
/// the exit status.
#[macro_export]
macro_rules! start {
    ($main:path) => {
        // SAFETY: the C library calls it once; its arguments are those of the program.
        #[unsafe(no_mangle)]
        extern "C" fn main(count: std::ffi::c_int, words: *const *const std::ffi::c_char) -> std::ffi::c_int {
            // SAFETY: as above.
            $main(unsafe { $crate::started(count, words) }).into()
        }
    };
}

/// The words behind the program's own name.
///
/// # Safety
/// `count` and `words` are those that the C library called `main` with.
pub unsafe fn started(count: c_int, words: *const *const c_char) -> Vec<OsString> {
    hold_closed_streams();
    (1..usize::try_from(count).unwrap_or_default())
        // SAFETY: the caller's; each is a string that stays for the life of the process (execve(2)).
        .map(|n| unsafe { CStr::from_ptr(*words.add(n)) })
        .map(|word| OsStr::from_bytes(word.to_bytes()).to_owned())
        .collect()
}

/// Where 0, 1 or 2 is closed, the next file that is opened would be taken for a standard stream. A descriptor that can
/// be neither read nor written holds the number; exec closes it.
fn hold_closed_streams() {
    let streams = [stdio::stdin(), stdio::stdout(), stdio::stderr()];
    let mut asked = streams.each_ref().map(|stream| PollFd::new(stream, PollFlags::empty()));
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    // If poll fails nothing is known, so nothing is changed.
    let _ = retry_on_intr(|| poll(&mut asked, Some(&now)));
    for _ in asked.iter().filter(|stream| stream.revents().contains(PollFlags::NVAL)) {
        // The lowest number that is free is one of the three.
        if let Ok(held) = open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
            std::mem::forget(held);
        }
    }
}
