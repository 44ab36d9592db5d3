#![no_main]

use std::ffi::OsString;

use chain::Tool;

#[global_allocator]
static ARENA: chain::Arena = chain::Arena::new();

chain::start!(main_of_words);

fn main_of_words(words: Vec<OsString>) -> u8 {
    chain::main(Tool::Pivot, words, pivot::run)
}
