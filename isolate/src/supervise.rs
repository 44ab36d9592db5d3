//! The child, from clone to its end: how it is made, guarded, waited for, and how isolate ends as it did.

pub mod disposition;
pub mod ending;
pub mod fork;
pub mod gate;
pub mod guard;
pub mod init;
pub mod process;
pub mod status;
pub mod terminal;
pub mod waiting;
