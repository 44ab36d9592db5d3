//! An entry, from its header and the extended headers before it.

use std::io::Read;

use anyhow::{Result, bail};

use super::entry::{Entry, Kind};
use super::header::Header;
use super::{Archive, disagreement, records};
use crate::budget::within;

impl<R: Read> Archive<R> {
    /// The entry that `header` and the extended headers before it describe, the first of them at `start`. Its content is next.
    pub(super) fn assemble(&mut self, header: &mut Header, start: u64, at: u64) -> Result<Entry> {
        if self.extensions.has_pax() && !header.is_ustar() {
            self.strict(at, "an extended header before an entry that is not in ustar's format")?;
        }
        let extension = self.extensions.take();
        let mut path = extension.path.unwrap_or_else(|| std::mem::take(&mut header.path));
        let slash = path.last() == Some(&b'/');
        let (kind, carries_data) = match header.typeflag {
            b'1' => (Kind::HardLink, false),
            b'2' => (Kind::Symlink, false),
            b'3' => (Kind::CharDevice, false),
            b'4' => (Kind::BlockDevice, false),
            b'5' => (Kind::Directory, false),
            b'6' => (Kind::Fifo, false),
            // GNU's list of what a directory held when it was dumped.
            b'D' => (Kind::Directory, true),
            // As before ustar: a directory is a file whose name ends in a slash.
            0 | b'0' | b'7' if slash => (Kind::Directory, false),
            0 | b'0' | b'7' | b'S' => (Kind::File, true),
            other => {
                self.strict(at, format_args!("unknown type {:?}", char::from(other)))?;
                (Kind::File, true)
            }
        };
        let stored = extension.size.unwrap_or(header.size);
        if !carries_data && stored != 0 {
            self.strict(at, "an entry that has no content has a size")?;
        }
        if slash && matches!(header.typeflag, b'0' | b'7') {
            self.strict(at, "a file's name ends in a slash")?;
        }
        if kind == Kind::Directory && carries_data {
            self.strict(at, "a directory's content list")?;
        }
        let link = match kind {
            Kind::HardLink | Kind::Symlink => extension.link.unwrap_or_else(|| std::mem::take(&mut header.link)),
            _ => Vec::new(),
        };
        if path.is_empty() && kind == Kind::Directory {
            // GNU tar and umoci take it for the root.
            self.strict(at, "a directory without a name")?;
            path = b"./".to_vec();
        } else if path.is_empty() {
            bail!("at byte {at}: the name is empty");
        }
        if link.is_empty() && matches!(kind, Kind::HardLink | Kind::Symlink) {
            bail!("at byte {at}: the link's target is empty");
        }
        for name in [&path, &link] {
            within(
                name.len() as u64,
                self.limits.name,
                format_args!("at byte {at}: bytes of a name"),
                "--limit name=N",
            )?;
        }
        self.open(if carries_data { stored } else { 0 }, at)?;
        let mut entry = Entry {
            offset: start,
            kind,
            link,
            mode: header.mode,
            uid: extension.uid.unwrap_or(header.uid),
            gid: extension.gid.unwrap_or(header.gid),
            mtime: extension.mtime.unwrap_or(header.mtime),
            atime: extension.atime,
            size: if kind == Kind::File { stored } else { 0 },
            sparse: None,
            xattrs: extension.xattrs.into_iter().collect(),
            acl_access: extension.acl_access,
            acl_default: extension.acl_default,
            acl_nfs: extension.acl_nfs,
            device: match kind {
                Kind::CharDevice | Kind::BlockDevice => header.device(at)?,
                _ => (0, 0),
            },
            path,
        };
        if self.limits.strict
            && let Some(acl) = &entry.acl_access
            && (records::acl_mode(acl) != Some(entry.mode & 0o777) || !matches!(kind, Kind::File | Kind::Directory))
        {
            disagreement(at, "an ACL that does not go with the mode")?;
        }
        if entry.acl_default.is_some() && kind != Kind::Directory {
            self.strict(at, "a default ACL of what is no directory")?;
        }
        let sparse_records = extension.sparse.any();
        if kind == Kind::File
            && let Some((size, segments)) = self.sparse_map(header, extension.sparse, at)?
        {
            if sparse_records && header.typeflag != b'0' {
                self.strict(at, "records of a sparse file before an entry of another type")?;
            }
            if extension.size.is_some() {
                self.strict(at, "a sparse file with a size of its own in its extended header")?;
            }
            entry.size = size;
            entry.sparse = Some(segments);
        } else if sparse_records {
            self.strict(at, "records of a sparse file before what is none")?;
        }
        Ok(entry)
    }
}
