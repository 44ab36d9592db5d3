//! How the descriptors that this process may have (RLIMIT_NOFILE in getrlimit(2)) are shared out:
//! open directories and files on their way to a writer are as many as there is room for.

use std::io::stderr;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result};
use chain::WithHint;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::close;

/// The standard streams, the image, the staging directory, the receipt, pipes and ruleset of the
/// threads, and what a call opens for its own time.
const OTHERS: u64 = 24;

/// The smallest run has this many open at once.
const LEAST: u32 = 16;

/// No run has more open at once.
const MOST: usize = 1024;

fn spare() -> usize {
    // If the limit cannot be read, the least that anyone gives. (rustix would panic.)
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(64, |(current, _)| current);
    usize::try_from(limit.saturating_sub(OTHERS)).unwrap_or(usize::MAX)
}

/// How many directories may stay open; more than `most` would not help.
pub fn directories(most: usize) -> usize {
    (spare() / 5 * 2).clamp(4, most)
}

/// How many files may be open in each of so many batches.
pub fn files(most: usize, batches: usize) -> usize {
    (spare() / 2 / batches.max(1)).clamp(1, most)
}

/// Makes the table of descriptors as large as it will be. While a process has one thread that costs nothing;
/// later each doubling waits until all processors have passed through the scheduler (`expand_fdtable` in the kernel's
/// fs/file.c), which may be 10 ms.
///
/// With fewer than `LEAST` left, nothing starts: a run that ends for lack of descriptors cannot remove what it made.
pub fn reserve() -> Result<()> {
    let least: std::io::Result<Vec<OwnedFd>> = (0..LEAST).map(|_| stderr().as_fd().try_clone_to_owned()).collect();
    let least = least.context("open files");
    //: open files | open: EMFILE, before anything is begun | RLIMIT_NOFILE is too low | the limit is read |
    //: unpack/refusals::too_few_descriptors_are_named_before_anything_is_begun
    least.hint(format!("unpack needs {LEAST} at once, large images more: ulimit -n 256"))?;
    let last = spare().saturating_add(OTHERS as usize).min(MOST) - 1;
    // If this fails, the table grows later.
    if let Ok(highest) = fcntl(stderr(), FcntlArg::F_DUPFD_CLOEXEC(i32::try_from(last).unwrap_or(i32::MAX))) {
        let _ = close(highest);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_reserved_is_there() {
        super::reserve().unwrap();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let size = status.lines().find_map(|line| line.strip_prefix("FDSize:")).unwrap();
        assert!(size.trim().parse::<usize>().unwrap() >= super::MOST.min(super::spare()), "{size}");
    }
}
