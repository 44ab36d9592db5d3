//! What became of the child, as JSON lines for a program.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use chain::Tool;
use chain::failures::Failure;
use chain::retry_eintr::retry;
use chain::status_fd::write;
use nix::libc;
use nix::unistd::{Pid, read};
use serde_json::{Map, json};

use crate::limits::exceeded::Exceeded;
use crate::namespaces::Kind;
use crate::process::Ending;
use crate::signals;

pub fn started(fd: i32, child: Pid) {
    let mut namespaces = Map::new();
    for kind in Kind::ALL {
        if let Ok(file) = std::fs::metadata(format!("/proc/{child}/ns/{}", kind.file())) {
            namespaces.insert(kind.file().into(), file.ino().into());
        }
    }
    write(Tool::Isolate, fd, json!({"event": "started", "pid": child.as_raw(), "namespaces": namespaces}));
}

/// Where the end is told of, and where the links of the chain tell of a failure before it.
pub struct Status {
    pub fd: i32,
    pub failures: OwnedFd,
}

impl Status {
    pub fn descriptors(&self) -> [i32; 2] {
        [self.fd, self.failures.as_raw_fd()]
    }

    pub fn exited(&self, ending: Ending, exceeded: Option<&Exceeded>) {
        let mut line = match ending {
            Ending::Exit(code) => json!({"event": "exited", "code": code}),
            Ending::Signal(number) => json!({"event": "exited", "signal": signals::name(number)}),
        };
        if let Some(exceeded) = exceeded {
            line["limit"] = exceeded.limit.into();
        }
        if let Some(tool) = self.failed(ending) {
            line["failed"] = tool.name().into();
        }
        write(Tool::Isolate, self.fd, line);
    }

    /// The link that has failed, where that is what the child has ended with.
    fn failed(&self, ending: Ending) -> Option<Tool> {
        let mut failure: Failure = Default::default();
        let count = retry(|| read(&self.failures, &mut failure));
        let [tool, status] = failure;
        (count == Ok(failure.len()) && ending == Ending::Exit(status.into())).then(|| Tool::ALL[usize::from(tool) % 4])
    }
}

/// Isolate itself has failed, and there is no child.
pub fn failed(fd: i32, status: u8) {
    // A reader that is gone is no reason to die before the message.
    signals::block_all().and(&[libc::SIGPIPE]).restore();
    write(Tool::Isolate, fd, json!({"event": "exited", "code": status, "failed": Tool::Isolate.name()}));
}

pub fn borrow(fd: i32) -> BorrowedFd<'static> {
    // SAFETY: the descriptor was checked when the options were read, and stays open.
    unsafe { BorrowedFd::borrow_raw(fd) }
}
