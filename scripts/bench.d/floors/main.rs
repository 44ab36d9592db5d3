//! The floors for extracting an image; each prints the nanoseconds that it took.
//!
//! ```text
//! floors decompress FILE THREADS   decompression alone, with unpack's libraries
//! floors hash FILE                 SHA-256 alone
//! floors write TAR ROOT THREADS    the tree of TAR written from memory
//! ```

mod decompress;
mod write;

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};

fn main() -> Result<()> {
    #[expect(clippy::disallowed_methods, reason = "no tool of the chain: std starts it")]
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let nanoseconds = match words[..] {
        ["decompress", file, threads] => {
            let begun = Instant::now();
            decompress::to_nowhere(Path::new(file), threads.parse()?)?;
            begun.elapsed()
        }
        ["hash", file] => {
            let begun = Instant::now();
            decompress::hash(Path::new(file))?;
            begun.elapsed()
        }
        ["write", tar, root, threads] => {
            let bytes = std::fs::read(tar).context(tar.to_owned())?;
            let tree = write::Tree::of(&bytes)?;
            let threads = threads.parse()?;
            let begun = Instant::now();
            tree.write(Path::new(root), threads)?;
            begun.elapsed()
        }
        _ => bail!("usage: floors decompress FILE THREADS | hash FILE | write TAR ROOT THREADS"),
    };
    println!("{}", nanoseconds.as_nanos());
    Ok(())
}
