//! The mounts of this process as proc_pid_mountinfo(5) lists them, with what listmount(2) does not tell.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};
use nix::sys::statfs::FsType;

use crate::WithHint;
use crate::retry_eintr::statfs;

const PROC_SUPER_MAGIC: FsType = FsType(0x9fa0);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub id: u64,
    pub parent: u64,
    /// The directory of the filesystem that is mounted here.
    pub root: PathBuf,
    /// Relative to this process's root.
    pub point: PathBuf,
    /// It passes mounts on to its peers (mount_namespaces(7)).
    pub is_shared: bool,
    /// It receives mounts from them.
    pub is_slave: bool,
    /// Such as `cgroup2` or `overlay`.
    pub kind: String,
    /// The filesystem's own options, each still escaped: only in that form do commas separate them.
    options: Vec<u8>,
}

impl Entry {
    /// The filesystem's own options, in the kernel's escapes.
    pub fn options(&self) -> impl Iterator<Item = &[u8]> {
        self.options.split(|&b| b == b',')
    }
}

pub fn read() -> Result<Vec<Entry>> {
    // Between pivot_root and the detach the host's /proc can be reached above the root.
    let path = ["/proc/self/mountinfo", "/../proc/self/mountinfo"]
        .into_iter()
        .find(|path| statfs(*path).is_ok_and(|fs| fs.filesystem_type() == PROC_SUPER_MAGIC))
        .ok_or_else(|| anyhow!("/proc: not mounted, so the mounts cannot be listed"))
        .hint("mount -t proc proc /proc")?;
    let text = std::fs::read(path).context(path)?;
    text.split(|&b| b == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| parse(line).ok_or_else(|| anyhow!("{path}: {:?}", String::from_utf8_lossy(line))))
        .collect()
}

fn parse(line: &[u8]) -> Option<Entry> {
    let mut fields = line.split(|&b| b == b' ');
    let mut number = || std::str::from_utf8(fields.next()?).ok()?.parse().ok();
    let (id, parent) = (number()?, number()?);
    let mut path = fields.skip(1);
    let (root, point) = (path.next()?, path.next()?);
    // The mount's options, then any number of optional fields up to a dash.
    let mut rest = path.skip(1);
    let (mut is_shared, mut is_slave) = (false, false);
    for field in rest.by_ref().take_while(|&field| field != b"-") {
        is_shared |= field.starts_with(b"shared:");
        is_slave |= field.starts_with(b"master:");
    }
    let kind = String::from_utf8_lossy(rest.next()?).into_owned();
    let options = rest.nth(1).unwrap_or_default().to_vec();
    let unescaped = |text| PathBuf::from(OsString::from_vec(unescaped(text)));
    Some(Entry { id, parent, root: unescaped(root), point: unescaped(point), is_shared, is_slave, kind, options })
}

/// Space, tab, newline and backslash are octal in mountinfo, and so is what a filesystem escapes in its options.
pub fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        let octal = (first == b'\\').then(|| after.get(..3)).flatten();
        let value = octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        plain.push(value.unwrap_or(first));
        rest = if value.is_some() { &after[3..] } else { after };
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_with_its_escapes() {
        let line = br"36 35 98:0 /mnt\0401 /a\040b\134c rw,noatime master:1 shared:2 - cgroup /dev/root rw,cpu,cpuacct";
        let entry = parse(line).unwrap();
        assert_eq!((entry.id, entry.parent, entry.is_shared, entry.is_slave), (36, 35, true, true));
        assert_eq!((entry.root, entry.point), ("/mnt 1".into(), r"/a b\c".into()));
        let line = b"36 35 98:0 / /a rw - cgroup2 shared:2 rw,cpu";
        let entry = parse(line).unwrap();
        assert_eq!((entry.kind.as_str(), entry.is_shared), ("cgroup2", false));
        assert_eq!(entry.options().collect::<Vec<_>>(), [&b"rw"[..], b"cpu"]);
        for cut in [&b"36"[..], b"36 35 98:0 / /a rw master:1", b"36 35 98:0 / /a rw -"] {
            assert_eq!(parse(cut), None);
        }
        assert_eq!(unescaped(br"\9\04\"), br"\9\04\");
    }
}
