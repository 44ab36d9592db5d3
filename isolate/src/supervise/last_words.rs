//! What isolate writes when the child has ended, with every signal blocked: it must not wait for ever for a reader.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;

use crate::signals::{Arrivals, Default, default_action};

/// How long a reader may take to make room in a pipe that is full.
const PATIENCE: Duration = Duration::from_secs(10);

/// Waits until a line fits. False where nobody makes room for it in time, or a signal that ends processes comes first.
pub fn can_write(fd: BorrowedFd, arrivals: &Arrivals) -> bool {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::OUT), PollFd::new(arrivals, PollFlags::IN)];
        let count = retry_on_intr(|| poll(&mut fds, Timespec::try_from(left).ok().as_ref()));
        if count.is_err() || !fds[0].revents().is_empty() {
            return true;
        }
        match arrivals.next() {
            Some(arrival) if default_action(arrival.signal) == Default::Ends => return false,
            None if left.is_zero() => return false,
            _ => {}
        }
    }
}
