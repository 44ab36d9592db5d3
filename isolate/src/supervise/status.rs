//! What became of the child, as JSON lines for a program.

use std::io::{ErrorKind, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt;

use nix::unistd::Pid;
use serde_json::{Map, Value, json};

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
    write(fd, &json!({"event": "started", "pid": child.as_raw(), "namespaces": namespaces}));
}

pub fn exited(fd: i32, ending: Ending, exceeded: Option<&Exceeded>) {
    let mut line = match ending {
        Ending::Exit(code) => json!({"event": "exited", "code": code}),
        Ending::Signal(number) => json!({"event": "exited", "signal": signals::name(number)}),
    };
    if let Some(exceeded) = exceeded {
        line["limit"] = exceeded.limit.into();
    }
    write(fd, &line);
}

pub fn borrow(fd: i32) -> BorrowedFd<'static> {
    // SAFETY: the descriptor was checked when the options were read, and stays open.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// A reader that is gone does not matter, the child does. SIGPIPE must be blocked. Any other failure is reported.
fn write(fd: i32, line: &Value) {
    let written = borrow(fd)
        .try_clone_to_owned()
        .and_then(|file| std::fs::File::from(file).write_all(format!("{line}\n").as_bytes()));
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            chain::warn(chain::Tool::Isolate, format_args!("--status-fd {fd}: {error}"));
        }
        _ => {}
    }
}
