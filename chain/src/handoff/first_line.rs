//! What the first bytes on standard input say, as far as bytes alone can.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::libc::PATH_MAX;

/// Which root's line to wait for.
#[derive(Clone, Copy, Debug)]
pub enum Expect<'a> {
    /// This one, as [`super::absolute`] names it.
    Root(&'a Path),
    /// The one that the line names (ROOT is `-`).
    Any,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict<'a> {
    /// A root's line of this many bytes, newline included.
    Line(usize),
    /// It may become one.
    Wait,
    /// A root's path whose newline will never come.
    Broken,
    /// The absolute path of something else, and nothing after it: another root's line, or data. The bytes alone do not
    /// tell.
    Another { path: &'a Path, whole: bool },
    /// COMMAND's own input.
    Data,
}

/// `ended`: no more bytes will come.
pub(crate) fn verdict<'a>(bytes: &'a [u8], ended: bool, expect: Expect) -> Verdict<'a> {
    match expect {
        Expect::Root(root) => {
            let root = root.as_os_str().as_bytes();
            match bytes.strip_prefix(root) {
                Some([b'\n', ..]) => Verdict::Line(root.len() + 1),
                Some([]) if ended => Verdict::Broken,
                Some([]) => Verdict::Wait,
                Some(_) => another(bytes),
                None if !ended && root.starts_with(bytes) => Verdict::Wait,
                None => another(bytes),
            }
        }
        Expect::Any => match bytes.iter().position(|&b| b == b'\n') {
            _ if bytes.first().is_some_and(|&b| b != b'/') => Verdict::Broken,
            Some(end) => Verdict::Line(end + 1),
            None if ended || bytes.len() > PATH_MAX as usize => Verdict::Broken,
            None => Verdict::Wait,
        },
    }
}

fn another(bytes: &[u8]) -> Verdict<'_> {
    let (path, whole) = match bytes.strip_suffix(b"\n") {
        Some(path) => (path, true),
        None => (bytes, false),
    };
    let is_path = path.starts_with(b"/") && path.len() <= PATH_MAX as usize;
    if is_path && !path.iter().any(|&b| b == b'\n' || b == 0) {
        Verdict::Another { path: Path::new(OsStr::from_bytes(path)), whole }
    } else {
        Verdict::Data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(bytes: &[u8], ended: bool) -> Verdict<'_> {
        verdict(bytes, ended, Expect::Root(Path::new("/a/root")))
    }

    fn another(path: &str, whole: bool) -> Verdict<'_> {
        Verdict::Another { path: Path::new(path), whole }
    }

    #[test]
    fn only_the_roots_own_line_is_a_line() {
        assert_eq!(own(b"/a/root\n", false), Verdict::Line(8));
        assert_eq!(own(b"/a/root\nmore", true), Verdict::Line(8));
        assert_eq!(own(b"echo a\n", false), Verdict::Data);
        assert_eq!(own(b"\n", false), Verdict::Data);
    }

    #[test]
    fn one_absolute_path_and_nothing_else_may_be_another_roots_line() {
        assert_eq!(own(b"/a/root2\n", false), another("/a/root2", true));
        assert_eq!(own(b"/a/roots", false), another("/a/roots", false));
        assert_eq!(own(b"/a/ro", true), another("/a/ro", false));
        assert_eq!(own(b"/a\n/b\n", false), Verdict::Data);
        assert_eq!(own(b"/a\0", false), Verdict::Data);
        assert_eq!(own(&[b'/'; PATH_MAX as usize + 1], false), Verdict::Data);
    }

    #[test]
    fn a_beginning_waits_and_an_end_decides() {
        assert_eq!(own(b"", false), Verdict::Wait);
        assert_eq!(own(b"/a/ro", false), Verdict::Wait);
        assert_eq!(own(b"/a/root", false), Verdict::Wait);
        assert_eq!(own(b"", true), Verdict::Data);
        assert_eq!(own(b"/a/root", true), Verdict::Broken);
    }

    #[test]
    fn any_root_takes_an_absolute_path_and_nothing_else() {
        let any = |bytes, ended| verdict(bytes, ended, Expect::Any);
        assert_eq!(any(b"/x\n", false), Verdict::Line(3));
        assert_eq!(any(b"/x", false), Verdict::Wait);
        assert_eq!(any(b"/x", true), Verdict::Broken);
        assert_eq!(any(b"", true), Verdict::Broken);
        assert_eq!(any(b"x\n", false), Verdict::Broken);
        assert_eq!(any(&[b'/'; PATH_MAX as usize + 1], false), Verdict::Broken);
    }

    /// Every text of up to so many of these bytes.
    fn texts(alphabet: &[u8], length: usize) -> Vec<Vec<u8>> {
        let mut all = vec![Vec::new()];
        let mut last = all.clone();
        for _ in 0..length {
            let longer = |text: &Vec<u8>| {
                let text = text.clone();
                alphabet.iter().map(move |&byte| [&text[..], &[byte]].concat())
            };
            last = last.iter().flat_map(longer).collect();
            all.extend(last.iter().cloned());
        }
        all
    }

    #[test]
    fn no_bytes_that_follow_change_what_was_decided() {
        let all = texts(b"/a\n\0", 6);
        let open = |verdict: &Verdict| matches!(verdict, Verdict::Wait | Verdict::Another { .. });
        for expect in [Expect::Root(Path::new("/a")), Expect::Root(Path::new("/a/a")), Expect::Any] {
            for text in &all {
                let decided = verdict(text, false, expect);
                if let Verdict::Line(length) = decided {
                    assert!(text[..length].ends_with(b"\n") && text.starts_with(b"/"), "{text:?}");
                    assert_eq!(text[..length].iter().filter(|&&b| b == b'\n').count(), 1, "{text:?}");
                    if let Expect::Root(root) = expect {
                        assert_eq!(&text[..length - 1], root.as_os_str().as_bytes());
                    }
                }
                // Whatever arrives later, in whatever pieces, and the end of it too.
                for end in 0..text.len() {
                    let before = verdict(&text[..end], false, expect);
                    assert!(open(&before) || before == decided, "{text:?} at {end}: {before:?}, {decided:?}");
                }
                assert_ne!(verdict(text, true, expect), Verdict::Wait, "{text:?}");
                if !open(&decided) {
                    assert_eq!(verdict(text, true, expect), decided, "{text:?}");
                }
            }
        }
    }
}
