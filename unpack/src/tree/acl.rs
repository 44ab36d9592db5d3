//! POSIX access control lists: from the text of archives (acl(5)) to the attribute that the kernel
//! takes (linux/posix_acl_xattr.h).

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use chain::account::{self, Sort};

const VERSION: u32 = 2;
const NO_ID: u32 = u32::MAX;

const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// The kernel takes no larger attribute (XATTR_SIZE_MAX, 64 KiB).
const MOST: usize = (64 << 10) / 8;

/// The attribute's value. None for a text that is not an ACL or that names an unknown user.
pub fn binary(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    let mut entries: Vec<_> = entries(text).take(MOST).map(parse).collect::<Option<_>>()?;
    if entries.len() == MOST {
        return None;
    }
    entries.sort_unstable();
    entries.dedup_by_key(|entry| (entry.0, entry.1));
    let mut value = VERSION.to_le_bytes().to_vec();
    for (tag, id, permissions) in entries {
        value.extend(tag.to_le_bytes());
        value.extend(permissions.to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    Some(value)
}

fn entries(text: &str) -> impl Iterator<Item = &str> {
    let bare = |entry: &'_ str| entry.find('#').unwrap_or(entry.len());
    text.split([',', '\n']).map(move |entry| entry[..bare(entry)].trim()).filter(|entry| !entry.is_empty())
}

/// What an ACL's text allows the owning group, even if other entries mean nothing here.
pub fn owning_group(text: &[u8]) -> Option<u16> {
    let text = String::from_utf8_lossy(text);
    // Names need no lookup for this.
    let unnamed = |entry: &&str| entry.split(':').nth(1).is_some_and(|who| who.trim().is_empty());
    entries(&text).filter(unnamed).filter_map(parse).find(|entry| entry.0 == GROUP_OBJ).map(|entry| entry.2)
}

/// `user:name:rwx`, perhaps with the number behind it as star and libarchive write it.
fn parse(entry: &str) -> Option<(u16, u32, u16)> {
    let mut fields = entry.split(':').map(str::trim);
    let (kind, who) = (fields.next()?, fields.next()?);
    let permissions = permissions(fields.next()?)?;
    let number = fields.next().and_then(|text| text.parse().ok());
    let id = |sort| number.or_else(|| who.parse().ok()).or_else(|| look_up(sort, who));
    match (kind, who.is_empty()) {
        ("user" | "u", true) => Some((USER_OBJ, NO_ID, permissions)),
        ("user" | "u", false) => Some((USER, id(Sort::User)?, permissions)),
        ("group" | "g", true) => Some((GROUP_OBJ, NO_ID, permissions)),
        ("group" | "g", false) => Some((GROUP, id(Sort::Group)?, permissions)),
        ("mask" | "m", true) => Some((MASK, NO_ID, permissions)),
        ("other" | "o", true) => Some((OTHER, NO_ID, permissions)),
        _ => None,
    }
}

fn permissions(text: &str) -> Option<u16> {
    if let Ok(number) = text.parse::<u16>() {
        return (number < 8).then_some(number);
    }
    text.chars().try_fold(0, |bits, c| match c {
        'r' => Some(bits | 4),
        'w' => Some(bits | 2),
        'x' => Some(bits | 1),
        '-' => Some(bits),
        _ => None,
    })
}

/// A name without a number means this machine's user, as in GNU tar.
fn look_up(sort: Sort, name: &str) -> Option<u32> {
    /// An archive may hold millions of them, of which this machine knows few.
    static FOUND: Mutex<BTreeMap<(bool, String), u32>> = Mutex::new(BTreeMap::new());
    let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    let key = (matches!(sort, Sort::User), name.to_owned());
    if let Some(id) = found.get(&key) {
        return Some(*id);
    }
    let id = account::id(sort, name.as_ref()).ok()?;
    found.insert(key, id);
    Some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_what_setfacl_would_store() {
        let value = binary(b"user::rwx\nuser:1000:rw-\ngroup::r-x\nmask::rwx\nother::r--\n").unwrap();
        let expected = [
            &[2, 0, 0, 0][..],
            &[1, 0, 7, 0, 255, 255, 255, 255],
            &[2, 0, 6, 0, 232, 3, 0, 0],
            &[4, 0, 5, 0, 255, 255, 255, 255],
            &[16, 0, 7, 0, 255, 255, 255, 255],
            &[32, 0, 4, 0, 255, 255, 255, 255],
        ];
        assert_eq!(value, expected.concat());
        assert_eq!(binary(b"other::r--,mask::7,group::r-x,user:nobody-here:rw-:1000,user::rwx").unwrap(), value);
    }

    /// The kernel refuses such a list (posix_acl_valid): a mask of our own making would grant what no entry does.
    #[test]
    fn a_missing_mask_is_not_made_up() {
        let value = binary(b"u::rw-,g:5:-w-,g::r--,o::---").unwrap();
        assert!(!value[4..].chunks_exact(8).any(|entry| entry[0] == 16));
    }

    #[test]
    fn the_owning_groups_permissions_are_found_among_entries_that_mean_nothing() {
        assert_eq!(owning_group(b"user::rwx,user:no such user:rwx,group::r--,mask::rwx"), Some(4));
        assert_eq!(owning_group(b"user::rwx,group:5:rwx"), None);
    }

    #[test]
    fn a_name_is_looked_up_here_and_more_entries_than_the_kernel_takes_are_not() {
        for _ in 0..2 {
            assert_eq!(binary(b"user:root:rwx"), binary(b"user:0:rwx"));
            assert_eq!(binary(b"group:root:rwx"), binary(b"group:0:rwx"));
        }
        let entries = |number| (0..number).map(|id| format!("user:{id}:rwx")).collect::<Vec<_>>().join(",");
        assert!(binary(entries(MOST - 1).as_bytes()).is_some());
        assert!(binary(entries(MOST).as_bytes()).is_none());
    }

    #[test]
    fn what_is_no_acl_is_none() {
        for text in ["user", "user::rwz", "mask:x:rwx", "user:no such user:rwx", "user::8", "x::rwx"] {
            assert!(binary(text.as_bytes()).is_none(), "{text}");
        }
        assert!(binary(b"user::rwx\xff").is_none());
    }
}
