//! What becomes of an image, as JSON lines for a program: `--status-fd N`.

use std::os::fd::RawFd;
use std::path::Path;

use anyhow::{Result, anyhow};
use chain::{Hint, Tool, WithHint, inherited, passed_on, status_fd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::FileType;
use rustix::io::{FdFlags, fcntl_setfd};
use serde_json::{Map, Value, json};

use crate::args::Args;
use crate::signals;

/// A copy of it writes to the same descriptor; to none where none was given.
#[derive(Clone, Copy)]
pub struct Status(Option<RawFd>);

impl Status {
    /// COMMAND has no part in the descriptor, unless it is one of its standard streams.
    pub fn of(args: &Args) -> Result<Status> {
        let Some(number) = args.status_fd.filter(|_| !args.common.explain) else { return Ok(Status(None)) };
        status_fd::usable(Tool::Unpack, number)?;
        if args.command.is_empty() && shares_standard_output(number) {
            return Err(anyhow!("--status-fd {number}: is where standard output goes, which is for the path"))
                .hint("another file or pipe, or standard error: --status-fd 2");
        }
        if let Some(fd) = inherited(number).filter(|_| number > 2) {
            fcntl_setfd(fd, FdFlags::CLOEXEC)?;
        }
        Ok(Status(Some(number)))
    }

    /// For a command line that is wrong elsewhere.
    pub fn of_wrong_usage(number: Option<&RawFd>) -> Status {
        Status(number.copied().filter(|&number| passed_on(number).is_some() && !shares_standard_output(number)))
    }

    pub fn is_wanted(self) -> bool {
        self.0.is_some()
    }

    pub fn started(self, root: &Path) {
        self.write(json!({"event": "started", "root": root.to_str()}));
    }

    /// Left out where it would have to wait, or where the reader has not even read the one before.
    pub fn progress(self, read: Option<u64>, extracted: u64, total: Option<u64>) {
        if self.is_ready() {
            self.write(json!({"event": "progress", "read": read, "extracted": extracted, "total": total}));
        }
    }

    /// ROOT is there, as `receipt` says.
    pub fn complete(self, root: &Path, receipt: &Value, reused: bool, warnings: &[String]) {
        let number = |(key, count): (&String, &Value)| (key.clone(), count["number"].clone());
        let skipped: Map<_, _> = receipt["skipped"].as_object().into_iter().flatten().map(number).collect();
        self.write(json!({
            "event": "complete",
            "root": root.to_str(),
            "receipt": chain::receipt::path(root).to_str(),
            "reused": reused,
            "skipped": skipped,
            "warnings": warnings,
        }));
    }

    /// Nothing but the message comes after it.
    pub fn failed(self, error: &anyhow::Error) {
        // A reader that is gone is no reason to die before the message.
        signals::block_pipe();
        let hint = error.downcast_ref::<Hint>().map(|hint| &hint.0);
        self.write(json!({
            "event": "exited",
            "code": chain::status_of(error),
            "failed": Tool::Unpack.name(),
            "message": chain::message(error),
            "hint": hint,
        }));
    }

    /// Left out where it would have to wait: a signal ends unpack at once.
    pub fn interrupted(self, signal: &str) {
        if self.is_ready() {
            self.write(json!({"event": "exited", "signal": signal, "failed": Tool::Unpack.name()}));
        }
    }

    fn is_ready(self) -> bool {
        let Some(fd) = self.0.and_then(inherited) else { return false };
        let ready =
            poll(&mut [PollFd::new(&fd, PollFlags::OUT)], Some(&Timespec::default())).is_ok_and(|ready| ready > 0);
        let is_pipe = rustix::fs::fstat(fd).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo);
        ready && (!is_pipe || rustix::io::ioctl_fionread(fd).is_ok_and(|unread| unread == 0))
    }

    /// Without fields that say nothing.
    fn write(self, mut line: Value) {
        if let Some(number) = self.0 {
            line.as_object_mut().into_iter().for_each(|fields| fields.retain(|_, value| !value.is_null()));
            status_fd::write(Tool::Unpack, number, line);
        }
    }
}

/// Whether lines and the path would mix, for the path's reader. A terminal's reader is a person.
fn shares_standard_output(number: RawFd) -> bool {
    let file = |number| rustix::fs::fstat(inherited(number)?).ok();
    let (Some(stdout), Some(status)) = (file(1), file(number)) else { return false };
    FileType::from_raw_mode(stdout.st_mode) != FileType::CharacterDevice
        && (stdout.st_dev, stdout.st_ino) == (status.st_dev, status.st_ino)
}
