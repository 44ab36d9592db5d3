//! The command line: one definition for parsing, help, manual and completions.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};

const EXAMPLE: &str = "Example: unpack img.tar | isolate --pid --uts -- pivot ./root -- sh";

const EXAMPLES: &str = "\
EXAMPLES
  An image becomes ./root, and a shell in it starts once it is complete:
    unpack img.tar | isolate --pid --uts -- pivot ./root -- sh
  The same without a pipe:
    unpack img.tar -- isolate --pid --uts -- pivot ./root -- sh
  The path for a script:
    root=$(unpack img.tar) && cd \"$root\"
  Straight from a registry:
    skopeo copy --quiet docker://debian docker-archive:/dev/stdout | unpack - ./debian
  A pin: this image or none, by the digest of its manifest, its index or its configuration:
    skopeo copy --quiet docker://debian@sha256:… oci:debian && unpack --ref sha256:… ./debian debian-root
  The same for a plain archive, by what sha256sum prints of the file:
    curl -fL https://…/root.tar.xz | unpack --ref sha256:… - debian-root
  One image of several, another architecture:
    skopeo copy --all docker://debian oci:debian && unpack --platform linux/arm64 ./debian ./arm
  A fresh copy in place of what is there:
    unpack --replace img.tar ./root
  A runtime bundle:
    unpack --bundle ./bundle img.tar && runc run -b ./bundle name

EXIT STATUS
  COMMAND's own where there is one; without COMMAND 0.
  125  unpack itself failed; there is no ROOT then, or the old one unchanged
  126  COMMAND was found but could not be executed
  127  COMMAND was not found

SIGNALS
  SIGINT, SIGTERM and SIGHUP remove what is half done, then end unpack by the same signal.

NOTES
  ROOT appears by one rename when it is whole. ROOT.image.json beside it is its receipt: what it was made from, the
  image's configuration, and what was skipped. A second run with the same image and options hands ROOT on at once;
  it means complete: changes made since are not looked for.
  Extended attributes, ACLs, owners, devices that could not be kept are counted on stderr and in the receipt.
  A signature says whose an image is, a pin which one it is. Check the signature where the image comes from, then pin what
  was checked: cosign verify prints the digest that it verified, and --ref takes that digest.
  A bomb is refused with nothing left. Until then, at the defaults, it may cost a gibibyte of disk over 100 times its own
  size (4 MB of gzip: 1.4 GiB and 2 seconds), and an inode for every 8 bytes (at most 16 million, of 128 MB). --max-bytes
  and --max-entries lower that.";

/// Extract a container image into a root directory, all or nothing
///
/// Reads root filesystem archives (docker export, debootstrap, minirootfs), docker save archives and OCI layouts, plain
/// or compressed, told by content; from a file, a directory or a pipe. The root's path goes to stdout, its newline only
/// when the root is complete; with COMMAND nothing is printed and COMMAND runs in unpack's place.
#[derive(Parser, Clone, Debug)]
#[command(name = "unpack", version, after_help = EXAMPLE, after_long_help = EXAMPLES, max_term_width = 100)]
pub struct Args {
    /// Archive file, OCI layout directory, or - for standard input
    #[arg(value_name = "IMAGE")]
    pub image: PathBuf,

    /// Directory to make; its parent must exist
    #[arg(value_name = "ROOT", default_value = "./root")]
    pub root: PathBuf,

    /// Command to become when the root is complete; only after --
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,

    /// What IMAGE is, where content would tell it wrongly
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Auto)]
    pub format: Format,

    /// Which image of an index: os/arch or os/arch/variant [default: this machine's]
    #[arg(long, value_name = "PLATFORM")]
    pub platform: Option<String>,

    /// Which image: a tag or annotated name, or the digest that it must have (a pin)
    ///
    /// A digest is a manifest's, an index's or a configuration's; of a plain archive it is the file's own, as sha256sum
    /// prints it. An image of another digest is refused, with both in the message.
    #[arg(long = "ref", value_name = "NAME")]
    pub reference: Option<String>,

    /// Refuse archives that GNU tar, bsdtar and Python read differently, naming the offset
    #[arg(long)]
    pub strict: bool,

    /// Replace what ROOT is by a fresh extraction, in one atomic exchange
    #[arg(long)]
    pub replace: bool,

    /// Owners: keep the image's, squash all to the caller, or map: keep those that this user namespace knows and squash
    /// the rest [default: map with CAP_CHOWN, squash without]
    #[arg(long, value_enum, value_name = "HOW")]
    pub owner: Option<Owner>,

    /// Make every device node, not only null, zero, full, random, urandom, tty, console and ptmx
    ///
    /// A disk's node in a directory that others can search is a hole in the host.
    #[arg(long)]
    pub devices: bool,

    /// Write an OCI runtime bundle: DIR/rootfs and DIR/config.json, for runc and crun
    #[arg(long, value_name = "DIR", conflicts_with_all = ["root", "command"])]
    pub bundle: Option<PathBuf>,

    /// Print the image's configuration as JSON; extract nothing
    #[arg(long, conflicts_with_all = ["root", "command", "bundle", "replace", "digest"])]
    pub inspect: bool,

    /// Print the digest of the finished tree in place of its path
    ///
    /// It covers names, types, modes, owners, times, contents, links, devices and extended attributes, so two
    /// extractions of one image on two machines agree.
    #[arg(long, conflicts_with_all = ["command", "bundle"])]
    pub digest: bool,

    /// Make the result durable (syncfs) before it appears
    #[arg(long)]
    pub sync: bool,

    /// No progress bar and no notes about what was skipped
    #[arg(short, long)]
    pub quiet: bool,

    /// Threads that write files [default: the number of processors, at most 8]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub threads: Option<u16>,

    #[command(flatten)]
    pub limits: LimitArgs,

    #[command(flatten)]
    pub common: chain::Common,
}

/// Budgets. Sizes are bytes, or with K, M, G, T powers of 1024.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Budgets")]
pub struct LimitArgs {
    /// Bytes of file content in the whole image
    #[arg(long, value_name = "SIZE", default_value = "1T", value_parser = size)]
    pub max_bytes: u64,

    /// Entries in the whole image [default: 32K and one for every 8 bytes of the image as stored, at most 16M]
    ///
    /// Directories that a path implies count as entries, and so do extended attributes and sparse segments; what is deep
    /// counts once more for every 32 levels, a layer 32 times.
    #[arg(long, value_name = "N", value_parser = size)]
    pub max_entries: Option<u64>,

    /// Nested directories
    #[arg(long, value_name = "N", default_value = "256", value_parser = size)]
    pub max_depth: u64,

    /// Length of one entry's name or link target
    #[arg(long, value_name = "SIZE", default_value = "1M", value_parser = size)]
    pub max_name: u64,

    /// Size of one extended header (PAX records, extended attributes included)
    #[arg(long, value_name = "SIZE", default_value = "1M", value_parser = size)]
    pub max_pax: u64,

    /// Segments of one sparse file
    #[arg(long, value_name = "N", default_value = "1M", value_parser = size)]
    pub max_sparse: u64,

    /// Bytes out for each byte in of compressed streams, and a gibibyte more for all of an image's streams together
    #[arg(long, value_name = "N", default_value = "100", value_parser = size)]
    pub max_ratio: u64,

    /// Memory for the window of a zstd frame or the dictionary of an xz stream
    #[arg(long, value_name = "SIZE", default_value = "128M", value_parser = size)]
    pub max_window: u64,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// By content
    Auto,
    /// A plain root filesystem archive, even if it holds a manifest.json
    Rootfs,
    /// What docker save writes
    Docker,
    /// An OCI layout, directory or archive
    Oci,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// As the image has them; one that cannot be set is an error
    Keep,
    /// All the caller's
    Squash,
    /// As the image has them where this user namespace maps them, the caller's otherwise
    Map,
}

/// A count or a number of bytes: digits and perhaps K, M, G or T for a power of 1024.
fn size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.char_indices().last() {
        Some((at, 'K' | 'k')) => (&text[..at], 10),
        Some((at, 'M' | 'm')) => (&text[..at], 20),
        Some((at, 'G' | 'g')) => (&text[..at], 30),
        Some((at, 'T' | 't')) => (&text[..at], 40),
        _ => (text, 0),
    };
    let number: u64 = digits.parse().map_err(|_| "not a number (K, M, G and T may follow it)".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "too large".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Args, clap::Error> {
        Args::try_parse_from(["unpack"].iter().chain(words))
    }

    #[test]
    fn the_definition_is_sound() {
        <Args as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn a_command_follows_two_dashes_and_keeps_its_options() {
        let args = parse(&["img.tar", "--", "sh", "-c", "--", "--quiet"]).unwrap();
        assert_eq!(args.root, PathBuf::from("./root"));
        assert_eq!(args.command, ["sh", "-c", "--", "--quiet"]);
        assert!(!args.quiet);
        let args = parse(&["--quiet", "-", "r", "--", "-x"]).unwrap();
        assert_eq!((args.image, args.root), (PathBuf::from("-"), PathBuf::from("r")));
        assert_eq!(args.command, ["-x"]);
    }

    #[test]
    fn sizes_have_powers_of_1024() {
        assert_eq!(size("0"), Ok(0));
        assert_eq!(size("12"), Ok(12));
        assert_eq!(size("3K"), Ok(3072));
        assert_eq!(size("1T"), Ok(1 << 40));
        for text in ["", "K", "-1", "1.5G", "16777216T", "1KK", "é"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_makes_no_sense_together_is_refused() {
        assert!(parse(&["--inspect", "img.tar", "root"]).is_err());
        assert!(parse(&["--bundle", "b", "img.tar", "--", "sh"]).is_err());
        assert!(parse(&["img.tar", "root", "sh"]).is_err());
        assert!(parse(&[]).is_err());
    }
}
