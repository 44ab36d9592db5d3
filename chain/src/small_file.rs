//! Files that programs look things up in, such as passwd, where a root may have put anything in their place.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;

use anyhow::{Result, bail};

/// No table of users, and no description of an image, is larger.
const LARGEST: u64 = 64 << 20;

/// What is in a file that was opened without waiting (O_NONBLOCK): a fifo or a device is an error, and so is a file
/// without end.
pub fn read_small(file: OwnedFd) -> Result<Vec<u8>> {
    let file = File::from(file);
    if !file.metadata()?.is_file() {
        bail!("not a regular file");
    }
    let mut content = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut content)?;
    if content.len() as u64 > LARGEST {
        bail!("larger than {} MiB", LARGEST >> 20);
    }
    Ok(content)
}
