//! What is no tar archive: its name, and what to type instead.

use std::borrow::Cow;

use anyhow::{Result, anyhow, bail};
use chain::WithHint;

use crate::args::Format;
use crate::budget::Limits;
use crate::frame::Archive;
use crate::stream::Compression;

/// What a file is, and how to make of it what unpack reads.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Foreign {
    pub what: Cow<'static, str>,
    pub hint: &'static str,
}

const QUIET: &str = "skopeo copy --quiet";
const CONVERT: &str = "bsdtar -cf - @IMAGE | unpack -";
const DEB: &str = "dpkg-deb --fsys-tarfile IMAGE | unpack -";
const RPM: &str = "rpm2archive -n IMAGE | unpack -";
const LZ4: &str = "lz4 -dc IMAGE | unpack -";
const LZIP: &str = "lzip -dc IMAGE | unpack -";
const LZOP: &str = "lzop -dc IMAGE | unpack -";
const LZMA: &str = "xz --format=lzma -dc IMAGE | unpack -";
const COMPRESS: &str = "gzip -dc IMAGE | unpack -";
const SQUASHFS: &str = "sqfs2tar IMAGE | unpack - ; or mount it: pivot takes any directory as ROOT";
const MOUNT: &str =
    "mount -o loop,ro IMAGE DIR: pivot takes any directory as ROOT; for a copy: tar -cC DIR . | unpack -";
const DISK: &str = "virt-tar-out -a IMAGE / - | unpack - takes the files out of a disk image";
const SIF: &str = "singularity sif dump has its squashfs filesystem, and sqfs2tar makes an archive of that";
const PROGRAM: &str = "an image is an archive of a root filesystem, or of layers";
const DECRYPT: &str = "decrypt it first, and pipe it into unpack -";
const LFS: &str = "git lfs pull fetches the file itself";
const FETCH: &str = "the download may have failed: curl -fL fails where the server does";
const REGISTRY: &str =
    "skopeo copy --quiet docker://NAME docker-archive:/dev/stdout | unpack - fetches an image with its layers";
const BUILD: &str = "build it first: docker build -t NAME DIR && docker save NAME | unpack -";

/// As much of a file as has to be seen: btrfs has its mark farthest from the beginning.
pub(super) const HEAD: usize = 66 << 10;

/// And no more of a stream than this before its first file: the default budget for extended headers is a mebibyte.
pub(super) const LONGEST_HEAD: usize = HEAD << 6;

/// Refuses what cannot be an archive, before its first byte is called damaged, and an archive of nothing: a failed
/// command leaves one, and nothing could run in such a root.
pub(super) fn must_be_archive(head: &[u8], format: Format) -> Result<()> {
    if head.is_empty() {
        return Err(anyhow!("is empty")).hint("the command that should have made it may have failed");
    }
    let zeros = head.len() - head.iter().rev().skip_while(|&&b| b == 0).count();
    let blank = head.iter().take(512).all(|&b| b == 0);
    if (blank || !looks_like_header(head))
        && let Some(foreign) = named(head)
    {
        return Err(anyhow!("is not a tar archive but {}", foreign.what)).hint(foreign.hint);
    }
    if blank && (zeros < head.len() || head.len() >= HEAD) {
        return Err(anyhow!("begins with zeros, which no archive with content does"))
            .hint("is it the image of a disk? pivot takes any directory that it is mounted on");
    }
    match Archive::new(head, Limits::default()).next() {
        Ok(None) if format != Format::Rootfs => Err(anyhow!("is an archive without entries"))
            .hint("the command that should have made it may have failed; --format rootfs takes it all the same"),
        Err(_) if !looks_like_header(head) => bail!("is not a tar archive (plain, gzip, xz, zstd or bzip2)"),
        _ => Ok(()),
    }
}

pub(super) fn must_not_be_compressed(head: &[u8], outer: Compression) -> Result<()> {
    let inner = Compression::of(head);
    if inner == Compression::Plain || looks_like_header(head) {
        return Ok(());
    }
    Err(anyhow!("is compressed twice: {} in {}", inner.name(), outer.name())).hint(match outer {
        Compression::Xz => "xz -dc IMAGE | unpack -",
        Compression::Zstd => "zstd -dc IMAGE | unpack -",
        Compression::Bzip2 => "bzip2 -dc IMAGE | unpack -",
        Compression::Gzip | Compression::Plain => "gzip -dc IMAGE | unpack -",
    })
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

struct Magic(usize, &'static [u8], &'static str, &'static str);

/// Where each format has its mark: file(1)'s magic, and the formats' own documents.
const MAGIC: &[Magic] = &[
    Magic(0, b"PK\x03\x04", "a zip archive", CONVERT),
    Magic(0, b"PK\x05\x06", "a zip archive", CONVERT),
    Magic(0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", CONVERT),
    Magic(0, b"Rar!\x1a\x07", "a rar archive", CONVERT),
    Magic(0, b"xar!", "a xar archive", CONVERT),
    Magic(0, b"MSCF\0\0\0\0", "a cabinet archive", CONVERT),
    Magic(0, b"070701", "a cpio archive", CONVERT),
    Magic(0, b"070702", "a cpio archive", CONVERT),
    Magic(0, b"070707", "a cpio archive", CONVERT),
    Magic(0, b"\xc7\x71", "a cpio archive", CONVERT),
    Magic(0, b"\x71\xc7", "a cpio archive", CONVERT),
    Magic(0, b"!<arch>\ndebian-binary", "a Debian package", DEB),
    Magic(0, b"!<arch>\n", "an ar archive", CONVERT),
    Magic(0, b"\xed\xab\xee\xdb", "an RPM package", RPM),
    Magic(0, b"\x04\x22\x4d\x18", "compressed by lz4", LZ4),
    Magic(0, b"\x02\x21\x4c\x18", "compressed by lz4", LZ4),
    Magic(0, b"LZIP", "compressed by lzip", LZIP),
    Magic(0, b"\x89LZO\0\r\n\x1a\n", "compressed by lzop", LZOP),
    Magic(0, b"\x1f\x9d", "compressed by compress (.Z)", COMPRESS),
    Magic(0, b"\x1f\xa0", "compressed by compress (.Z)", COMPRESS),
    Magic(0, b"\x1f\x1e", "compressed by pack (.z)", COMPRESS),
    Magic(0, b"hsqs", "a squashfs filesystem", SQUASHFS),
    Magic(0, b"sqsh", "a squashfs filesystem", SQUASHFS),
    Magic(0, b"XFSB", "an xfs filesystem", MOUNT),
    Magic(1024, b"\xe2\xe1\xf5\xe0", "an erofs filesystem", MOUNT),
    Magic(1080, b"\x53\xef", "an ext2, ext3 or ext4 filesystem", MOUNT),
    Magic(1024, b"\x10\x20\xf5\xf2", "an f2fs filesystem", MOUNT),
    Magic(0x8001, b"CD001", "an ISO 9660 image", CONVERT),
    Magic(0x1_0040, b"_BHRfS_M", "a btrfs filesystem", MOUNT),
    Magic(0, b"QFI\xfb", "a qcow2 disk image", DISK),
    Magic(0, b"KDMV", "a VMDK disk image", DISK),
    Magic(0, b"vhdxfile", "a VHDX disk image", DISK),
    Magic(0, b"conectix", "a VHD disk image", DISK),
    Magic(64, b"\x7f\x10\xda\xbe", "a VDI disk image", DISK),
    Magic(32, b"SIF_MAGIC", "a Singularity image", SIF),
    Magic(512, b"EFI PART", "a disk image with partitions", DISK),
    Magic(0, b"LUKS\xba\xbe", "an encrypted disk image (LUKS)", DISK),
    Magic(0, b"\0asm", "a WebAssembly module", PROGRAM),
    Magic(0, b"\x7fELF", "a program", PROGRAM),
    Magic(0, b"age-encryption.org/", "encrypted by age", DECRYPT),
    Magic(0, b"-----BEGIN PGP MESSAGE", "encrypted by PGP", DECRYPT),
    Magic(0, b"%PDF-", "a PDF document", FETCH),
    Magic(0, b"version https://git-lfs.github.com/", "a pointer to a file in Git LFS", LFS),
    Magic(510, b"\x55\xaa", "a disk image with a boot sector", DISK),
];

/// What a file that is not an archive is, by its first bytes.
pub(super) fn named(head: &[u8]) -> Option<Foreign> {
    // What skopeo says while it copies goes to stdout, and so into the pipe, before the image.
    if head.starts_with(b"Getting image source signatures") {
        return Some(Foreign { what: "skopeo's progress, before the image".into(), hint: QUIET });
    }
    let known = MAGIC.iter().find(|Magic(at, mark, ..)| head.get(*at..).is_some_and(|rest| rest.starts_with(mark)));
    match known {
        Some(Magic(_, _, what, hint)) => Some(Foreign { what: (*what).into(), hint }),
        None if is_lzma(head) => Some(Foreign { what: "compressed by lzma".into(), hint: LZMA }),
        None => text(head),
    }
}

/// It has no mark: properties 93, a dictionary of a power of two, and a size that is unknown or below a terabyte.
fn is_lzma(head: &[u8]) -> bool {
    let Some(([0x5d, dictionary @ ..], rest)) = head.split_first_chunk::<5>() else { return false };
    let dictionary = u32::from_le_bytes(*dictionary);
    let Some(size) = rest.first_chunk::<8>().map(|size| u64::from_le_bytes(*size)) else { return false };
    dictionary.is_power_of_two() && dictionary >= 4096 && (size == u64::MAX || size >> 40 == 0)
}

fn text(head: &[u8]) -> Option<Foreign> {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    let begin = head[..head.len().min(512)].to_ascii_lowercase();
    let starts = |with: &str| begin.starts_with(with.as_bytes());
    let foreign = |what: Cow<'static, str>, hint| Some(Foreign { what, hint });
    if starts("<!doctype html") || starts("<html") {
        return foreign("an HTML page".into(), FETCH);
    }
    if starts("<?xml") || starts("<error") {
        return foreign("an XML document".into(), FETCH);
    }
    if starts("{") || starts("[") {
        return json(head);
    }
    if is_dockerfile(head) {
        return foreign("a Dockerfile".into(), BUILD);
    }
    let text =
        std::str::from_utf8(&head[..head.len().min(256)]).map_or_else(|error| error.valid_up_to() > 250, |_| true);
    (text && !head.is_empty() && !begin.iter().any(|b| b.is_ascii_control() && !b.is_ascii_whitespace()))
        .then_some(Foreign { what: "text".into(), hint: FETCH })
}

/// A registry's error has a code in it, and an image's documents a version.
fn json(head: &[u8]) -> Option<Foreign> {
    let text = String::from_utf8_lossy(&head[..head.len().min(4096)]);
    let document = serde_json::Deserializer::from_slice(head).into_iter::<serde_json::Value>().next();
    let document = document.and_then(Result::ok).unwrap_or_default();
    let code = document["errors"][0]["code"].as_str().filter(|code| code.bytes().all(|b| b.is_ascii_graphic()));
    let foreign = |what: Cow<'static, str>, hint| Some(Foreign { what, hint });
    match code {
        Some(code) => foreign(format!("a registry's error in JSON: {code:.64}").into(), REGISTRY),
        None if text.contains("\"schemaVersion\"") || text.contains("\"rootfs\"") => {
            foreign("JSON: one document of an image, without its layers".into(), REGISTRY)
        }
        None => foreign("JSON".into(), FETCH),
    }
}

/// Its first instruction is FROM, or an ARG for it (Dockerfile reference, "FROM").
fn is_dockerfile(head: &[u8]) -> bool {
    let lines = head.split(|&b| b == b'\n').map(<[u8]>::trim_ascii);
    let mut instructions = lines.filter(|line| !line.is_empty() && !line.starts_with(b"#"));
    instructions
        .find(|line| !line.to_ascii_lowercase().starts_with(b"arg "))
        .is_some_and(|line| line.get(..5).is_some_and(|word| word.eq_ignore_ascii_case(b"from ")))
}
