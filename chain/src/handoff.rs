//! How pivot learns from unpack, through the pipe between them, that the root is complete.
//!
//! The protocol is one line of text: the root's absolute path as soon as unpack has parsed its
//! arguments, and the newline only when the root is complete.

pub(crate) mod first_line;
mod peek;
mod peer;
mod receive;
mod terminal;
mod writer;

use std::ffi::CStr;
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nix::sys::stat::fstat;

pub use crate::receipt::path as receipt_path;
use crate::report;
pub use first_line::Expect;
pub use receive::{described, may_come, note_writer, receive};
pub use terminal::{started_with_ampersand_in_a_script, stdin_from_terminal};
pub use writer::Writer;

/// The name of isolate's guard (PR_SET_NAME), which never writes to the pipe.
pub const GUARD: &CStr = c"chainroot-guard";

/// The path by which both ends of a handoff name a root: its resolved parent, and its own name. The root need not exist
/// yet.
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
pub struct Promise {
    root: PathBuf,
    /// Nothing is written before the root is complete.
    at_the_end: bool,
}

impl Promise {
    /// Writes the path without its newline. On a terminal, and in a log that messages go to as well, the
    /// whole line comes at the end: path and message never share one.
    pub fn begin(root: &Path) -> Result<Promise> {
        ensure!(!root.as_os_str().as_bytes().contains(&b'\n'), "{}: a newline in the path of ROOT", root.display());
        let at_the_end = std::io::stdout().is_terminal() || messages_go_there_too();
        if !at_the_end {
            write(root.as_os_str().as_bytes())?;
        }
        Ok(Promise { root: root.to_owned(), at_the_end })
    }

    /// The root is complete.
    pub fn keep(self) -> Result<()> {
        let mut line = if self.at_the_end { self.root.into_os_string().into_encoded_bytes() } else { Vec::new() };
        line.push(b'\n');
        write(&line)
    }
}

fn messages_go_there_too() -> bool {
    let file = |fd| fstat(fd).map(|stat| (stat.st_dev, stat.st_ino));
    let (stdout, stderr) = (std::io::stdout(), std::io::stderr());
    matches!((file(stdout.as_fd()), file(stderr.as_fd())), (Ok(out), Ok(err)) if out == err)
}

fn write(bytes: &[u8]) -> Result<()> {
    report::print(bytes).context("standard output")
}
