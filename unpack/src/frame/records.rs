//! Which records of extended headers GNU tar, bsdtar and Python read alike, or none of them reads: for `--strict`.

use std::collections::HashMap;

/// Records that describe an entry to all three, or to none.
const ALIKE: [&[u8]; 14] = [
    b"path",
    b"linkpath",
    b"size",
    b"uid",
    b"gid",
    b"mtime",
    b"atime",
    b"ctime",
    b"uname",
    b"gname",
    b"comment",
    b"SCHILY.dev",
    b"SCHILY.ino",
    b"SCHILY.nlink",
];

/// Prefixes of tar vendors: a record below one of these that is not known to mean the same to all means something to some.
const VENDORS: [&[u8]; 6] = [b"SCHILY.", b"LIBARCHIVE.", b"RHT.", b"SUN.", b"GNU.", b"MSWINDOWS."];

pub(super) fn agreed(key: &[u8], value: &[u8]) -> bool {
    if ALIKE.contains(&key) {
        // An empty value removes the record, or there is none.
        return !value.is_empty() || key == b"comment";
    }
    match key {
        // pax(1): how names are encoded, and UTF-8 is how they are read.
        b"hdrcharset" | b"charset" => value == b"ISO-IR 10646 2000 UTF-8",
        b"SCHILY.acl.access" | b"SCHILY.acl.default" => is_whole_acl(value),
        _ if key.starts_with(b"SCHILY.xattr.") => !key.contains(&b'%'),
        _ if key.starts_with(b"LIBARCHIVE.xattr.") || key.starts_with(b"GNU.sparse.") => true,
        _ => !VENDORS.iter().any(|vendor| key.starts_with(vendor)),
    }
}

fn is_whole_acl(text: &[u8]) -> bool {
    acl_mode(text).is_some()
}

/// The mode that an ACL goes with, where it says itself all that setting it takes: numbers for names, which need no looking
/// up, and the mask that the kernel asks for.
pub(super) fn acl_mode(text: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(text).ok()?;
    let mut seen: HashMap<(&str, &str), u32> = HashMap::new();
    let mut named = false;
    for entry in text.split([',', '\n']).filter(|entry| !entry.is_empty()) {
        let fields: Vec<&str> = entry.split(':').collect();
        let [kind @ ("user" | "group" | "mask" | "other"), who, permissions] = fields[..] else { return None };
        let letters = permissions.bytes().zip(*b"rwx").filter(|&(have, letter)| have == letter || have == b'-').count();
        let bits = permissions.bytes().fold(0, |bits, b| bits << 1 | u32::from(b != b'-'));
        if letters != 3 || permissions.len() != 3 || seen.insert((kind, who), bits).is_some() {
            return None;
        }
        if !who.is_empty() && (!matches!(kind, "user" | "group") || who.parse::<u32>().is_err()) {
            return None;
        }
        named |= !who.is_empty();
    }
    let of = |kind| seen.get(&(kind, "")).copied();
    let (user, group, other) = (of("user")?, of("group")?, of("other")?);
    match of("mask") {
        None if named => None,
        mask => Some(user << 6 | mask.unwrap_or(group) << 3 | other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_that_only_some_read_are_known() {
        for (key, value) in [
            ("path", "x"),
            ("comment", ""),
            ("SCHILY.xattr.user.a", ""),
            ("SCHILY.ino", "5"),
            ("hdrcharset", "ISO-IR 10646 2000 UTF-8"),
            ("anything.else", "x"),
        ] {
            assert!(agreed(key.as_bytes(), value.as_bytes()), "{key}");
        }
        for (key, value) in [
            ("path", ""),
            ("SCHILY.fflags", "x"),
            ("SCHILY.realsize", "5"),
            ("SCHILY.xattr.user.%41", "x"),
            ("SUN.holesdata", "0 5"),
            ("RHT.security.selinux", "x"),
            ("LIBARCHIVE.symlinktype", "dir"),
            ("GNU.volume.label", "x"),
            ("hdrcharset", "BINARY"),
        ] {
            assert!(!agreed(key.as_bytes(), value.as_bytes()), "{key}");
        }
    }

    #[test]
    fn an_acl_is_whole_where_nothing_has_to_be_guessed() {
        for text in ["user::rw-,group::r--,other::---", "user::rw-\nuser:5:rwx\ngroup::r--\nmask::rwx\nother::---\n"] {
            assert!(is_whole_acl(text.as_bytes()), "{text}");
        }
        for text in [
            "",
            "user::rw-",
            "user::rw-,user:5:rwx,group::r--,other::---",
            "user::rw-,user:daemon:rwx,group::r--,mask::rwx,other::---",
            "user::rw-,user:5:rwx:5,group::r--,mask::rwx,other::---",
            "u::rw-,g::r--,o::---",
            "user::6,group::r--,other::---",
            "user::rw-,user::r--,group::r--,other::---",
        ] {
            assert!(!is_whole_acl(text.as_bytes()), "{text}");
        }
    }
}
