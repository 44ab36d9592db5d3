//! The process that another isolate has started, by what it writes to its --status-fd: a file that may not be there yet.

use std::fs::{File, metadata, read_to_string};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use chain::status_fd::VERSION;
use chain::{Tool, WithHint, warn};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::{read, retry_on_intr};
use serde_json::Value;

/// After this it is said what is being waited for.
const PATIENCE: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// Waits until the file says that a process has started. An error where it has ended since.
pub fn wait_for(file: &Path) -> Result<i32> {
    let shown = || file.display().to_string();
    if metadata(file).is_ok_and(|metadata| metadata.file_type().is_fifo()) {
        return started(&first_line(file).with_context(shown)?).with_context(shown)?.context("it names no process");
    }
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let watch = inotify::init(CreateFlags::CLOEXEC).context("inotify")?;
    let changes = WatchFlags::CREATE | WatchFlags::MODIFY | WatchFlags::MOVED_TO;
    inotify::add_watch(&watch, parent, changes).with_context(|| parent.display().to_string())?;
    let mut patience = Some(&PATIENCE);
    loop {
        let text = match read_to_string(file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            text => text.with_context(shown)?,
        };
        if let Some(pid) = started(&text).with_context(shown)? {
            return Ok(pid);
        }
        if retry_on_intr(|| poll(&mut [PollFd::new(&watch, PollFlags::IN)], patience))? == 0 {
            warn(Tool::Isolate, format_args!("waiting for a process to start, as {} will say", file.display()));
            patience = None;
        } else {
            retry_on_intr(|| read(&watch, &mut [0; 4096]))?;
        }
    }
}

fn first_line(fifo: &Path) -> Result<String> {
    let mut line = String::new();
    BufReader::new(File::open(fifo)?).read_line(&mut line)?;
    Ok(line)
}

/// The process of the last line that tells of a start; None as long as there is no such line, whole.
fn started(text: &str) -> Result<Option<i32>> {
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let mut process = None;
    for line in whole {
        let line: Value = serde_json::from_str(line).context("not what isolate writes to --status-fd")?;
        if line["version"] != VERSION {
            let other = anyhow!("its lines have version {}, and this isolate reads version {VERSION}", line["version"]);
            return Err(other).hint("use the same isolate for both");
        }
        match line["event"].as_str() {
            Some("started") => process = Some(line),
            Some("exited" | "failed") => {
                return Err(anyhow!("the process has ended")).hint("start it again, with a new file for --status-fd");
            }
            _ => {}
        }
    }
    let Some(process) = process else { return Ok(None) };
    let pid = process["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).context("it names no process")?;
    is_still(pid, &process["namespaces"])?;
    Ok(Some(pid))
}

/// The number may be another process's by now: it must be in the namespaces that the file tells of.
fn is_still(pid: i32, namespaces: &Value) -> Result<()> {
    for (kind, inode) in namespaces.as_object().into_iter().flatten() {
        let file = PathBuf::from(format!("/proc/{pid}/ns/{kind}"));
        let same = metadata(&file).is_ok_and(|metadata| Some(metadata.ino()) == inode.as_u64());
        if !same {
            return Err(anyhow!("process {pid} has ended, or is in other namespaces by now"))
                .hint("the file is of an earlier run: give each run a new one");
        }
    }
    Ok(())
}
