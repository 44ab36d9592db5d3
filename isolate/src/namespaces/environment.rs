//! The environment of a process to join.

use std::ffi::OsString;
use std::fs::{File, read};
use std::io::{Error, ErrorKind, Read, Write};
use std::os::unix::ffi::OsStringExt;

use anyhow::{Context, Result};
use chain::{leave, pidfd};
use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl::set_dumpable;
use nix::unistd::pipe2;

use crate::process::{Ending, ending_of, fork};

pub fn of(pid: i32, joins_user: bool) -> Result<Vec<(OsString, OsString)>> {
    let path = format!("/proc/{pid}/environ");
    let entries = read(&path).or_else(|refused| match refused.kind() {
        ErrorKind::PermissionDenied if joins_user => read_inside(pid, &path).ok_or(refused),
        _ => Err(refused),
    });
    let pair = |entry: &[u8]| {
        let at = entry.iter().position(|&byte| byte == b'=')?;
        let text = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        Some((text(&entry[..at]), text(&entry[at + 1..])))
    };
    Ok(entries.context(path)?.split(|&byte| byte == 0).filter_map(pair).collect())
}

/// A process with other ids than ours can be read only with the capabilities that its user namespace gives (ptrace(2)). A
/// child gets them, and nothing that a process inside could take from it: it cannot be traced (PR_SET_DUMPABLE).
fn read_inside(pid: i32, path: &str) -> Option<Vec<u8>> {
    let process = pidfd::of(pid).ok()?;
    let (from_child, to_parent) = pipe2(OFlag::O_CLOEXEC).ok()?;
    let Some(child) = fork().ok()? else {
        let told = set_dumpable(false)
            .and_then(|()| setns(process, CloneFlags::CLONE_NEWUSER))
            .map_err(Error::from)
            .and_then(|()| read(path))
            .and_then(|entries| File::from(to_parent).write_all(&entries));
        leave(told.is_err().into())
    };
    drop(to_parent);
    let mut entries = Vec::new();
    let heard = File::from(from_child).read_to_end(&mut entries);
    let ending = ending_of(child).ok()?;
    (heard.is_ok() && matches!(ending, Ending::Exit(0))).then_some(entries)
}
