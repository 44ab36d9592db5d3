//! The value of --bind and --bind-try.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::fields::{Flags, fields, inner, named};
use super::id_map::IdMap;

/// A file or directory of the host's, and how it appears in the root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bind {
    pub source: PathBuf,
    pub target: PathBuf,
    pub flags: Flags,
    /// Nothing is mounted where SRC is not there.
    pub optional: bool,
    /// Without what is mounted below SRC.
    pub alone: bool,
    /// What is mounted below SRC later appears as well.
    pub receives: bool,
    pub changes: Changes,
    /// Directories that show below SRC, the uppermost first.
    pub lower: Vec<PathBuf>,
    pub id_map: Option<IdMap>,
}

/// Where what COMMAND changes in a volume goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Changes {
    #[default]
    Source,
    Memory,
    Directory(PathBuf),
}

impl Bind {
    pub fn is_overlay(&self) -> bool {
        self.changes != Changes::Source || !self.lower.is_empty()
    }
}

const WORDS: &str = "ro, rw, nosuid, nodev, noexec, bind, rbind, rslave, idmap=MAP, ephemeral, overlay=DIR, lower=DIR";

pub fn bind_try(text: OsString) -> Result<Bind, String> {
    Ok(Bind { optional: true, ..bind(text)? })
}

pub fn bind(text: OsString) -> Result<Bind, String> {
    let fields = fields(&text);
    let (source, target, words) = match fields.as_slice() {
        [source] => (source, source, OsString::new()),
        [source, target] => (source, target, OsString::new()),
        // The colons of the last field are its own: those of idmap=.
        [source, target, words @ ..] => (source, target, words.join(OsStr::new(":"))),
        [] => return Err("SRC is empty".into()),
    };
    let target = if target.is_empty() && !words.is_empty() { source } else { target };
    let mut bind = Bind { source: named("SRC", source)?, target: inner(target)?, ..Bind::default() };
    for word in words.as_bytes().split(|&byte| byte == b',').filter(|word| !word.is_empty()) {
        bind.set(word)?;
    }
    if bind.receives && (bind.is_overlay() || bind.id_map.is_some()) {
        return Err("rslave goes with neither an overlay nor idmap, which do not receive mounts".into());
    }
    Ok(bind)
}

impl Bind {
    fn set(&mut self, word: &[u8]) -> Result<(), String> {
        let text = || String::from_utf8_lossy(word);
        let (name, value) = match word.iter().position(|&byte| byte == b'=') {
            Some(at) => (&word[..at], Some(&word[at + 1..]).filter(|value| !value.is_empty())),
            None => (word, None),
        };
        match (name, value.map(OsStr::from_bytes)) {
            (b"overlay", Some(dir)) => self.changes = Changes::Directory(dir.into()),
            (b"ephemeral", None) => self.changes = Changes::Memory,
            (b"lower", Some(dir)) => self.lower.push(dir.into()),
            (b"idmap", Some(map)) => self.id_map = Some(map.to_string_lossy().parse()?),
            (b"bind" | b"rbind", None) => self.alone = name == b"bind",
            (b"rslave", None) => self.receives = true,
            (_, None) if self.flags.set(&text()) => {}
            _ => return Err(format!("{} is none of {WORDS}", text())),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Bind, String> {
        bind(text.into())
    }

    #[test]
    fn an_empty_destination_with_options_is_the_source() {
        let bind = parsed(r"/a::ro,overlay=b\:c").unwrap();
        assert_eq!((bind.source, bind.target, bind.flags.read_only), ("/a".into(), "/a".into(), true));
        assert_eq!(bind.changes, Changes::Directory("b:c".into()));
    }

    #[test]
    fn the_options_say_what_a_volume_shows_and_where_changes_go() {
        let bind = parsed("a:/b:ephemeral,lower=c,lower=d,bind,idmap=u:0:1:2 g:3:4:5").unwrap();
        assert_eq!((bind.changes, bind.lower), (Changes::Memory, vec!["c".into(), "d".into()]));
        assert!(bind.alone && !bind.receives);
        assert_eq!(bind.id_map.unwrap().to_string(), "u:0:1:2 g:3:4:5");
        assert!(parsed("a:/b:rslave,ro").unwrap().receives);
        for wrong in [
            "",
            "a:",
            "a:/:ro",
            "a:b:c:d",
            "a:/b:x",
            "a:/b:lower=",
            "a:/b:idmap",
            "a:/b:rslave,ephemeral",
            "a:/b:rslave,lower=c",
            "a:/b:rslave,idmap=0:1:2",
            "a:/b:ephemeral=x",
            "a:/b:ro=1",
        ] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }
}
