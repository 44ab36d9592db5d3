//! What an image wants to run. pivot reads it, and it travels to the last link, because the links between (mountclean,
//! isolate) belong to the chain and not to the image's command.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use anyhow::{Result, anyhow};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    pub entrypoint: Vec<OsString>,
    pub cmd: Vec<OsString>,
    /// None for the superuser.
    pub user: Option<User>,
}

/// The ids of the image's user. The last link changes to them, or an isolate that is added for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
}

impl Image {
    pub(crate) fn to_text(&self) -> String {
        let user = self.user.as_ref().map(User::to_text).unwrap_or_default();
        format!("{}|{}|{user}", list(&self.entrypoint), list(&self.cmd))
    }

    pub(crate) fn from_text(text: &str) -> Option<Image> {
        let mut fields = text.split('|');
        let (entrypoint, cmd, user) = (fields.next()?, fields.next()?, fields.next()?);
        let user = if user.is_empty() { None } else { Some(User::from_text(user)?) };
        Some(Image { entrypoint: words(entrypoint)?, cmd: words(cmd)?, user })
    }
}

impl User {
    /// The id, if an image's word for a user or group is a number. 2^32-1 means "no change" to setuid(2) and the like: a
    /// container that asks for it would stay root.
    pub fn number(word: &str) -> Result<Option<u32>> {
        if word.is_empty() || !word.bytes().all(|b| b.is_ascii_digit()) {
            return Ok(None);
        }
        let id = word.parse().ok().filter(|&id| id != u32::MAX);
        id.map(Some).ok_or_else(|| anyhow!("{word}: not an id that a user or group can have (0 to {})", u32::MAX - 1))
    }

    fn to_text(&self) -> String {
        let numbers = [self.uid, self.gid].into_iter().chain(self.groups.iter().copied());
        numbers.map(|number| number.to_string()).collect::<Vec<_>>().join(":")
    }

    fn from_text(text: &str) -> Option<User> {
        let mut numbers = text.split(':').map(|number| number.parse().ok());
        Some(User { uid: numbers.next()??, gid: numbers.next()??, groups: numbers.collect::<Option<_>>()? })
    }
}

/// Each word behind a comma, bytes that could mean something to the carry in hexadecimal.
fn list(words: &[OsString]) -> String {
    let mut text = String::new();
    for word in words {
        text.push(',');
        for &byte in word.as_bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'_' | b'-' => text.push(byte.into()),
                _ => {
                    let _ = write!(text, "%{byte:02x}");
                }
            }
        }
    }
    text
}

fn words(text: &str) -> Option<Vec<OsString>> {
    text.split(',').skip(1).map(word).collect()
}

fn word(text: &str) -> Option<OsString> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
        bytes.extend(part.get(2..)?.bytes());
    }
    Some(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(groups: &[u32]) -> User {
        User { uid: 7, gid: 8, groups: groups.into() }
    }

    fn image() -> Image {
        let odd = OsString::from_vec(b"a b,c;d=e|f%\xff\n".to_vec());
        Image { entrypoint: vec!["/bin/e".into(), odd], cmd: vec!["".into(), "-x".into()], user: Some(user(&[4])) }
    }

    #[test]
    fn any_bytes_survive_the_way_through_the_carry() {
        let plain = Image { user: Some(user(&[])), ..image() };
        for image in [image(), plain, Image::default(), Image { user: None, ..image() }] {
            let text = image.to_text();
            assert!(!text.contains([';', '=', '\n']), "{text}");
            assert_eq!(Image::from_text(&text), Some(image));
        }
        for text in ["", "|", "||7", ",%zz||", "||7:x", "||7:8:", "||7:8:x"] {
            assert_eq!(Image::from_text(text), None, "{text}");
        }
    }

    #[test]
    fn ids_are_what_the_kernel_takes_for_one() {
        assert_eq!(User::number("0").unwrap(), Some(0));
        assert_eq!(User::number("4294967294").unwrap(), Some(u32::MAX - 1));
        for name in ["", "web", "-1", "+1", "0x10", "1a"] {
            assert_eq!(User::number(name).unwrap(), None, "{name}");
        }
        for none in ["4294967295", "4294967296", "18446744073709551616", "99999999999999999999999"] {
            assert!(User::number(none).unwrap_err().to_string().contains(none));
        }
    }
}
