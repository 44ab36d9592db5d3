//! What the values of the options for volumes consist of: fields between colons, paths in the root, a mount's flags.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// What a mount forbids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    pub read_only: bool,
    pub nosuid: bool,
    pub nodev: bool,
    pub noexec: bool,
}

impl Flags {
    /// Sets what a word of mount(8) says; false where it is none.
    pub fn set(&mut self, word: &str) -> bool {
        let (flag, value) = match word {
            "ro" | "rw" => (&mut self.read_only, word == "ro"),
            "nosuid" | "suid" => (&mut self.nosuid, word == "nosuid"),
            "nodev" | "dev" => (&mut self.nodev, word == "nodev"),
            "noexec" | "exec" => (&mut self.noexec, word == "noexec"),
            _ => return false,
        };
        *flag = value;
        true
    }
}

/// Splits at colons; a backslash takes the next byte as it is. Names need not be text.
pub fn fields(text: &OsStr) -> Vec<OsString> {
    let mut fields = vec![Vec::new()];
    let mut bytes = text.as_bytes().iter().copied();
    while let Some(byte) = bytes.next() {
        match (byte, fields.last_mut()) {
            (b':', _) => fields.push(Vec::new()),
            (b'\\', Some(field)) => field.push(bytes.next().unwrap_or(b'\\')),
            (byte, Some(field)) => field.push(byte),
            (_, None) => {}
        }
    }
    fields.into_iter().map(OsString::from_vec).collect()
}

pub fn named(what: &str, path: &OsStr) -> Result<PathBuf, String> {
    if path.is_empty() { Err(format!("{what} is empty")) } else { Ok(path.into()) }
}

/// A path in the root, which the root itself is not.
pub fn inner(path: &OsStr) -> Result<PathBuf, String> {
    let target = named("DST", path)?;
    if target.components().any(|part| matches!(part, std::path::Component::Normal(_))) {
        Ok(target)
    } else {
        Err(format!("{}: DST must be below the root", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backslash_keeps_a_colon_in_a_name() {
        assert_eq!(fields(OsStr::new(r"a\:b:c\\:d")), ["a:b", r"c\", "d"]);
        assert_eq!(fields(OsStr::from_bytes(b"\xff:\\")), [OsStr::from_bytes(b"\xff"), OsStr::new(r"\")]);
    }
}
