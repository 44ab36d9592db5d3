//! An entry of an archive, independent of the format.

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where its first header block is in the uncompressed stream.
    pub offset: u64,
    /// As stored, with PAX and GNU long names applied: not normalised, not empty, no NUL, perhaps no UTF-8.
    pub path: Vec<u8>,
    pub kind: Kind,
    /// Target of a hard link or symbolic link, as stored.
    pub link: Vec<u8>,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub mtime: Time,
    pub atime: Option<Time>,
    /// Length of a file's content, holes included; 0 for all other kinds.
    pub size: u64,
    /// Where the data of a sparse file goes, in order; its content is then these bytes back to back.
    pub sparse: Option<Vec<Segment>>,
    /// By name, each name once.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Text form, as stored.
    pub acl_access: Option<Vec<u8>>,
    pub acl_default: Option<Vec<u8>>,
    /// Whether it has an NFSv4 ACL.
    pub acl_nfs: bool,
    /// Major and minor number of a device.
    pub device: (u32, u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    File,
    HardLink,
    Symlink,
    CharDevice,
    BlockDevice,
    Directory,
    Fifo,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    pub seconds: i64,
    pub nanoseconds: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    pub offset: u64,
    pub length: u64,
}
