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
    skopeo copy --quiet docker://debian docker-archive:/dev/stdout |
        unpack - ./debian
  Pinned by the digest of its manifest, its index or its configuration:
    skopeo copy --quiet docker://debian@sha256:… oci:debian
    unpack --ref sha256:… ./debian debian-root
  A plain archive, pinned by what sha256sum prints of the file:
    curl -fL https://…/root.tar.xz |
        unpack --ref sha256:… - debian-root
  One image of several, for another architecture:
    skopeo copy --all docker://debian oci:debian
    unpack --platform linux/arm64 ./debian ./arm
  A fresh copy in place of what is there:
    unpack --replace img.tar ./root
  Each layer once, for all images that share it:
    unpack --layers ./store img.tar img.mstack
  A runtime bundle:
    unpack --bundle ./bundle img.tar && runc run -b ./bundle name

EXIT STATUS
  COMMAND's own where there is one; without COMMAND 0.
  125  unpack itself failed; there is no ROOT then, or the old one unchanged
  126  COMMAND was found but could not be executed
  127  COMMAND was not found

SIGNALS
  SIGINT, SIGTERM and SIGHUP remove what is half done, then end unpack by the
  same signal.

NOTES
  ROOT appears by one rename when it is whole. ROOT.image.json beside it is its
  receipt: what it was made from, the image's configuration, what was skipped.

  A second run with the same image and options hands ROOT on at once. That means
  complete, not unmodified: nobody looks for changes made since.

  Owners, extended attributes, ACLs and devices that could not be kept are
  counted on stderr and in the receipt.

  A signature says whose an image is, a pin which one it is. Check the signature
  where the image comes from, then pin what was checked: cosign verify prints
  the digest that it verified, and --ref takes that digest.

  A bomb is refused with nothing left. Until then, at the defaults, it may cost
  a gibibyte of disk over 100 times its own size (4 MB of gzip: 1.4 GiB and 2
  seconds), and an inode for every 8 bytes (at most 16 million, of 128 MB).
  --limit bytes=N,entries=N lowers that.";

/// Extract a container image into a root directory, all or nothing
///
/// Reads root filesystem archives (docker export, debootstrap, minirootfs), docker save archives and OCI layouts, plain
/// or compressed, recognized by content; from a file, a directory or a pipe. Prints the root's path, and its newline
/// only once the root is complete; with COMMAND, prints nothing and then becomes COMMAND.
#[derive(Parser, Clone, Debug)]
#[allow(rustdoc::broken_intra_doc_links, reason = "a default in brackets is no link")]
#[command(name = "unpack", version, after_help = EXAMPLE, after_long_help = EXAMPLES, max_term_width = 80)]
pub struct Args {
    /// Archive file, OCI layout directory, or - for standard input
    #[arg(value_name = "IMAGE")]
    pub image: PathBuf,

    /// Directory to make; its parent must exist
    #[arg(value_name = "ROOT", default_value = "./root")]
    pub root: PathBuf,

    /// Command to become once the root is complete; only after --
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,

    /// Replace ROOT with a fresh extraction, in one atomic exchange
    #[arg(long)]
    pub replace: bool,

    /// Which image: its tag or annotated name, or the digest that it must have (a pin)
    ///
    /// The digest is that of a manifest, an index or a configuration; for a plain archive, that of the file, as
    /// sha256sum prints it. An image with another digest is refused, and the message has both.
    #[arg(long = "ref", value_name = "NAME")]
    pub reference: Option<String>,

    /// Which image of an index: os/arch or os/arch/variant [default: this machine's]
    #[arg(long, value_name = "PLATFORM")]
    pub platform: Option<String>,

    /// Owners: keep the image's; squash all to you; or map: keep those that this user namespace maps and squash the
    /// rest [default: map with CAP_CHOWN, squash without]
    #[arg(long, value_enum, value_name = "HOW")]
    pub owner: Option<Owner>,

    /// Print no progress, and no notes about what was skipped
    #[arg(short, long)]
    pub quiet: bool,

    /// Write an OCI runtime bundle: DIR/rootfs and DIR/config.json, for runc and crun
    #[arg(long, value_name = "DIR", conflicts_with_all = ["root", "command"], help_heading = "Results")]
    pub bundle: Option<PathBuf>,

    /// Keep each layer once, in STORE; ROOT, named NAME.mstack, becomes a directory of links to them
    ///
    /// A second image takes the layers that it shares from STORE, and an update adds only what is new. NAME.mstack is as
    /// systemd.mstack(7) describes it, and systemd-nspawn runs it from 260 on. STORE is made if it is missing.
    #[arg(long, value_name = "STORE", conflicts_with_all = ["bundle", "inspect", "digest"], help_heading = "Results")]
    pub layers: Option<PathBuf>,

    /// Remove the layers of a STORE, given in IMAGE's place, that no stack uses and no container runs on
    #[arg(long, conflicts_with_all = ["root", "command", "bundle", "replace", "digest", "layers", "inspect", "status_fd"],
        help_heading = "Results")]
    pub prune: bool,

    /// Print the image's configuration as JSON; extract nothing
    #[arg(long, conflicts_with_all = ["root", "command", "bundle", "replace", "digest"], help_heading = "Results")]
    pub inspect: bool,

    /// Print the digest of the finished tree instead of its path
    ///
    /// It covers names, types, modes, owners, times, contents, links, devices and extended attributes, so two
    /// extractions of one image on two machines agree.
    #[arg(long, conflicts_with_all = ["command", "bundle"], help_heading = "Results")]
    pub digest: bool,

    /// Write the result to disk (syncfs) before it appears
    #[arg(long, help_heading = "Results")]
    pub sync: bool,

    /// Write JSON lines to descriptor N: started, progress, complete (what was skipped), exited (failed, message)
    #[arg(long, value_name = "N", conflicts_with = "inspect", help_heading = "Results")]
    pub status_fd: Option<i32>,

    /// Milliseconds from one progress line of --status-fd to the next; 30 of them from one on stderr to the next. The tests'
    /// clock.
    #[arg(long, hide = true, value_name = "MILLISECONDS", default_value_t = 1000,
        value_parser = clap::value_parser!(u32).range(1..), help_heading = "Results")]
    pub tick: u32,

    /// What IMAGE is, if its content misleads
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Auto, help_heading = "Reading the image")]
    pub format: Format,

    /// Make all device nodes, not only null, zero, full, random, urandom, tty, console and ptmx
    ///
    /// The node of a disk, in a directory that others can search, is a hole in the host.
    #[arg(long, help_heading = "Reading the image")]
    pub devices: bool,

    /// Refuse archives that GNU tar, bsdtar and Python read differently, naming the offset
    #[arg(long, help_heading = "Reading the image")]
    pub strict: bool,

    /// Limit what the image may cost: bytes, entries, depth, name, pax, sparse, ratio, window (can be given again)
    ///
    /// An image over a limit is refused. Numbers or sizes, with K, M, G, T of 1024:
    ///   bytes=N    bytes of file content in the whole image [1T]
    ///   entries=N  entries in the whole image [32K and one for every 8 bytes
    ///              of the image as stored, at most 16M]. Directories that a
    ///              path implies count, and so do extended attributes and
    ///              sparse segments; what is deep counts once more for every
    ///              32 levels, a layer 32 times
    ///   depth=N    nested directories [256]
    ///   name=N     bytes of one entry's name or link target [1M]
    ///   pax=N      bytes of one extended header with its attributes [1M]
    ///   sparse=N   segments of one sparse file [1M]
    ///   ratio=N    bytes out for each byte in of compressed streams, and a
    ///              gibibyte more for all of an image's streams [100]
    ///   window=N   memory for the window of a zstd frame or the dictionary
    ///              of an xz stream [128M]
    #[arg(long, value_name = "NAME=VALUE,...", value_delimiter = ',', value_parser = budget, verbatim_doc_comment, help_heading = "Reading the image")]
    pub limit: Vec<(Budget, u64)>,

    /// Threads that write files [default: the number of processors, at most 8]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64), help_heading = "Reading the image")]
    pub threads: Option<u16>,

    #[command(flatten)]
    pub common: chain::Common,
}

/// What an image may ask for.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Budget {
    Bytes,
    Entries,
    Depth,
    Name,
    Pax,
    Sparse,
    Ratio,
    Window,
}

fn budget(text: &str) -> Result<(Budget, u64), String> {
    let (name, value) = text.split_once('=').ok_or("not NAME=VALUE")?;
    let names =
        || Budget::value_variants().iter().filter_map(|budget| Some(budget.to_possible_value()?.get_name().to_owned()));
    let budget = Budget::from_str(name, false)
        .map_err(|_| format!("{name} is none of {}", names().collect::<Vec<_>>().join(", ")))?;
    Ok((budget, size(value)?))
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
    /// The image's; one that cannot be set is an error
    Keep,
    /// All yours
    Squash,
    /// The image's if this user namespace maps them, otherwise yours
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
