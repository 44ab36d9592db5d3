//! What is made from the tools' own sources, so that help, manual and completions cannot say three different things, and
//! a hint is written once.

pub mod causes;
mod completions;
mod manual;
mod text;

use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory};

#[path = "../../isolate/src/args.rs"]
pub mod isolate;
#[path = "../../mountclean/src/args.rs"]
pub mod mountclean;
#[path = "../../pivot/src/args.rs"]
pub mod pivot;
#[path = "../../unpack/src/args.rs"]
pub mod unpack;

/// The workspace's directory.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is in the workspace")
}

/// Each tool's definition, with what its manual says beyond it.
pub fn tools() -> [(Command, &'static str); 4] {
    [
        (unpack::Args::command(), include_str!("../../docs/man/unpack.txt")),
        (isolate::Args::command(), include_str!("../../docs/man/isolate.txt")),
        (pivot::Args::command(), include_str!("../../docs/man/pivot.txt")),
        (mountclean::Args::command(), include_str!("../../docs/man/mountclean.txt")),
    ]
}

/// Every generated file, by its path in the workspace.
pub fn dist() -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    for (command, extra) in tools() {
        files.push((format!("man/{}.1", command.get_name()).into(), manual::page(&command, extra)));
        files.extend(completions::files(&command));
    }
    files.push(("docs/troubleshooting.md".into(), causes::page(include_str!("../../docs/troubleshooting.md"))));
    files
}
