//! What an archive is, by the names of its first entries: a root file system streams through, a
//! layered image has to be read at many places.

use anyhow::{Result, anyhow};
use chain::WithHint;

use crate::args::Format;
use crate::budget::Limits;
use crate::frame::Archive;

/// As much of an archive's beginning as is looked at.
pub(super) const HEAD: usize = 64 << 10;

/// Whether the archive may be a layered image. False positives cost time and no more.
pub(super) fn may_be_layered(head: &[u8]) -> bool {
    let mut archive = Archive::new(head, Limits::default());
    // The head ends inside an entry, most often, which is an error and no evidence.
    while let Ok(Some(entry)) = archive.next() {
        if is_evidence(&entry.path) {
            return true;
        }
    }
    false
}

/// Names that layered images have at their top and root file systems have not.
fn is_evidence(path: &[u8]) -> bool {
    let path = super::members::normal(path);
    let mut parts = path.split(|&b| b == b'/');
    let first = parts.next().unwrap_or_default();
    let hex = |name: &[u8]| name.len() == 64 && name.iter().all(u8::is_ascii_hexdigit);
    match (first, parts.next()) {
        (b"manifest.json" | b"index.json" | b"oci-layout" | b"repositories", None) => true,
        (b"blobs", None | Some(b"sha256" | b"sha512")) => true,
        (_, Some(b"layer.tar")) => true,
        (id, None | Some(b"json" | b"VERSION")) if hex(id) => true,
        (name, None) => {
            let stem = name.strip_prefix(b"sha256:").unwrap_or(name);
            hex(stem.split(|&b| b == b'.').next().unwrap_or_default())
        }
        _ => false,
    }
}

/// Says what is wrong with a stream that cannot be an archive, before byte 0 of it is called damaged, or that is one
/// of nothing: that is what a failed command leaves, and no root that anything could run in.
pub(super) fn must_be_archive(head: &[u8], format: Format) -> Result<()> {
    if head.is_empty() {
        return Err(anyhow!("is empty")).hint("the command that should have made it may have failed");
    }
    match Archive::new(head, Limits::default()).next() {
        Ok(None) if format != Format::Rootfs => Err(anyhow!("is an archive without a single entry"))
            .hint("the command that should have made it may have failed; --format rootfs takes it all the same"),
        // What skopeo says while it copies goes to stdout, and so into the pipe, before the image.
        Err(_) if head.starts_with(b"Getting image source signatures") => {
            Err(anyhow!("begins with skopeo's progress, not with an image")).hint("skopeo copy --quiet")
        }
        Err(_) if !looks_like_header(head) => {
            Err(anyhow!("is no tar archive, nor one that gzip, xz, zstd or bzip2 compressed"))
        }
        _ => Ok(()),
    }
}

/// Whether the first block's checksum field holds its checksum, or nearly: a damaged header is still one.
fn looks_like_header(head: &[u8]) -> bool {
    let Some(block) = head.get(..512) else {
        return false;
    };
    block[257..].starts_with(b"ustar")
        || block[148..156].iter().all(|b| matches!(b, b'0'..=b'7' | b' ' | 0))
            && block[148..154].iter().any(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layered_images_are_known_by_their_first_names() {
        let hex = "0123456789abcdef".repeat(4);
        let names = [
            "./manifest.json".to_owned(),
            "oci-layout".into(),
            "blobs/".into(),
            format!("blobs/sha256/{hex}"),
            format!("{hex}/"),
            "nix/layer.tar".into(),
            format!("{hex}/VERSION"),
            format!("{hex}.json"),
            format!("{hex}.tar.gz"),
            format!("sha256:{hex}"),
        ];
        for name in names {
            assert!(is_evidence(name.as_bytes()), "{name}");
        }
        for name in ["./", "bin", "etc/manifest.json", "blobs/x", "usr/", "abc.json", "index.html"] {
            assert!(!is_evidence(name.as_bytes()), "{name}");
        }
    }
}
