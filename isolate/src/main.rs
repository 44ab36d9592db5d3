use std::process::ExitCode;

use chain::Tool;

#[global_allocator]
static ARENA: chain::Arena = chain::Arena;

fn main() -> ExitCode {
    chain::main(Tool::Isolate, isolate::run)
}
