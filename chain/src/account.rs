//! Users and groups by name (passwd(5), group(5)), and the ids that they were granted (subuid(5)). They are looked up
//! in files: a static program has no name service switch, and an image may not have the host's.

mod in_root;

use std::ffi::OsStr;

use anyhow::{Context, Result, anyhow};
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use crate::retry_eintr::open;
use crate::{WithHint, read_small};

pub use in_root::in_root;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    User,
    Group,
}

impl Sort {
    fn file(self) -> &'static str {
        match self {
            Sort::User => "/etc/passwd",
            Sort::Group => "/etc/group",
        }
    }

    pub fn sub_file(self) -> &'static str {
        match self {
            Sort::User => "/etc/subuid",
            Sort::Group => "/etc/subgid",
        }
    }

    fn noun(self) -> &'static str {
        match self {
            Sort::User => "user",
            Sort::Group => "group",
        }
    }
}

/// A number, or a name in /etc/passwd or /etc/group.
pub fn id(sort: Sort, text: &OsStr) -> Result<u32> {
    let name = text.to_str().with_context(|| format!("{}: not a {}", text.display(), sort.noun()))?;
    if let Ok(number) = name.parse::<u32>() {
        return valid(number).with_context(|| format!("{number}: out of range"));
    }
    let file = sort.file();
    id_of(&table(file)?, name)
        .ok_or_else(|| anyhow!("{name}: no such {} in {file}", sort.noun()))
        .hint(format!("names are looked up in {file} alone; give the number: id {name}"))
}

/// The kernel takes the last number for "no change" (setresuid(2)).
fn valid(id: u32) -> Option<u32> {
    (id != u32::MAX).then_some(id)
}

/// Behind a pivot these files are the image's, and may be anything.
fn table(file: &str) -> Result<String> {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let content = open(file, flags, Mode::empty()).map_err(Into::into).and_then(read_small);
    Ok(String::from_utf8_lossy(&content.context(file.to_owned())?).into_owned())
}

pub fn id_of(table: &str, name: &str) -> Option<u32> {
    table.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then(|| valid(fields.nth(1)?.parse().ok()?)).flatten()
    })
}

/// The fields of the first line with this number. They need not be text.
pub fn entry(table: &[u8], id: u32) -> Option<Vec<&[u8]>> {
    let number = |field: &[u8]| std::str::from_utf8(field).ok()?.parse().ok();
    table
        .split(|&b| b == b'\n')
        .map(|line| line.split(|&b| b == b':').collect::<Vec<_>>())
        .find(|fields| fields.get(2).copied().and_then(number) == Some(id))
}

/// The name of a user, if /etc/passwd has one.
pub fn name_of(table: &str, user: u32) -> Option<String> {
    entry(table.as_bytes(), user).map(|fields| String::from_utf8_lossy(fields[0]).into_owned())
}

/// The subordinate ranges of a user, by name or number (subuid(5)): first id and count. The ranges
/// of groups belong to users as well.
pub fn subordinate(sort: Sort, user: u32) -> Result<Vec<(u32, u32)>> {
    let file = sort.sub_file();
    let name = table(Sort::User.file()).ok().and_then(|table| name_of(&table, user));
    let table = table(file).hint(missing(file, name.as_deref(), user))?;
    let ranges = ranges(&table, name.as_deref(), user);
    if ranges.is_empty() {
        return Err(anyhow!("{file}: no range for {}", name.as_deref().unwrap_or(&user.to_string()))).hint(missing(
            file,
            name.as_deref(),
            user,
        ));
    }
    Ok(ranges)
}

pub fn ranges(table: &str, name: Option<&str>, user: u32) -> Vec<(u32, u32)> {
    let number = user.to_string();
    table
        .lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let owner = fields.next()?;
            let own = owner == number || Some(owner) == name;
            let range: (u32, u32) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
            (own && range.1 > 0 && range.0.checked_add(range.1).is_some()).then_some(range)
        })
        .collect()
}

fn missing(file: &str, name: Option<&str>, user: u32) -> String {
    let owner = name.map_or(user.to_string(), str::to_owned);
    let option = if file == Sort::User.sub_file() { "--add-subuids" } else { "--add-subgids" };
    format!("root can grant one: usermod {option} 100000-165535 {owner}, or the line {owner}:100000:65536 in {file}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_found_by_its_number() {
        let table = b"root:x:0:0::/root:/bin/sh\nbad\nme:x:7:8:\xff:/home/me:";
        assert_eq!(entry(table, 7).map(|fields| fields[0]), Some(&b"me"[..]));
        assert_eq!((entry(table, 8), entry(b"", 0)), (None, None));
        assert_eq!((name_of("me:x:7", 7).as_deref(), name_of("me:x", 7)), (Some("me"), None));
    }
}
