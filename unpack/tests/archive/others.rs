//! An archive's listing as GNU tar, bsdtar and Python's tarfile have it, and as it is read here.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use unpack::budget::Limits;
use unpack::frame::{Archive, Entry, Kind};

/// What all of them print: not every one prints everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub kind: char,
    pub mode: u32,
    pub owner: (u64, u64),
    /// Of a file.
    pub size: u64,
    /// Of a device.
    pub device: (u32, u32),
    pub path: Vec<u8>,
    pub link: Vec<u8>,
    pub seconds: Option<i64>,
}

/// A whole listing, or None where the program complained.
pub type Listing = Option<Vec<Line>>;

pub fn ours(path: &Path, strict: bool) -> Listing {
    let limits = Limits { strict, ..Limits::default() };
    let mut archive = Archive::new(File::open(path).unwrap(), limits);
    let mut lines = Vec::new();
    while let Some(entry) = archive.next().ok()? {
        lines.push(line(entry));
    }
    Some(lines)
}

fn line(entry: Entry) -> Line {
    let kind = match entry.kind {
        Kind::File => '-',
        Kind::HardLink => 'h',
        Kind::Symlink => 'l',
        Kind::CharDevice => 'c',
        Kind::BlockDevice => 'b',
        Kind::Directory => 'd',
        Kind::Fifo => 'p',
    };
    Line {
        kind,
        mode: entry.mode,
        owner: (entry.uid, entry.gid),
        size: entry.size,
        device: entry.device,
        path: no_slash(&entry.path),
        link: entry.link,
        seconds: Some(entry.mtime.seconds),
    }
}

/// A directory without a name is the root: Python lists it as it is stored.
fn no_slash(path: &[u8]) -> Vec<u8> {
    let end = path.iter().rposition(|&b| b != b'/').map_or(0, |last| last + 1);
    if end == 0 { b".".to_vec() } else { path[..end].to_vec() }
}

fn output(command: &mut Command) -> Option<Vec<u8>> {
    let output = command.env("LC_ALL", "C.UTF-8").env("TZ", "UTC").output().unwrap();
    // A warning is a complaint too.
    (output.status.success() && output.stderr.is_empty()).then_some(output.stdout)
}

pub fn gnu(path: &Path) -> Listing {
    let options = ["--numeric-owner", "--full-time", "--quoting-style=escape", "--warning=no-unknown-keyword", "-Ptvf"];
    let text = output(Command::new("tar").args(options).arg(path))?;
    // It lists a volume's label, but does not extract it.
    let lines = text.split(|&b| b == b'\n').filter(|line| !line.is_empty() && !line.starts_with(b"V"));
    lines.map(|text| verbose(text, 5, true)).collect()
}

pub fn bsd(path: &Path) -> Listing {
    let text = output(Command::new("bsdtar").args(["--numeric-owner", "-Ptvf"]).arg(path))?;
    text.split(|&b| b == b'\n').filter(|line| !line.is_empty()).map(|text| verbose(text, 8, false)).collect()
}

/// A line of `-tv`, whose name is field number `name`.
fn verbose(text: &[u8], name: usize, is_gnu: bool) -> Option<Line> {
    let mut rest = text;
    let mut fields = Vec::new();
    for _ in 0..name {
        let begin = rest.iter().position(|&b| b != b' ')?;
        let end = begin + rest[begin..].iter().position(|&b| b == b' ')?;
        fields.push(std::str::from_utf8(&rest[begin..end]).ok()?);
        rest = &rest[end..];
    }
    // GNU tar pads the column of times; no name here begins with a space.
    let (path, link, hard) = split_name(rest.trim_ascii_start());
    let kind = match fields[0].chars().next()? {
        'C' => '-',
        _ if hard => 'h',
        kind => kind,
    };
    let (owner, size) = match is_gnu {
        true => (fields[1].split_once('/')?, fields[2]),
        false => ((fields[2], fields[3]), fields[4]),
    };
    let numbers = |text: &str| text.split_once(',').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    let seconds = match is_gnu {
        true => Some(seconds_of(fields[3], fields[4])?),
        false => None,
    };
    Some(Line {
        kind,
        mode: mode_of(fields[0])?,
        owner: (owner.0.parse().ok()?, owner.1.parse().ok()?),
        size: if kind == '-' { size.parse().ok()? } else { 0 },
        device: if matches!(kind, 'c' | 'b') { numbers(size)? } else { (0, 0) },
        path: no_slash(&unescaped(path)),
        link: unescaped(link),
        seconds,
    })
}

fn split_name(text: &[u8]) -> (&[u8], &[u8], bool) {
    for (separator, hard) in [(&b" link to "[..], true), (b" -> ", false)] {
        if let Some(at) = text.windows(separator.len()).position(|window| window == separator) {
            return (&text[..at], &text[at + separator.len()..], hard);
        }
    }
    (text, b"", false)
}

fn mode_of(text: &str) -> Option<u32> {
    let bits = text.as_bytes().get(1..10)?;
    let mut mode = 0;
    for (i, &c) in bits.iter().enumerate() {
        let special = 0o4000 >> (i / 3);
        mode |= match c {
            b'-' => 0,
            b's' | b't' => special | 0o400 >> i,
            b'S' | b'T' => special,
            _ => 0o400 >> i,
        };
    }
    Some(mode)
}

/// Days since 1970, by the civil calendar.
fn seconds_of(date: &str, time: &str) -> Option<i64> {
    let mut parts = date.rsplitn(3, '-').map(str::parse::<i64>);
    let (day, month, year) = (parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
    let (year, shifted) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days =
        365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + (153 * shifted + 2) / 5 + day
            - 1
            - 719_468;
    let clock = time.split('.').next()?;
    clock.split(':').try_fold(0, |sum, part| Some(sum * 60 + part.parse::<i64>().ok()?)).map(|s| days * 86_400 + s)
}

/// Both programs print bytes that are no text as octal escapes.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first != b'\\' {
            out.push(first);
            continue;
        }
        let octal = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(byte) = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            out.push(byte);
            rest = &tail[3..];
        } else if let Some((&escaped, tail)) = tail.split_first() {
            out.push(match escaped {
                b'n' => b'\n',
                b't' => b'\t',
                b'r' => b'\r',
                b'b' => 8,
                b'f' => 12,
                b'v' => 11,
                b'a' => 7,
                other => other,
            });
            rest = tail;
        }
    }
    out
}

const PYTHON: &str = r"
import sys, tarfile, math
sys.stdout = open(1, 'w', encoding='utf-8', errors='surrogateescape')
for path in sys.argv[1:]:
    lines = []
    try:
        with tarfile.open(path, 'r:', encoding='utf-8', errors='surrogateescape') as archive:
            while (m := archive.next()) is not None:
                kind = {b'1': 'h', b'2': 'l', b'3': 'c', b'4': 'b', b'5': 'd', b'6': 'p'}.get(m.type, '-')
                size = m.size if kind == '-' else 0
                device = (m.devmajor, m.devminor) if kind in 'cb' else (0, 0)
                link = m.linkname if kind in 'hl' else ''
                lines.append([kind, m.mode & 0o7777, m.uid, m.gid, size, *device, math.floor(m.mtime), m.name, link])
            # It stops silently where a header is damaged.
            archive.fileobj.seek(archive.offset)
            tail = archive.fileobj.read(512)
            if tail and (len(tail) < 512 or any(tail)):
                lines = None
    except Exception:
        lines = None
    if lines is None:
        print('complaint', end='\0')
    else:
        print(len(lines), end='\0')
        for line in lines:
            print('\0'.join(str(field).replace('\0', '\\0') for field in line), end='\0')
";

pub fn python(paths: &[PathBuf]) -> Vec<Listing> {
    let output = Command::new("python3").arg("-c").arg(PYTHON).args(paths).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut fields = output.stdout.split(|&b| b == 0);
    let mut listings = Vec::new();
    for _ in paths {
        let count = std::str::from_utf8(fields.next().unwrap()).unwrap();
        let Ok(count) = count.parse::<usize>() else {
            listings.push(None);
            continue;
        };
        let lines = (0..count).map(|_| {
            let numbers: Vec<&[u8]> = fields.by_ref().take(10).collect();
            let number = |i: usize| std::str::from_utf8(numbers[i]).unwrap().parse::<i64>().unwrap();
            Line {
                kind: char::from(numbers[0][0]),
                mode: number(1) as u32,
                owner: (number(2) as u64, number(3) as u64),
                size: std::str::from_utf8(numbers[4]).unwrap().parse().unwrap_or(u64::MAX),
                device: (number(5) as u32, number(6) as u32),
                seconds: Some(number(7)),
                path: no_slash(numbers[8]),
                link: numbers[9].to_vec(),
            }
        });
        listings.push(Some(lines.collect()));
    }
    listings
}

pub fn same(ours: &[Line], theirs: &Listing) -> bool {
    let Some(theirs) = theirs else { return false };
    // Only GNU tar and Python print seconds.
    let equal = |(a, b): (&Line, &Line)| *a == Line { seconds: b.seconds.or(a.seconds), ..b.clone() };
    ours.len() == theirs.len() && ours.iter().zip(theirs).all(equal)
}

/// The first line that is not the same.
pub fn difference(ours: &[Line], theirs: &Listing) -> String {
    let Some(theirs) = theirs else { return "a complaint".to_owned() };
    let count = ours.len().max(theirs.len());
    let at =
        (0..count).find(|&i| ours.get(i..=i).is_none_or(|line| !same(line, &theirs.get(i..=i).map(<[_]>::to_vec))));
    at.map_or(String::new(), |i| format!("{:?} here, {:?} there", ours.get(i), theirs.get(i)))
}

pub fn have_all_three() -> bool {
    let all =
        ["tar", "bsdtar", "python3"].iter().all(|program| Command::new(program).arg("--version").output().is_ok());
    if !all {
        println!("skipped: tar, bsdtar and python3 are not all here");
    }
    all
}
