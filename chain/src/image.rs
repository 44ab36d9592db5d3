//! What an image says is to be run in it. pivot reads it, and it travels to the last link of ours,
//! because what goes between (mountclean, isolate) is part of the chain and not of the image's command.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::Command;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    pub entrypoint: Vec<OsString>,
    pub cmd: Vec<OsString>,
    /// Where it is not the superuser: user and group.
    pub user: Option<(u32, u32)>,
}

impl Image {
    /// The command at the end of the chain: words that were typed replace Cmd and follow Entrypoint. A
    /// user is changed to as the last thing of all, by a link of ours.
    pub(crate) fn apply(&self, command: &Command) -> Command {
        let arguments = if command.typed { &command.argv } else { &self.cmd };
        let mut argv = [self.entrypoint.as_slice(), arguments].concat();
        if argv.is_empty() {
            argv.clone_from(&command.argv);
        }
        if let Some((user, group)) = self.user {
            let become_user = ["isolate".into(), format!("--setuid={user}"), format!("--setgid={group}"), "--".into()];
            argv = become_user.into_iter().map(OsString::from).chain(argv).collect();
        }
        Command { argv, env: command.env.clone(), typed: true }
    }

    pub(crate) fn to_text(&self) -> String {
        let user = self.user.map(|(user, group)| format!("{user}:{group}")).unwrap_or_default();
        format!("{}|{}|{user}", list(&self.entrypoint), list(&self.cmd))
    }

    pub(crate) fn from_text(text: &str) -> Option<Image> {
        let mut fields = text.split('|');
        let (entrypoint, cmd, user) = (fields.next()?, fields.next()?, fields.next()?);
        let user = match user.split_once(':') {
            Some((user, group)) => Some((user.parse().ok()?, group.parse().ok()?)),
            None if user.is_empty() => None,
            None => return None,
        };
        Some(Image { entrypoint: words(entrypoint)?, cmd: words(cmd)?, user })
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

    fn image() -> Image {
        let odd = OsString::from_vec(b"a b,c;d=e|f%\xff\n".to_vec());
        Image { entrypoint: vec!["/bin/e".into(), odd], cmd: vec!["".into(), "-x".into()], user: Some((7, 8)) }
    }

    #[test]
    fn any_bytes_survive_the_way_through_the_carry() {
        for image in [image(), Image::default(), Image { user: None, ..image() }] {
            let text = image.to_text();
            assert!(!text.contains([';', '=', '\n']), "{text}");
            assert_eq!(Image::from_text(&text), Some(image));
        }
        for text in ["", "|", "||7", ",%zz||", "||7:x"] {
            assert_eq!(Image::from_text(text), None, "{text}");
        }
    }

    #[test]
    fn typed_words_replace_cmd_and_follow_entrypoint() {
        let image = Image { user: None, entrypoint: vec!["e".into()], cmd: vec!["c".into()] };
        let typed = Command::new(vec!["t".into()], || "sh".into());
        let shell = Command::new(vec![], || "sh".into());
        assert_eq!(image.apply(&typed).argv, ["e", "t"]);
        assert_eq!(image.apply(&shell).argv, ["e", "c"]);
        assert_eq!(Image::default().apply(&typed).argv, ["t"]);
        assert_eq!(Image::default().apply(&shell).argv, ["sh"]);
        let user = Image { user: Some((1, 2)), ..image };
        assert_eq!(user.apply(&shell).argv, ["isolate", "--setuid=1", "--setgid=2", "--", "e", "c"]);
    }
}
