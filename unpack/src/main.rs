#![no_main]

mod heap;

use std::ffi::OsString;
use std::path::PathBuf;

use chain::Tool;
use chain::handoff::{Promise, absolute};
use clap::CommandFactory;
use unpack::args::Args;
use unpack::status::Status;

#[global_allocator]
static HEAP: heap::Heap = heap::Heap;

chain::start!(main_of_words);

fn main_of_words(words: Vec<OsString>) -> u8 {
    let again = words.clone();
    chain::main_or(Tool::Unpack, words, unpack::run, |error| break_the_promise(again, error))
}

/// Wrong usage is a failed unpack as well: a pivot that waits for a root must not take our silence
/// for the command's data, and start it in what an earlier unpack left. As far as the arguments can
/// be understood, its path is written, and its newline never; and --status-fd is told.
fn break_the_promise(words: Vec<OsString>, error: &anyhow::Error) {
    let words = std::iter::once("unpack".into()).chain(words);
    let Ok(understood) = Args::command().ignore_errors(true).try_get_matches_from(words) else { return };
    Status::of_wrong_usage(understood.get_one("status_fd")).failed(error);
    let root = understood.get_one::<PathBuf>("root").cloned().unwrap_or_else(|| "./root".into());
    if let Ok(root) = absolute(&root) {
        let _broken = Promise::begin(&root);
    }
}
