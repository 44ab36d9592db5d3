//! How pivot learns from unpack, through the pipe between them, that the root is complete.
//!
//! The protocol is one line of text: the root's absolute path as soon as unpack has parsed its
//! arguments, and the newline only when the root is complete.

pub(crate) mod first_line;
mod terminal;

use std::io::{IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

pub use crate::receipt::path as receipt_path;
pub use first_line::{Expect, may_come, receive};
pub use terminal::stdin_from_terminal;

/// The path by which both ends of a handoff name a root: its parent as the kernel resolves it, and
/// its own name. The root itself need not be there yet.
pub fn absolute(root: &Path) -> Result<PathBuf> {
    let (parent, name) = match (root.parent(), root.file_name()) {
        (Some(parent), Some(name)) => (parent, name),
        _ => return root.canonicalize().with_context(|| root.display().to_string()),
    };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    Ok(parent.canonicalize().with_context(|| parent.display().to_string())?.join(name))
}

/// A root's path on stdout whose newline is still owed: written when the root is complete, and
/// never otherwise, so that read(1) and pivot reject an incomplete line.
#[must_use]
pub struct Promise(PathBuf);

impl Promise {
    /// Writes the path without its newline; on a terminal nothing yet.
    pub fn begin(root: &Path) -> Result<Promise> {
        ensure!(!root.as_os_str().as_bytes().contains(&b'\n'), "{}: a newline in the path of ROOT", root.display());
        if !std::io::stdout().is_terminal() {
            write(root.as_os_str().as_bytes())?;
        }
        Ok(Promise(root.to_owned()))
    }

    /// The root is complete.
    pub fn keep(self) -> Result<()> {
        if std::io::stdout().is_terminal() {
            write(self.0.as_os_str().as_bytes())?;
        }
        write(b"\n")
    }
}

fn write(bytes: &[u8]) -> Result<()> {
    let mut stdout = std::io::stdout();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).context("standard output")
}
