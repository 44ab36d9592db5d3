//! Who waits for a chain learns here that one of its links has failed, which an exit status of 125 to 127 alone does not
//! say: COMMAND may end with any.

use std::os::fd::RawFd;
use std::sync::OnceLock;

use nix::unistd::write;

use crate::escape_fd::inherited;
use crate::tool::{CARRY, Tool};

/// A message: the tool by its place in `Tool::ALL`, and the status that it ends with.
pub type Failure = [u8; 2];

/// Those of the isolate whose child this process is. A later link has them from its environment.
static OWN: OnceLock<Vec<RawFd>> = OnceLock::new();

pub(crate) fn tell(to: Vec<RawFd>) {
    let _ = OWN.set(to);
}

/// Whether this process is a child that an isolate waits for.
pub fn are_told() -> bool {
    OWN.get().is_some()
}

pub(crate) fn report(tool: Tool, status: u8) {
    let lent = || {
        let text = std::env::var_os(CARRY)?;
        text.to_str()?.split(';').find_map(|field| field.strip_prefix("failures=")).and_then(from_text)
    };
    for number in OWN.get().cloned().or_else(lent).unwrap_or_default() {
        let _ = inherited(number).map(|fd| write(fd, &[tool as u8, status]));
    }
}

pub(crate) fn from_text(text: &str) -> Option<Vec<RawFd>> {
    text.split(',').map(|number| number.parse().ok().filter(|&number| number > 2)).collect()
}
