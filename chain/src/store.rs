//! A store of layers, as unpack keeps one and pivot mounts from it: `STORE/.lock`, and a byte of it for each layer.
//!
//! The lock file has mode 0600: a process that can open it can block the making and removing of a layer for ever.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};

use crate::receipt::lock::{Locked, byte_alone, byte_free, byte_in_use};

/// The lock file's name in its store.
pub const LOCK: &str = ".lock";
/// The seam's number in a stack: above that of any layer.
pub const SEAM: &str = "layer@9999";
/// As many lower directories as overlayfs takes (OVL_MAX_STACK).
pub const MOST: usize = 500;

/// systemd.mstack(7): the suffix is how a stack is known.
pub fn is_stack_name(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "mstack")
}

/// The names that unpack gives to a store's layers: by a digest, of one layer or of those that were flattened.
pub fn is_layer_name(name: &str) -> bool {
    let digest = name.strip_prefix("chain-").unwrap_or(name);
    ["sha256-", "sha512-", "blake3-"].iter().any(|algorithm| digest.starts_with(algorithm))
}

/// The locks of a store's layers, by one descriptor: they end with it.
#[derive(Debug)]
pub struct Locks(OwnedFd);

impl Locks {
    /// None where the caller cannot lock: in a store of another user's, or on a filesystem that is read-only.
    pub fn open(store: impl AsFd) -> Option<Locks> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let open = || rustix::fs::openat(&store, LOCK, flags, Mode::RUSR | Mode::WUSR);
        let file = rustix::io::retry_on_intr(open).ok()?;
        let stat = rustix::fs::fstat(&file).ok()?;
        let private = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_mode & 0o077 == 0;
        let ours = stat.st_uid == 0 || stat.st_uid == rustix::process::geteuid().as_raw();
        (private && ours).then_some(Locks(file))
    }

    /// Keeps a layer from being removed. Waits for one that is being removed now.
    pub fn in_use(&self, layer: &str) -> Locked {
        byte_in_use(&self.0, byte(layer, 0))
    }

    /// For removing a layer. Busy: something uses it.
    pub fn unused(&self, layer: &str) -> Locked {
        byte_alone(&self.0, byte(layer, 0), false)
    }

    /// For making a layer. Waits while another process makes it.
    pub fn making(&self, layer: &str) -> Locked {
        byte_alone(&self.0, byte(layer, 1), true)
    }

    pub fn made(&self, layer: &str) -> Locked {
        byte_free(&self.0, byte(layer, 1))
    }

    pub fn no_longer_in_use(&self, layer: &str) -> Locked {
        byte_free(&self.0, byte(layer, 0))
    }

    /// For a descriptor to pass on.
    pub fn into_file(self) -> File {
        self.0.into()
    }
}

impl From<OwnedFd> for Locks {
    /// A lock file that was opened for reading, which is enough for [`Locks::in_use`].
    fn from(file: OwnedFd) -> Locks {
        Locks(file)
    }
}

/// Two bytes for each layer, by the first 15 digits of its digest.
fn byte(layer: &str, which: i64) -> i64 {
    let digest = layer.trim_start_matches("chain-").split('-').nth(1).unwrap_or_default();
    let number = digest.get(..15).and_then(|digits| i64::from_str_radix(digits, 16).ok()).unwrap_or_default();
    2 * number + which
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receipt::lock::Lock;

    #[test]
    fn a_layer_is_known_by_its_name_whatever_digest_it_is() {
        let known = ["sha256-0-k", "sha512-0-k", "blake3-0-k", "chain-sha256-0-k"];
        assert!(known.into_iter().all(is_layer_name));
        assert!(!["thesis", "sha1-0", "sha256", "chain-", "layer@0", ".lock"].into_iter().any(is_layer_name));
    }

    #[test]
    fn a_layer_has_two_bytes_of_its_own() {
        let hex = "0123456789abcdef".repeat(4);
        assert_eq!(byte(&format!("sha256-{hex}-00000000"), 0), 2 * 0x0012_3456_789a_bcde);
        assert_eq!(byte(&format!("chain-sha256-{hex}-00000000"), 1), 2 * 0x0012_3456_789a_bcde + 1);
        assert_eq!(byte(&format!("sha256-{}", "f".repeat(64)), 0), 2 * 0xfff_ffff_ffff_ffff);
    }

    #[test]
    fn a_layer_in_use_is_not_removed_and_another_is() {
        let dir = std::env::temp_dir().join(format!("chain-store-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let store = File::open(&dir).unwrap();
        let (one, other) = (Locks::open(&store).unwrap(), Locks::open(&store).unwrap());
        let (layer, next) = (format!("sha256-{}-k", "1".repeat(64)), format!("sha256-{}-k", "2".repeat(64)));
        assert_eq!(one.in_use(&layer), Ok(Lock::Held));
        assert_eq!(other.in_use(&layer), Ok(Lock::Held));
        assert_eq!(other.no_longer_in_use(&layer), Ok(Lock::Held));
        assert_eq!(other.unused(&layer), Ok(Lock::Busy));
        assert_eq!(other.unused(&next), Ok(Lock::Held));
        drop(one);
        assert_eq!(other.unused(&layer), Ok(Lock::Held));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
