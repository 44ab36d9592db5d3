//! Names as archives spell them, made into paths from the new root.

use anyhow::{Result, ensure};

/// A member's path from the root: no slash at either end, no empty or `.` component, no `..`.
/// The root itself is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub path: Vec<u8>,
    pub absolute: bool,
    /// It had a `..`.
    pub upward: bool,
    pub depth: u64,
}

impl Member {
    /// `..` is refused.
    pub fn new(raw: &[u8]) -> Result<Member> {
        let member = Member::of_layer(raw)?;
        ensure!(!member.upward, "the name contains '..'");
        Ok(member)
    }

    /// In a layer `..` removes the name before it, as Go's path.Clean does: umoci, buildah, docker and containerd all read
    /// layers so. Above the root is the root.
    pub fn of_layer(raw: &[u8]) -> Result<Member> {
        ensure!(!raw.contains(&0), "a NUL in the name");
        let (path, absolute) = (Vec::with_capacity(raw.len()), raw.starts_with(b"/"));
        let mut member = Member { path, absolute, upward: false, depth: 0 };
        for part in raw.split(|&b| b == b'/') {
            match part {
                b"" | b"." => continue,
                b".." => {
                    member.upward = true;
                    member.depth = member.depth.saturating_sub(1);
                    let parent = split(&member.path).map_or(0, |(parent, _)| parent.len());
                    member.path.truncate(parent);
                }
                part => {
                    if member.depth > 0 {
                        member.path.push(b'/');
                    }
                    member.path.extend_from_slice(part);
                    member.depth += 1;
                }
            }
        }
        Ok(member)
    }
}

/// The path of the directory and the name in it; None for the root.
pub fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    match path.iter().rposition(|&b| b == b'/') {
        Some(at) => Some((&path[..at], &path[at + 1..])),
        None if path.is_empty() => None,
        None => Some((b"", path)),
    }
}

pub fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() { name.to_owned() } else { [dir, b"/", name].concat() }
}

/// How deep a path is.
pub fn levels(path: &[u8]) -> u64 {
    if path.is_empty() { 0 } else { 1 + path.iter().filter(|&&b| b == b'/').count() as u64 }
}

/// For messages.
pub fn shown(path: &[u8]) -> String {
    if path.is_empty() {
        return "the root directory".into();
    }
    let text = String::from_utf8_lossy(path);
    // Names may be as long as their budget: a message shows the ends.
    if text.chars().count() <= 256 {
        return text.into_owned();
    }
    let head: String = text.chars().take(128).collect();
    let tail: Vec<char> = text.chars().rev().take(96).collect();
    format!("{head}[…]{}", tail.into_iter().rev().collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(raw: &str) -> String {
        String::from_utf8(Member::new(raw.as_bytes()).unwrap().path).unwrap()
    }

    #[test]
    fn a_name_loses_what_means_nothing() {
        assert_eq!(path("a/b"), "a/b");
        assert_eq!(path("./a//b/./c/"), "a/b/c");
        assert_eq!(path("///a"), "a");
        assert_eq!(path("./"), "");
        assert_eq!(path(""), "");
        assert_eq!(path(".../..a"), ".../..a");
        assert!(Member::new(b"/a").unwrap().absolute);
        assert_eq!(Member::new(b"a/b/c").unwrap().depth, 3);
    }

    #[test]
    fn a_name_that_leaves_the_root_is_refused() {
        for raw in ["..", "../a", "a/..", "a/../b", "/..", "./.."] {
            assert!(Member::new(raw.as_bytes()).is_err(), "{raw}");
        }
        assert!(Member::new(b"a\0b").is_err());
    }

    #[test]
    fn a_layers_name_stays_inside_the_root() {
        for (raw, path) in
            [("../a", "a"), ("a/../b", "b"), ("/../../a/..", ""), ("a/b/../../../c/d", "c/d"), ("a", "a")]
        {
            let member = Member::of_layer(raw.as_bytes()).unwrap();
            assert_eq!(member.path, path.as_bytes(), "{raw}");
            assert_eq!(member.upward, raw.contains(".."), "{raw}");
            assert_eq!(member.depth as usize, path.split('/').filter(|name| !name.is_empty()).count(), "{raw}");
        }
    }

    #[test]
    fn splitting_and_joining_are_inverse() {
        for path in ["a", "a/b", "a/b/c"] {
            let (dir, name) = split(path.as_bytes()).unwrap();
            assert_eq!(join(dir, name), path.as_bytes());
        }
        assert_eq!(split(b""), None);
    }
}
