//! A member of the child's own process group, where that is at a terminal: what is typed there goes to the group and not to
//! isolate, and the kernel keeps it from a PID 1 that leaves it at the default.
//!
//! Its rule is the guard's: it shares isolate's memory and descriptors, makes raw system calls alone and changes nothing but
//! atomics. It waits for signals and for isolate's end, and for nothing else. Members of the group can end, stop and flood
//! it: then isolate starts or continues it, and nothing else depends on it.

use std::os::fd::AsFd;

use anyhow::Result;
use nix::libc;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Signal, set_parent_process_death_signal};

use crate::process::{Pid, no_process, setpgid, spawn_beside};
use crate::signals::{self, Default, default_action};
use crate::supervise::guard::Shared;

/// Starts it, in `group`. Every signal must be blocked. None where the group is gone.
pub fn start(shared: &'static Shared, group: Pid) -> Result<Option<Pid>> {
    // SAFETY: `stand` keeps to the rule, and `shared` is for good.
    let pid = unsafe { spawn_beside(stand, std::ptr::from_ref(shared).cast_mut().cast()) }.map_err(no_process)?;
    if setpgid(pid, group).is_err() {
        let _ = signals::send(pid.as_raw(), libc::SIGKILL);
        return Ok(None);
    }
    Ok(Some(pid))
}

extern "C" fn stand(shared: *mut libc::c_void) -> libc::c_int {
    // SAFETY: what `start` gave, for good.
    let shared: &Shared = unsafe { &*shared.cast() };
    // Even where somebody inside has stopped it.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    let _ = rustix::thread::set_name(c"chainroot-group");
    let Some(group) = &shared.group_signals else { return 0 };
    loop {
        let mut any =
            [shared.own_pidfd.as_fd(), group.arrivals.as_fd()].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        match poll(&mut any, None) {
            Err(Errno::INTR) => continue,
            Err(_) => return 1,
            Ok(_) if !any[0].revents().is_empty() => return 0,
            Ok(_) => {}
        }
        while let Some(arrival) = group.arrivals.next() {
            // Only the terminal's signals are for isolate as well, and what a job does to stop itself.
            if arrival.from_kernel || default_action(arrival.signal) == Default::Stops {
                group.note(arrival.signal, arrival.from_kernel);
            }
        }
    }
}
