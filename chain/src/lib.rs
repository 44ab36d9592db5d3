//! The contract between the links of a chain: how arguments, exit statuses, errors, descriptors and
//! a finished root pass from one tool to the next. It knows nothing of images, namespaces or mounts
//! beyond what every link needs.

mod arena;
pub mod attach;
mod carry;
mod cli;
mod command;
mod environment;
mod escape_fd;
#[cfg(feature = "fuzz")]
pub mod fuzz;
pub mod handoff;
mod image;
mod inside;
mod layout;
mod mount_remap;
pub mod mounts;
mod namespace;
mod parent;
#[doc(hidden)]
pub mod plain_line;
mod plan;
pub mod receipt;
mod report;
pub mod retry_eintr;
pub mod shell;
mod small_file;
mod start;
pub mod sys;
mod umask;

pub use arena::Arena;
pub use carry::{Carry, HostTree};
pub use cli::{Common, main, main_or};
pub use command::Command;
pub use environment::Environment;
pub use escape_fd::{EscapeFd, escape_fd, escape_fd_on_streams, inherited, passed_on};
pub use image::{Image, User};
pub use inside::open_inside;
pub use mount_remap::MountRemap;
pub use namespace::{at_root_of_mount_namespace, in_own_mount_namespace, mount_namespace_id, own_mount_namespace};
pub use parent::{die_with_parent, leave};
pub use plain_line::PlainLine;
pub use plan::{HasCarry, Link, Rest, Step, named};
pub use report::{Hint, WithHint, drives_terminal, fail, message, one_line, print, warn};
pub use small_file::read_small;
pub use start::started;
pub use umask::Umask;

use std::ffi::OsStr;

/// Exit status of a tool of ours that failed before COMMAND ran, as env(1) and timeout(1) have it.
pub const FAILED: u8 = 125;
/// COMMAND was found but could not be executed.
pub const NOT_EXECUTABLE: u8 = 126;
/// COMMAND was not found.
pub const NOT_FOUND: u8 = 127;

/// The four tools. A bare command word that is one of their names means the binary beside the
/// running one, never one from an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    Unpack,
    Isolate,
    Pivot,
    Mountclean,
}

impl Tool {
    pub const ALL: [Tool; 4] = [Tool::Unpack, Tool::Isolate, Tool::Pivot, Tool::Mountclean];

    pub fn name(self) -> &'static str {
        match self {
            Tool::Unpack => "unpack",
            Tool::Isolate => "isolate",
            Tool::Pivot => "pivot",
            Tool::Mountclean => "mountclean",
        }
    }

    pub fn from_word(word: &OsStr) -> Option<Tool> {
        Tool::ALL.into_iter().find(|tool| word == tool.name())
    }
}
