//! `--strict` takes no archive in which GNU tar, bsdtar and Python would see something else. Archives of every dialect are
//! changed at random, with checksums put right again, and what is taken is compared: as a listing, and as a tree.

mod archive;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use archive::others::{Line, bsd, difference, gnu, have_all_three, ours, python, same};
use archive::{extended, global, record};

const SEED: u64 = 0x1907_2026;

/// xorshift64*, for the same archives on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    fn of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len())]
    }
}

/// Name, offset and length.
const FIELDS: [(usize, usize); 20] = [
    (0, 100),
    (100, 8),
    (108, 8),
    (116, 8),
    (124, 12),
    (136, 12),
    (156, 1),
    (157, 100),
    (257, 8),
    (265, 32),
    (297, 32),
    (329, 8),
    (337, 8),
    (345, 155),
    // In GNU's old format.
    (345, 12),
    (369, 12),
    (381, 4),
    (386, 24),
    (482, 1),
    (483, 12),
];

const VALUES: [&[u8]; 26] = [
    b"",
    b" ",
    b"0",
    b"7",
    b"00000000012\0",
    b"12 ",
    b" 12",
    b"12\0x",
    b"\0\x31",
    b"-5",
    b"0x10",
    b"abc",
    b"a/b",
    b"./x/",
    b"\x80\0\0\0\0\0\0\x05",
    b"\x80\0\0\0\0\0\0\0\0\0\0\x05",
    b"\xff\xff\xff\xff\xff\xff\xff\xfe",
    b"\xc0\0\0\0\0\0\0\x05",
    b"77777777777\0",
    b"777777777777",
    b"ustar\x0000",
    b"ustar  \0",
    b"ustar",
    b"S",
    b"\xe9\xff",
    b"1",
];

const KEYS: [&str; 44] = [
    "path",
    "linkpath",
    "size",
    "uid",
    "gid",
    "mtime",
    "atime",
    "ctime",
    "uname",
    "gname",
    "comment",
    "hdrcharset",
    "charset",
    "realtime.any",
    "security.any",
    "SCHILY.dev",
    "SCHILY.ino",
    "SCHILY.nlink",
    "SCHILY.devmajor",
    "SCHILY.devminor",
    "SCHILY.realsize",
    "SCHILY.fflags",
    "SCHILY.acl.access",
    "SCHILY.acl.default",
    "SCHILY.acl.ace",
    "SCHILY.xattr.user.a",
    "SCHILY.xattr.user.%41",
    "SCHILY.filetype",
    "SUN.holesdata",
    "LIBARCHIVE.xattr.user.a",
    "LIBARCHIVE.creationtime",
    "LIBARCHIVE.symlinktype",
    "RHT.security.selinux",
    "GNU.sparse.major",
    "GNU.sparse.minor",
    "GNU.sparse.name",
    "GNU.sparse.size",
    "GNU.sparse.realsize",
    "GNU.sparse.map",
    "GNU.sparse.numblocks",
    "GNU.sparse.offset",
    "GNU.sparse.numbytes",
    "GNU.dumpdir",
    "GNU.volume.label",
];

const TEXTS: [&str; 22] = [
    "",
    "0",
    "1",
    "5",
    "010",
    "1000",
    "-1",
    "+1",
    "1.5",
    "-1.5",
    "x",
    "a/b",
    "d/",
    "/abs",
    "caf\u{e9}",
    "a\nb",
    "0,5",
    "0,5,10,0",
    "user::rw-,group::r--,other::r--",
    "user::rw-,user:5:rw-,group::r--,other::---",
    "BINARY",
    "ISO-IR 10646 2000 UTF-8",
];

fn checksum_fits(block: &[u8]) -> bool {
    let sum: u32 =
        block.iter().enumerate().map(|(i, &b)| if (148..156).contains(&i) { 32 } else { u32::from(b) }).sum();
    let text = String::from_utf8_lossy(&block[148..156]);
    block[0] != 0 && u32::from_str_radix(text.trim_matches(['\0', ' ']), 8) == Ok(sum)
}

fn put_checksum_right(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

fn mutated(base: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = base.to_vec();
    for _ in 0..=random.below(2) {
        let blocks = bytes.len() / 512;
        let headers: Vec<usize> = (0..blocks).filter(|i| checksum_fits(&bytes[i * 512..i * 512 + 512])).collect();
        if headers.is_empty() {
            break;
        }
        let header = headers[random.below(headers.len())] * 512;
        match random.below(12) {
            0..=5 => {
                let (at, length) = FIELDS[random.below(FIELDS.len())];
                let value = random.of(&VALUES);
                let field = &mut bytes[header + at..header + at + length];
                if random.below(3) > 0 {
                    field.fill(0);
                }
                let length = value.len().min(length);
                field[..length].copy_from_slice(&value[..length]);
                put_checksum_right(&mut bytes[header..header + 512]);
            }
            6..=8 => {
                let records: Vec<String> =
                    (0..=random.below(2)).map(|_| record(random.of(&KEYS), random.of(&TEXTS))).collect();
                let inserted = if random.below(6) == 0 { global(&records) } else { extended(&records) };
                bytes.splice(header..header, inserted);
            }
            9 => {
                let at = random.below(blocks) * 512;
                let block = bytes[at..at + 512].to_vec();
                match random.below(3) {
                    0 => drop(bytes.splice(at..at, block)),
                    1 => drop(bytes.drain(at..at + 512)),
                    _ => bytes[at..at + 512].fill(0),
                }
            }
            // Texts: records and sparse maps, whose lengths are as they were.
            10 => {
                let digits: Vec<usize> = (0..bytes.len())
                    .filter(|&i| bytes[i].is_ascii_digit() && headers.binary_search(&(i / 512)).is_err())
                    .collect();
                if !digits.is_empty() {
                    bytes[digits[random.below(digits.len())]] = b"0123456789 x,"[random.below(13)];
                }
            }
            _ => {
                let at = random.below(bytes.len());
                bytes[at] ^= 1 << random.below(8);
                if headers.binary_search(&(at / 512)).is_ok() {
                    put_checksum_right(&mut bytes[at / 512 * 512..at / 512 * 512 + 512]);
                }
            }
        }
    }
    bytes
}

/// Small archives of each dialect, by GNU tar, from one tree.
fn bases(directory: &Path) -> Vec<Vec<u8>> {
    let script = r#"
        mkdir -p t/d; printf hello > t/d/f; ln t/d/f t/hard; ln -s d/f t/link; mkfifo t/pipe
        truncate -s 20000 t/holes; printf x | dd of=t/holes bs=1 seek=9000 conv=notrunc status=none
        truncate -s 5000 t/nothing
        touch t/$(printf n%.0s $(seq 130))
        umask 022; chmod -R u=rwX,go=rX t
        common="--sort=name --owner=0 --group=0 --numeric-owner --mtime=@1000000000 -C t"
        pax="--pax-option=delete=atime,delete=ctime,exthdr.name=x"
        tar --format=v7 $common -cf v7.tar d link hard
        for format in oldgnu gnu ustar; do tar --format=$format $common -cf $format.tar . 2>/dev/null || true; done
        tar --format=posix $pax $common -cf posix.tar .
        tar --format=gnu -S --hole-detection=raw $common -cf sparse-old.tar holes nothing d
        for version in 0.0 0.1 1.0; do
            tar --format=posix $pax --sparse-version=$version -S --hole-detection=raw $common -cf sparse-$version.tar holes nothing d
        done
    "#;
    assert!(
        Command::new("sh")
            .args(["-ec", script])
            .current_dir(directory)
            .stderr(Stdio::null())
            .status()
            .unwrap()
            .success()
    );
    let mut paths: Vec<PathBuf> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "tar"));
    paths.sort();
    assert_eq!(paths.len(), 9);
    let trimmed = |mut bytes: Vec<u8>| {
        without_process_ids(&mut bytes);
        let end = bytes.iter().rposition(|&b| b != 0).unwrap() + 1;
        bytes[..end.next_multiple_of(512) + 1024].to_vec()
    };
    paths.iter().map(|path| trimmed(fs::read(path).unwrap())).collect()
}

/// GNU tar has its own process id in the names of sparse files that only other readers see.
fn without_process_ids(bytes: &mut [u8]) {
    const NAME: &[u8] = b"./GNUSparseFile.";
    for block in bytes.chunks_exact_mut(512).filter(|block| block.starts_with(NAME)) {
        let slash = NAME.len() + block[NAME.len()..].iter().position(|&b| b == b'/').unwrap();
        let name = [NAME, b"1", &block[slash..100]].concat();
        block[..100].fill(0);
        block[..name.len()].copy_from_slice(&name);
        put_checksum_right(block);
    }
}

/// Where a name comes twice, Python fails on what it cannot write over.
fn names_are_all_different(lines: &[Line]) -> bool {
    let mut names: Vec<&[u8]> = lines.iter().map(|line| &line.path[..]).collect();
    names.sort_unstable();
    names.windows(2).all(|pair| pair[0] != pair[1])
}

/// Python sets what a hard link's own entry says on the file that it links to, and the others do not.
fn links_say_what_their_targets_do(lines: &[Line]) -> bool {
    let says = |line: &Line| (line.mode, line.owner, line.seconds);
    let target = |link: &Line| lines.iter().find(|line| line.path == link.link).map(says);
    lines.iter().filter(|line| line.kind == 'h').all(|link| target(link) == Some(says(link)))
}

/// Kind and mode, content or target, by name: what can be compared of a tree that anybody may extract.
type Files = BTreeMap<Vec<u8>, (u32, i64, Vec<u8>)>;

fn files(root: &Path) -> Files {
    let mut found = Files::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for path in fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()) {
            let metadata = fs::symlink_metadata(&path).unwrap();
            let kind = metadata.file_type();
            let content = match (kind.is_file(), kind.is_symlink()) {
                (true, _) => fs::read(&path).unwrap(),
                (_, true) => fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec(),
                _ => Vec::new(),
            };
            let mode = if kind.is_symlink() { 0 } else { metadata.mode() };
            let time = if kind.is_file() { metadata.mtime() } else { 0 };
            found.insert(path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec(), (mode, time, content));
            if kind.is_dir() {
                directories.push(path);
            }
        }
    }
    found
}

/// As an attribute, since Python before 3.11.4 knows no filter as an argument.
const EXTRACT: &str = "import sys, tarfile
with tarfile.open(sys.argv[1]) as t:
    t.extraction_filter = lambda member, path: member
    t.extractall(sys.argv[2])";

/// What each makes of an archive; an error counts as another reading.
fn trees(path: &Path, directory: &Path) -> Vec<(&'static str, Option<Files>)> {
    let run = |name: &'static str, program: &str, args: &[&str]| {
        let root = directory.join("root");
        let _ = fs::remove_dir_all(&root);
        if name != "unpack" {
            fs::create_dir(&root).unwrap();
        }
        let mut command = Command::new(program);
        command.args(args).env("LC_ALL", "C.UTF-8").stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null());
        let made = command.status().unwrap().success().then(|| files(&root));
        let _ = fs::remove_file(directory.join("root.image.json"));
        (name, made)
    };
    let (archive, root) = (path.to_str().unwrap(), directory.join("root"));
    let root = root.to_str().unwrap();
    vec![
        run("unpack", env!("CARGO_BIN_EXE_unpack"), &["-q", "--strict", "--format", "rootfs", archive, root]),
        run("GNU tar", "tar", &["--warning=no-unknown-keyword", "-xpf", archive, "-C", root]),
        run("bsdtar", "bsdtar", &["-xpf", archive, "-C", root]),
        run("Python", "python3", &["-c", EXTRACT, archive, root]),
    ]
}

fn is_safe(name: &[u8]) -> bool {
    !name.starts_with(b"/") && name.split(|&b| b == b'/').all(|part| part != b"..")
}

/// Extracting takes its time: one in so many that are taken is compared as a tree, and each as a listing.
const TREES: usize = 3;

fn disagreements(count: usize, seed: u64) -> (usize, Vec<String>) {
    let directory = tempfile::tempdir().unwrap();
    let bases = bases(directory.path());
    let mut random = Random(seed);
    let mut taken = Vec::new();
    for number in 0..count {
        let base = number % bases.len();
        let path = directory.path().join(format!("{number}"));
        fs::write(&path, mutated(&bases[base], &mut random)).unwrap();
        match ours(&path, true) {
            // A name that begins with a space cannot be told from the padding before it in a listing.
            Some(lines) if !lines.iter().any(|line| line.path.starts_with(b" ")) => taken.push((path, lines)),
            _ => fs::remove_file(&path).unwrap(),
        }
    }
    let paths: Vec<PathBuf> = taken.iter().map(|(path, _)| path.clone()).collect();
    let mut wrong = Vec::new();
    let mut compared = 0;
    for ((path, lines), python) in taken.iter().zip(python(&paths)) {
        let name = path.file_name().unwrap().display();
        let others = [("GNU tar", gnu(path)), ("bsdtar", bsd(path)), ("Python", python)];
        let before = wrong.len();
        for (program, listing) in others.iter().filter(|(_, listing)| !same(lines, listing)) {
            wrong.push(format!("{name}: {program}: {}", difference(lines, listing)));
        }
        let safe =
            lines.iter().all(|line| is_safe(&line.path) && is_safe(&line.link) && !matches!(line.kind, 'c' | 'b'))
                && names_are_all_different(lines)
                && links_say_what_their_targets_do(lines);
        if before == wrong.len() && safe && {
            compared += 1;
            compared % TREES == 0
        } {
            let mut all = trees(path, directory.path());
            let (_, own) = all.remove(0);
            for (program, theirs) in all.into_iter().filter(|(_, theirs)| own.is_some() && *theirs != own) {
                let (own, theirs) = (own.clone().unwrap(), theirs.unwrap_or_default());
                let shown = |files: &Files| {
                    let text = |(name, (mode, time, content)): (&Vec<u8>, &(u32, i64, Vec<u8>))| {
                        format!("{:?} {mode:o} {time} {} bytes", String::from_utf8_lossy(name), content.len())
                    };
                    files.iter().map(text).collect::<Vec<_>>()
                };
                let differs = |a: &Files, b: &Files| {
                    a.iter()
                        .filter(|(k, v)| b.get(*k) != Some(v))
                        .map(|(k, v)| (k.clone(), v.clone()))
                        .collect::<Files>()
                };
                wrong.push(format!(
                    "{name}: {program} extracts {:?}, not {:?}",
                    shown(&differs(&theirs, &own)),
                    shown(&differs(&own, &theirs))
                ));
            }
        }
        if before < wrong.len()
            && let Some(kept) = std::env::var_os("CHAINROOT_KEEP_MUTATIONS")
        {
            fs::copy(path, Path::new(&kept).join(path.file_name().unwrap())).unwrap();
        }
    }
    (taken.len(), wrong)
}

#[test]
fn strict_takes_no_mutated_archive_that_others_read_differently() {
    if !have_all_three() {
        return;
    }
    let number = |name: &str, default| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let count = number("CHAINROOT_MUTATIONS", 600);
    let (taken, wrong) = disagreements(count as usize, number("CHAINROOT_MUTATION_SEED", SEED));
    println!("{taken} of {count} taken");
    assert!(taken > 20, "only {taken} of {count} were taken");
    assert!(wrong.is_empty(), "{} disagreements:\n{}", wrong.len(), wrong.join("\n"));
}
