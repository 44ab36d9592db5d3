//! An image, file or stream, becomes a root directory, all or nothing.

pub mod args;
pub mod budget;
pub mod digest;
pub mod frame;
pub mod stream;

use std::process::ExitCode;

/// The whole of unpack after its arguments are parsed.
pub fn run(_: args::Args) -> anyhow::Result<ExitCode> {
    anyhow::bail!("extraction is not built yet")
}
