//! `cargo xtask dist`: writes the manual pages, completions and the table of causes that are committed.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;

const USAGE: &str = "\
usage: cargo xtask dist [DIR]

Writes man/, completions/ and docs/troubleshooting.md into DIR, the workspace where none is given,
from the tools' own definitions (TOOL/src/args.rs), docs/man/TOOL.txt, and the rows that stand beside
the hints in the sources.";

fn main() -> anyhow::Result<ExitCode> {
    #[expect(clippy::disallowed_methods, reason = "no tool of the chain: std starts it")]
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let dir = match words[..] {
        ["dist"] => xtask::workspace(),
        ["dist", dir] => Path::new(dir),
        ["-h" | "--help"] => {
            println!("{USAGE}");
            return Ok(ExitCode::SUCCESS);
        }
        _ => {
            eprintln!("{USAGE}");
            return Ok(ExitCode::from(2));
        }
    };
    for (name, text) in xtask::dist() {
        let file = dir.join(name);
        let parent = file.parent().unwrap_or(dir);
        std::fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
        std::fs::write(&file, text).with_context(|| file.display().to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}
