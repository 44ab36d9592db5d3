//! The contract between the links of a chain: how arguments, exit statuses, errors, descriptors and
//! a finished root pass from one tool to the next. It knows nothing of images, namespaces or mounts
//! beyond what every link needs.

pub mod account;
mod arena;
pub mod attach;
pub mod capabilities;
mod carry;
mod cli;
mod command;
mod covered_proc;
pub mod defaults;
mod environment;
mod escape_fd;
pub mod failures;
mod file_kind;
mod flock;
#[cfg(feature = "fuzz")]
pub mod fuzz;
pub mod handoff;
pub mod id_map;
mod image;
mod inside;
mod layout;
mod lent_caps;
mod meant;
mod mount_remap;
pub mod mountinfo;
pub mod mounts;
mod names;
mod namespace;
mod namespace_limit;
mod owner;
mod parent;
pub mod pidfd;
#[doc(hidden)]
pub mod plain_line;
mod plan;
pub mod receipt;
mod report;
pub mod retry_eintr;
pub mod security_module;
pub mod shell;
mod small_file;
mod start;
pub mod status_fd;
pub mod store;
pub mod sys;
mod tool;
mod umask;
pub mod why_denied;
pub mod xattr;

pub use arena::Arena;
pub use carry::{Carry, HostTree};
pub use cli::{Common, main, main_or};
pub use command::Command;
pub use covered_proc::{why_no_new_proc, why_no_new_sysfs};
pub use environment::Environment;
pub use escape_fd::{EscapeFd, escape_fd, escape_fd_on_streams, inherited, passed_on};
pub use file_kind::file_kind;
pub use flock::{lock_alone, wait_to_lock_alone};
pub use image::{Image, User};
pub use inside::{MOST_LINKS, open_inside};
pub use mount_remap::MountRemap;
pub use names::names_in;
pub use namespace::{at_root_of_mount_namespace, in_own_mount_namespace, mount_namespace_id, own_mount_namespace};
pub use namespace_limit::why_no_new_namespace;
pub use parent::{die_with_parent, leave};
pub use plain_line::PlainLine;
pub use plan::{HasCarry, Link, Rest, Step, named};
pub use report::{Hint, WithHint, drives_terminal, fail, hinted, message, one_line, print, status_of, warn};
pub use small_file::read_small;
pub use start::started;
pub use tool::{FAILED, NOT_EXECUTABLE, NOT_FOUND, Tool};
pub use umask::Umask;
