//! The four tools, and the exit statuses that they share.

use std::ffi::OsStr;

/// Exit status of a tool that failed before COMMAND ran, as env(1) and timeout(1) have it.
pub const FAILED: u8 = 125;
/// COMMAND was found but could not be executed.
pub const NOT_EXECUTABLE: u8 = 126;
/// COMMAND was not found.
pub const NOT_FOUND: u8 = 127;

/// The variable in which a link finds what the previous one left. No foreign command gets to see it.
pub(crate) const CARRY: &str = "CHAINROOT_CARRY";

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
