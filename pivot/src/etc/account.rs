//! The root's users and groups, and the caller's own if it has no entry for it.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use anyhow::{Context, Result};
use chain::account::{Sort, entry};
use chain::{Tool, id_map, open_inside, read_small, warn};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::{getegid, geteuid};

/// /etc/passwd with an entry for the caller's id; None where it has one.
pub fn passwd(tree: &OwnedFd) -> Result<Option<Vec<u8>>> {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    let own = of_root(tree, "etc/passwd")?;
    if entry(&own, uid).is_some() {
        return Ok(None);
    }
    let host = std::fs::read("/etc/passwd").unwrap_or_default();
    let known = entry(&host, outside(Sort::User, uid));
    let home = match known.as_ref().and_then(|fields| fields.get(5)) {
        Some(home) if home.starts_with(b"/") => home.to_vec(),
        _ => b"/".to_vec(),
    };
    let mut line = free_name(&own, known.map(|fields| fields[0]), uid, "user");
    line.extend_from_slice(format!(":x:{uid}:{gid}::").as_bytes());
    line.extend_from_slice(&home);
    line.extend_from_slice(b":/bin/sh\n");
    Ok(Some(with(own, &line)))
}

/// /etc/group with an entry for the caller's group; None where it has one.
pub fn group(tree: &OwnedFd) -> Result<Option<Vec<u8>>> {
    let gid = getegid().as_raw();
    let own = of_root(tree, "etc/group")?;
    if entry(&own, gid).is_some() {
        return Ok(None);
    }
    let host = std::fs::read("/etc/group").unwrap_or_default();
    let known = entry(&host, outside(Sort::Group, gid));
    let mut line = free_name(&own, known.map(|fields| fields[0]), gid, "group");
    line.extend_from_slice(format!(":x:{gid}:\n").as_bytes());
    Ok(Some(with(own, &line)))
}

/// The home of the caller's entry.
pub fn home(tree: &OwnedFd) -> Result<Option<OsString>> {
    let own = of_root(tree, "etc/passwd")?;
    let home = entry(&own, geteuid().as_raw()).and_then(|fields| fields.get(5).copied());
    Ok(home.filter(|home| home.starts_with(b"/")).map(|home| OsString::from_vec(home.to_vec())))
}

fn of_root(tree: &OwnedFd, path: &str) -> Result<Vec<u8>> {
    match open_inside(tree, Path::new(path), OFlag::O_RDONLY | OFlag::O_NONBLOCK) {
        Ok(file) => read_small(file).with_context(|| format!("/{path} in the root")),
        Err(error) if error.downcast_ref() == Some(&Errno::ENOENT) => Ok(Vec::new()),
        Err(error) => Err(error.context(format!("/{path} in the root"))),
    }
}

/// The host's name for the id, but for one by which the root means somebody else.
fn free_name(table: &[u8], name: Option<&[u8]>, id: u32, sort: &str) -> Vec<u8> {
    let taken = |name: &[u8]| table.split(|&b| b == b'\n').any(|line| line.split(|&b| b == b':').next() == Some(name));
    let numbered = format!("{sort}{id}").into_bytes();
    match name.filter(|name| !name.is_empty()) {
        Some(name) if taken(name) => {
            let name = String::from_utf8_lossy(name);
            warn(
                Tool::Pivot,
                format_args!("{name} is another {sort} in the root: the {sort} {id} is called {sort}{id}"),
            );
            numbered
        }
        Some(name) => name.to_vec(),
        None => numbered,
    }
}

/// What an id is called outside this user namespace. Its root is nobody that the host's table knows.
fn outside(sort: Sort, id: u32) -> u32 {
    let map = id_map::read(sort).unwrap_or_default();
    let found = map.iter().find_map(|range| range.outer.checked_add(range.position(id)?));
    found.filter(|_| id != 0).unwrap_or(id)
}

fn with(mut table: Vec<u8>, line: &[u8]) -> Vec<u8> {
    if table.last().is_some_and(|&last| last != b'\n') {
        table.push(b'\n');
    }
    table.extend_from_slice(line);
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_added_on_a_line_of_its_own() {
        assert_eq!(with(b"a:x:1".to_vec(), b"b:x:2\n"), b"a:x:1\nb:x:2\n");
        assert_eq!(with(Vec::new(), b"b\n"), b"b\n");
    }

    #[test]
    fn a_name_that_the_root_has_for_another_is_not_taken() {
        assert_eq!(free_name(b"me:x:7:", Some(b"me"), 9, "user"), b"user9");
        assert_eq!(free_name(b"me:x:7:", Some(b"you"), 9, "user"), b"you");
        assert_eq!(free_name(b"", None, 9, "group"), b"group9");
    }
}
