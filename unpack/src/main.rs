use std::process::ExitCode;

fn main() -> ExitCode {
    chain::main(chain::Tool::Unpack, unpack::run)
}
