//! The child, from clone to its end: how it is made, guarded, waited for, and how isolate ends as it did.

mod decision;
mod disposition;
mod flow;
mod gate;
mod group_signals;
mod guard;
mod last_words;
mod listener;
mod pty;
pub mod reaper;
mod relay;
mod session;
mod start;
pub mod status;
mod terminal;
mod waiting;

pub use session::Session;
pub use start::{Start, start};
