//! How the descriptors that this process may have (RLIMIT_NOFILE in getrlimit(2)) are shared out:
//! open directories and files on their way to a writer are as many as there is room for.

use nix::sys::resource::{Resource, getrlimit};

/// The standard streams, the image, the staging directory, the receipt, pipes and ruleset of the
/// threads, and what a call opens for its own time.
const OTHERS: u64 = 24;

fn spare() -> usize {
    // Where the limit cannot be read, the least that anyone gives.
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(64, |(current, _)| current);
    usize::try_from(limit.saturating_sub(OTHERS)).unwrap_or(usize::MAX)
}

/// How many directories stay open; `most` are as good as any number.
pub fn directories(most: usize) -> usize {
    (spare() / 5 * 2).clamp(4, most)
}

/// How many files may be open in each of so many batches.
pub fn files(most: usize, batches: usize) -> usize {
    (spare() / 2 / batches.max(1)).clamp(1, most)
}
