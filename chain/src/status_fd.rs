//! `--status-fd N`: JSON lines for the program that waits for a tool.

use std::os::fd::RawFd;

use anyhow::{Result, anyhow, bail};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout};
use serde_json::Value;

use crate::retry_eintr::{poll, retry};
use crate::{Tool, WithHint, inherited, warn};

/// Of the lines: raised when a field changes its meaning or goes, not when one is added.
pub const VERSION: u32 = 1;

/// The descriptor, where lines can be written to it.
pub fn usable(tool: Tool, number: RawFd) -> Result<RawFd> {
    if number < 0 {
        bail!("--status-fd {number}: not a descriptor");
    }
    let why = match inherited(number).map(|fd| fcntl(fd, FcntlArg::F_GETFL)).transpose()? {
        None => "it is not open",
        Some(flags) if OFlag::from_bits_truncate(flags) & OFlag::O_ACCMODE == OFlag::O_RDONLY => {
            "it is open for reading only"
        }
        Some(_) => return Ok(number),
    };
    Err(anyhow!("--status-fd {number}: {why}"))
        .hint(format!("in a shell: {} --status-fd {number} … {number}>FILE", tool.name()))
}

/// Writes a line, whole. A reader that is gone does not matter, what the tool does for others does; any other failure is
/// reported. SIGPIPE must be ignored or blocked.
pub fn write(tool: Tool, number: RawFd, mut line: Value) {
    let Some(fd) = inherited(number) else { return };
    line["version"] = VERSION.into();
    let text = format!("{line}\n");
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        match retry(|| nix::unistd::write(fd, rest)) {
            Ok(count) => rest = &rest[count..],
            // The reader's end of a socket or pipe may have made ours non-blocking.
            Err(Errno::EAGAIN) => {
                let _ = poll(&mut [PollFd::new(fd, PollFlags::POLLOUT)], PollTimeout::NONE);
            }
            // EBADF: it is not open for writing, which is what the tool has just failed for.
            Err(Errno::EPIPE | Errno::EBADF) => return,
            Err(error) => return warn(tool, format_args!("--status-fd {number}: {}", error.desc())),
        }
    }
}
