//! Small files such as passwd, in whose place a hostile root may have put anything.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;

use anyhow::{Result, bail};

/// No table of users, and no description of an image, is larger.
const LARGEST: u64 = 64 << 20;

/// The content of a file that was opened with O_NONBLOCK. A fifo, a device and a file without end are errors.
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
