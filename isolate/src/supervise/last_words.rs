//! What isolate writes after the child's end, with every signal blocked: it must not wait for a reader for ever.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use chain::retry_eintr::retry;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

use crate::signals::{Arrivals, Default, default_action};

/// How long a reader may take to make room in a pipe that is full.
const PATIENCE: Duration = Duration::from_secs(10);

/// Waits until a line fits. False if nobody makes room in time, or if a signal that ends processes comes first.
pub fn can_write(fd: BorrowedFd, arrivals: &Arrivals) -> bool {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::new(fd, PollFlags::POLLOUT), PollFd::new(arrivals.as_fd(), PollFlags::POLLIN)];
        let count = retry(|| ppoll(&mut fds, Some(TimeSpec::from(left)), None));
        if count.is_err() || fds[0].any() != Some(false) {
            return true;
        }
        match arrivals.next() {
            Some(arrival) if default_action(arrival.signal) == Default::Ends => return false,
            None if left.is_zero() => return false,
            _ => {}
        }
    }
}
