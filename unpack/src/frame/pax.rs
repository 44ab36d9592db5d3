//! The records of a PAX extended header (pax(1), "pax Extended Header"): `LENGTH KEY=VALUE\n`, where
//! the length counts the whole record. A value may hold newlines and equals signs.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow, bail};

use super::sparse::Records as SparseRecords;
use super::{Time, disagreement, header, number, records};

/// What an extended header says about an entry.
#[derive(Clone, Debug, Default)]
pub(super) struct Pax {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u64>,
    pub gid: Option<u64>,
    pub mtime: Option<Time>,
    pub atime: Option<Time>,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Those that only libarchive's own records or GNU tar's for SELinux name.
    pub other_xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub acl_access: Option<Vec<u8>>,
    pub acl_default: Option<Vec<u8>>,
    pub acl_nfs: bool,
    pub sparse: SparseRecords,
}

impl Pax {
    pub fn parse(body: &[u8], at: u64, strict: bool) -> Result<Pax> {
        let mut pax = Pax::default();
        let mut rest = body;
        while let Some(&first) = rest.first() {
            // Some writers pad with NUL inside the size.
            if first == 0 {
                if strict {
                    disagreement(at, "an extended header is padded with NUL")?;
                }
                break;
            }
            let (key, value, after) =
                record(rest).ok_or_else(|| anyhow!("at byte {at}: an extended header's record is malformed"))?;
            pax.set(key, value, at, strict)?;
            rest = after;
        }
        for (name, value) in std::mem::take(&mut pax.other_xattrs) {
            // bsdtar writes its own record beside SCHILY's, which says the same.
            if strict && pax.xattrs.get(&name) != Some(&value) {
                disagreement(at, "an extended attribute in a record that only some read")?;
            }
            pax.xattrs.entry(name).or_insert(value);
        }
        Ok(pax)
    }

    fn set(&mut self, key: &[u8], value: &[u8], at: u64, strict: bool) -> Result<()> {
        let malformed = || anyhow!("at byte {at}: the extended header's {} is malformed", String::from_utf8_lossy(key));
        let name = || {
            if value.contains(&0) {
                bail!("at byte {at}: a name with a NUL byte in it");
            }
            Ok(Some(value.to_vec()))
        };
        let decimal = || number::decimal(value).ok_or_else(malformed);
        if strict && !records::agreed(key, value) {
            disagreement(at, format_args!("a record that only some read: {}", String::from_utf8_lossy(key)))?;
        }
        match key {
            b"path" => self.path = name()?,
            b"linkpath" => self.link = name()?,
            b"size" => self.size = Some(decimal()?),
            b"uid" => self.uid = Some(header::owner(decimal()?, at)?),
            b"gid" => self.gid = Some(header::owner(decimal()?, at)?),
            b"mtime" | b"atime" => {
                // GNU tar and bsdtar count the fraction to different sides.
                if strict && value.starts_with(b"-") && value.contains(&b'.') {
                    disagreement(at, "a fraction of a second before 1970")?;
                }
                let time = Some(time(value).ok_or_else(malformed)?);
                if key == b"mtime" { self.mtime = time } else { self.atime = time }
            }
            // Nobody keeps it, but GNU tar reads it.
            b"ctime" if strict => drop(time(value).ok_or_else(malformed)?),
            b"SCHILY.acl.access" => self.acl_access = Some(value.to_vec()),
            b"SCHILY.acl.default" => self.acl_default = Some(value.to_vec()),
            // star's and libarchive's text form of NFSv4 ACLs.
            b"SCHILY.acl.ace" => self.acl_nfs |= !value.is_empty(),
            // GNU tar's --selinux, which sets it as this attribute.
            b"RHT.security.selinux" => {
                self.other_xattrs.insert(b"security.selinux".to_vec(), value.to_vec());
            }
            _ => {
                if let Some(field) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.set(field, value).ok_or_else(malformed)?;
                } else if let Some(attribute) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattrs.insert(xattr_name(gnu_decoded(attribute), at)?, value.to_vec());
                } else if let Some(attribute) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
                    let value = base64(value).ok_or_else(malformed)?;
                    self.other_xattrs.insert(xattr_name(url_decoded(attribute), at)?, value);
                }
            }
        }
        Ok(())
    }

    /// Takes over every record of `newer`; a global header adds to those before it.
    pub fn overlay(&mut self, newer: Pax) {
        fn newest<T>(old: &mut Option<T>, new: Option<T>) {
            if new.is_some() {
                *old = new;
            }
        }
        newest(&mut self.path, newer.path);
        newest(&mut self.link, newer.link);
        newest(&mut self.size, newer.size);
        newest(&mut self.uid, newer.uid);
        newest(&mut self.gid, newer.gid);
        newest(&mut self.mtime, newer.mtime);
        newest(&mut self.atime, newer.atime);
        newest(&mut self.acl_access, newer.acl_access);
        newest(&mut self.acl_default, newer.acl_default);
        self.acl_nfs |= newer.acl_nfs;
        self.xattrs.extend(newer.xattrs);
        if newer.sparse.any() {
            self.sparse = newer.sparse;
        }
    }

    /// Whether it changes what an entry is.
    pub fn says_something(&self) -> bool {
        self.path.is_some()
            || self.link.is_some()
            || self.size.is_some()
            || self.uid.is_some()
            || self.gid.is_some()
            || self.mtime.is_some()
            || self.atime.is_some()
            || self.acl_access.is_some()
            || self.acl_default.is_some()
            || self.acl_nfs
            || !self.xattrs.is_empty()
            || self.sparse.any()
    }
}

/// The first record's key and value, and what follows it.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(21).position(|&b| b == b' ')?;
    let length = usize::try_from(number::decimal(&bytes[..space])?).ok()?;
    let (record, after) = bytes.split_at_checked(length)?;
    let (&newline, record) = record.split_last()?;
    let body = record.get(space + 1..)?;
    let equals = body.iter().position(|&b| b == b'=')?;
    (newline == b'\n' && equals > 0).then(|| (&body[..equals], &body[equals + 1..], after))
}

/// Decimal seconds with a fraction, perhaps negative: nanoseconds count upward from the second below.
fn time(text: &[u8]) -> Option<Time> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(text) => (true, text),
        None => (false, text),
    };
    let (whole, fraction) = match text.iter().position(|&b| b == b'.') {
        Some(dot) => (&text[..dot], &text[dot + 1..]),
        None => (text, &[][..]),
    };
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let seconds = i64::try_from(number::decimal(whole)?).ok()?;
    let digit = |i: usize| u32::from(fraction.get(i).map_or(0, |b| b - b'0'));
    let nanoseconds = (0..9).fold(0, |sum, i| sum * 10 + digit(i));
    // What is cut off still makes a negative time earlier: the floor, as GNU tar takes it.
    let more = fraction.iter().skip(9).any(|&b| b != b'0');
    Some(match (negative, nanoseconds + u32::from(negative && more)) {
        (false, nanoseconds) => Time { seconds, nanoseconds },
        (true, 0) => Time { seconds: -seconds, nanoseconds: 0 },
        (true, nanoseconds) => Time { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds },
    })
}

fn xattr_name(name: Vec<u8>, at: u64) -> Result<Vec<u8>> {
    if name.is_empty() || name.contains(&0) {
        bail!("at byte {at}: an extended attribute's name is malformed");
    }
    Ok(name)
}

/// GNU tar writes the two characters of an attribute's name that would break a record as %3D and %25.
fn gnu_decoded(name: &[u8]) -> Vec<u8> {
    percent_decoded(name, |byte| matches!(byte, b'=' | b'%'))
}

fn url_decoded(name: &[u8]) -> Vec<u8> {
    percent_decoded(name, |_| true)
}

fn percent_decoded(name: &[u8], decodes: impl Fn(u8) -> bool) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((&first, tail)) = rest.split_first() {
        let byte = (first == b'%').then(|| hex(tail.get(..2)?)).flatten().filter(|&byte| decodes(byte));
        decoded.push(byte.unwrap_or(first));
        rest = if byte.is_some() { &tail[2..] } else { tail };
    }
    decoded
}

fn hex(digits: &[u8]) -> Option<u8> {
    let digit = |b: u8| char::from(b).to_digit(16);
    Some((digit(digits[0])? << 4 | digit(digits[1])?) as u8)
}

/// RFC 4648, with or without the padding.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.trim_ascii_end();
    let end = text.iter().position(|&b| b == b'=').unwrap_or(text.len());
    if text[end..].len() > 2 || !text[end..].iter().all(|&b| b == b'=') {
        return None;
    }
    let mut bytes = Vec::with_capacity(end * 3 / 4);
    for group in text[..end].chunks(4) {
        let mut bits = 0_u32;
        for &c in group {
            let six = match c {
                b'A'..=b'Z' => c - b'A',
                b'a'..=b'z' => c - b'a' + 26,
                b'0'..=b'9' => c - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(six);
        }
        let whole = match group.len() {
            4 => 3,
            3 => 2,
            2 => 1,
            _ => return None,
        };
        bits <<= 6 * (4 - group.len());
        bytes.extend_from_slice(&bits.to_be_bytes()[1..1 + whole]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_as_long_as_it_says_and_ends_in_a_newline() {
        assert_eq!(record(b"12 path=abc\nrest"), Some((&b"path"[..], &b"abc"[..], &b"rest"[..])));
        assert_eq!(record(b"012 path=ab\n"), Some((&b"path"[..], &b"ab"[..], &b""[..])));
        assert_eq!(record(b"9 a=b\nc\n\n"), Some((&b"a"[..], &b"b\nc\n"[..], &b""[..])));
        assert_eq!(record(b"8 a=b=c\n"), Some((&b"a"[..], &b"b=c"[..], &b""[..])));
        for bad in [
            &b"11 path=abc\n"[..],
            b"13 path=abc\n",
            b"12 path=abcX",
            b"0 a=b\n",
            b"2 a=b\n",
            b"3 a=b\n",
            b" 6 a=b\n",
            b"5 ab\n",
            b"5 =b\n",
            b"-6 a=b\n",
            b"99999999999999999999999999 a=b\n",
            b"6",
            b"6 ",
        ] {
            assert_eq!(record(bad), None, "{:?}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn times_have_nanoseconds_counted_upward() {
        let at = |seconds, nanoseconds| Some(Time { seconds, nanoseconds });
        assert_eq!(time(b"5"), at(5, 0));
        assert_eq!(time(b"5."), at(5, 0));
        assert_eq!(time(b"1.000000001"), at(1, 1));
        assert_eq!(time(b"1.9999999999"), at(1, 999_999_999));
        assert_eq!(time(b"-1.5"), at(-2, 500_000_000));
        assert_eq!(time(b"-1"), at(-1, 0));
        assert_eq!(time(b"-0.0000000001"), at(-1, 999_999_999));
        assert_eq!(time(b"-1.9999999999"), at(-2, 0));
        for bad in [&b""[..], b".5", b"1e9", b"abc", b"--1", b"1.-5", b"99999999999999999999"] {
            assert_eq!(time(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn attribute_names_and_values_are_decoded_as_their_writers_encode_them() {
        assert_eq!(gnu_decoded(b"user.a%3Db%25c%20"), b"user.a=b%c%20");
        assert_eq!(url_decoded(b"user.a%3Db%20%zz%4"), b"user.a=b %zz%4");
        assert_eq!(base64(b"aGVsbG8="), Some(b"hello".to_vec()));
        assert_eq!(base64(b"aGVsbG8"), Some(b"hello".to_vec()));
        assert_eq!(base64(b""), Some(Vec::new()));
        for bad in [&b"a"[..], b"a===", b"aGV=sbG8", b"aG V", b"===="] {
            assert_eq!(base64(bad), None, "{bad:?}");
        }
    }
}
