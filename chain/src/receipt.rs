//! `ROOT.image.json`: the mark of a complete root, with its image's configuration. Every tool that relies on a receipt
//! reads it here, and believes only what nobody else could have written: a receipt that names ROOT proves nothing by
//! itself, for anyone can make a directory and stat it.

pub mod lock;

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, StatxFlags};
use rustix::io::Errno;
use serde_json::{Value, json};

use crate::account::Sort;
use crate::{id_map, sys};

/// An image's configuration has a budget far below; anything larger is no receipt.
const LARGEST: u64 = 64 << 20;
/// Group and others may not write.
const WRITABLE: u32 = 0o022;
/// What stat(2) shows of an owner who is not mapped in this user namespace (user_namespaces(7)).
const OVERFLOW: u32 = 65534;

/// Why a receipt vouches for nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// There is none.
    Missing,
    /// Somebody else could have written it, or could have changed what it names.
    Others(String),
    /// It is not a JSON object, or cannot be read.
    Damaged(String),
    /// It names another directory than the one beside it.
    OtherTree,
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Doubt::Missing => f.write_str("there is no receipt"),
            Doubt::Others(why) | Doubt::Damaged(why) => f.write_str(why),
            Doubt::OtherTree => f.write_str("its receipt is another directory's"),
        }
    }
}

/// `ROOT.image.json`, beside ROOT.
pub fn path(root: &Path) -> PathBuf {
    let mut name = root.file_name().map_or_else(OsString::new, OsString::from);
    name.push(".image.json");
    root.with_file_name(name)
}

/// Opens a receipt without trusting where its name leads. A FIFO must not block us, and a link of its name
/// may be anyone's (open(2): O_NOFOLLOW).
fn open_as(receipt: &Path, how: OFlags) -> Result<(OwnedFd, Stat), Doubt> {
    let flags = how | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let shown = receipt.display();
    let file = match rustix::io::retry_on_intr(|| rustix::fs::open(receipt, flags, Mode::empty())) {
        Err(Errno::NOENT) => return Err(Doubt::Missing),
        Err(Errno::LOOP) => return Err(Doubt::Others(format!("{shown} is a symbolic link"))),
        Err(error) => return Err(Doubt::Damaged(format!("{shown}: {}", crate::report::reason(error)))),
        Ok(file) => file,
    };
    let stat = rustix::fs::fstat(&file).map_err(|_| Doubt::Damaged(format!("{shown} cannot be looked at")))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Doubt::Damaged(format!("{shown} is not a regular file")));
    }
    Ok((file, stat))
}

/// A receipt to lock, not to read.
pub struct Found {
    /// Opened with O_PATH.
    pub file: OwnedFd,
    pub inode: (u64, u64),
    /// Nobody else can write it, or lock it for writing.
    pub ours: bool,
}

/// The receipt, not yet read.
pub fn find(receipt: &Path) -> Result<Found, Doubt> {
    let (file, stat) = open_as(receipt, OFlags::PATH)?;
    Ok(Found { file, inode: (stat.st_dev, stat.st_ino), ours: others(stat.st_uid, stat.st_mode).is_none() })
}

/// What a receipt says, if nobody else could have written it. The directory that it names is not checked.
pub fn read(receipt: &Path) -> Result<Value, Doubt> {
    let shown = receipt.display();
    let (file, stat) = open_as(receipt, OFlags::RDONLY)?;
    others(stat.st_uid, stat.st_mode).map_or(Ok(()), |who| Err(Doubt::Others(format!("{shown} {who}"))))?;
    let mut text = Vec::new();
    let read = File::from(file).take(LARGEST).read_to_end(&mut text);
    match read.map(|_| serde_json::from_slice(&text)) {
        Ok(Ok(value @ Value::Object(_))) => Ok(value),
        _ => Err(Doubt::Damaged(format!("{shown} is damaged"))),
    }
}

/// What the receipt says, if it vouches for this directory.
pub fn vouching(receipt: &Path, root: impl AsFd) -> Result<Value, Doubt> {
    let value = read(receipt)?;
    if !names(&value["root"], &root) {
        return Err(Doubt::OtherTree);
    }
    let stat = rustix::fs::fstat(&root).map_err(|_| Doubt::OtherTree)?;
    match others(stat.st_uid, stat.st_mode) {
        // The image itself may give its top directory away: then what matters is that nobody has since.
        Some(who) if value["root"]["access"] != access(&stat) => Err(Doubt::Others(who)),
        _ => Ok(value),
    }
}

/// Which directory this is: an inode's number is used again, its birth time is not. With it come owner and
/// mode, as the image wants them.
pub fn identity(root: impl AsFd) -> Result<Value, nix::errno::Errno> {
    let stat = rustix::fs::fstat(&root).map_err(sys::errno)?;
    let flags = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    let statx = rustix::fs::statx(&root, c"", AtFlags::EMPTY_PATH, flags).map_err(sys::errno)?;
    let birth = StatxFlags::from_bits_retain(statx.stx_mask).contains(StatxFlags::BTIME);
    Ok(json!({
        "device": format!("{}:{}", statx.stx_dev_major, statx.stx_dev_minor),
        "inode": statx.stx_ino,
        "birth": birth.then(|| [statx.stx_btime.tv_sec, statx.stx_btime.tv_nsec.into()]),
        "access": access(&stat),
    }))
}

/// Whether a receipt's words for a directory mean this one. Filesystems without a device of their own (btrfs, overlay,
/// NFS) get another number with each mount, so that it counts only where there is no birth time.
pub fn names(said: &Value, root: impl AsFd) -> bool {
    let Ok(is) = identity(root) else { return false };
    let same = |key: &str| said.get(key).is_some_and(|said| *said == is[key]);
    same("inode") && same("birth") && (same("device") || !is["birth"].is_null())
}

fn access(stat: &Stat) -> Value {
    json!([stat.st_uid, stat.st_gid, stat.st_mode & 0o7777])
}

/// Who besides the caller and root could change a file with this owner and mode.
pub fn others(owner: u32, mode: u32) -> Option<String> {
    let ours = owner == 0 || owner == rustix::process::geteuid().as_raw();
    if !ours {
        return Some(match owner {
            OVERFLOW if !id_map::is_mapped(Sort::User, owner) => {
                "belongs to a user who is not mapped in this user namespace".into()
            }
            owner => format!("belongs to another user ({owner})"),
        });
    }
    if owner == OVERFLOW && !id_map::is_mapped(Sort::User, owner) {
        return Some("belongs to a user who is not mapped in this user namespace".into());
    }
    // With an ACL the group's bits are its mask, the most that it gives to anyone (acl(5)).
    (mode & WRITABLE != 0).then(|| format!("can be written by others (mode {:04o})", mode & 0o7777))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    struct Scene(PathBuf);

    impl Scene {
        fn new(name: &str) -> Scene {
            let dir = std::env::temp_dir().join(format!("chain-receipt-{name}-{}", std::process::id()));
            std::fs::create_dir_all(dir.join("root")).unwrap();
            mode(&dir.join("root"), 0o755);
            Scene(dir)
        }

        fn receipt(&self, text: &str) -> PathBuf {
            let path = path(&self.0.join("root"));
            std::fs::write(&path, text).unwrap();
            mode(&path, 0o644);
            path
        }

        fn root(&self) -> File {
            File::open(self.0.join("root")).unwrap()
        }
    }

    impl Drop for Scene {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_receipt_vouches_for_its_own_directory_while_nobody_else_can_write_either() {
        let scene = Scene::new("own");
        let said = json!({ "root": identity(scene.root()).unwrap() });
        let receipt = scene.receipt(&said.to_string());
        assert_eq!(vouching(&receipt, scene.root()), Ok(said));
        for path in [&receipt, &scene.0.join("root")] {
            let was = path.metadata().unwrap().permissions().mode();
            for open in [was | 0o020, was | 0o002] {
                mode(path, open);
                assert!(matches!(vouching(&receipt, scene.root()), Err(Doubt::Others(_))), "{open:o}");
            }
            mode(path, was);
        }
        assert_eq!(vouching(&receipt, File::open(&scene.0).unwrap()), Err(Doubt::OtherTree));
    }

    #[test]
    fn a_root_that_the_image_gave_away_is_believed_as_long_as_it_stays_like_that() {
        let scene = Scene::new("given");
        mode(&scene.0.join("root"), 0o775);
        let receipt = scene.receipt(&json!({ "root": identity(scene.root()).unwrap() }).to_string());
        assert!(vouching(&receipt, scene.root()).is_ok());
        mode(&scene.0.join("root"), 0o777);
        assert!(matches!(vouching(&receipt, scene.root()), Err(Doubt::Others(_))));
    }

    #[test]
    fn links_fifos_and_anything_but_an_object_are_no_receipts() {
        let scene = Scene::new("kinds");
        let receipt = path(&scene.0.join("root"));
        assert_eq!(read(&receipt), Err(Doubt::Missing));
        for text in ["", "{", "[]", "1", "\"x\""] {
            assert!(matches!(read(&scene.receipt(text)), Err(Doubt::Damaged(_))), "{text}");
        }
        std::fs::rename(&receipt, scene.0.join("kept")).unwrap();
        symlink("kept", &receipt).unwrap();
        assert!(matches!(read(&receipt), Err(Doubt::Others(_))));
        std::fs::remove_file(&receipt).unwrap();
        nix::unistd::mkfifo(&receipt, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert!(matches!(read(&receipt), Err(Doubt::Damaged(_))));
    }
}
