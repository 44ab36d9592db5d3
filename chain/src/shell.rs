//! Words as a POSIX shell needs them quoted.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;

/// One shell word for exactly these bytes, safe to show on a terminal: they may come from an image.
pub fn quote(word: impl AsRef<OsStr>) -> String {
    let bytes = word.as_ref().as_bytes();
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"_-./=:,+@%^".contains(b);
    let harmless = |text: &str| !text.chars().any(|c| crate::drives_terminal(c) && !matches!(c, '\n' | '\t'));
    match std::str::from_utf8(bytes) {
        Ok(text) if !bytes.is_empty() && bytes.iter().all(plain) => text.to_owned(),
        Ok(text) if harmless(text) => format!("'{}'", text.replace('\'', r"'\''")),
        // printf(1)'s octal escapes are the portable way to such bytes. Command substitution drops the newlines at
        // the end, which follow as they are.
        _ => {
            let end = bytes.iter().rposition(|&b| b != b'\n').map_or(0, |last| last + 1);
            let mut octal = String::new();
            for b in &bytes[..end] {
                let _ = write!(octal, "\\{b:03o}");
            }
            let newlines = "\n".repeat(bytes.len() - end);
            let newlines = if newlines.is_empty() { newlines } else { format!("'{newlines}'") };
            format!("\"$(printf '{octal}')\"{newlines}")
        }
    }
}

/// A command line.
pub fn join<W: AsRef<OsStr>>(words: impl IntoIterator<Item = W>) -> String {
    words.into_iter().map(quote).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[test]
    fn a_shell_reads_every_word_as_it_was_and_a_terminal_sees_no_control_character() {
        let words: [&[u8]; 8] = [
            b"",
            b"it's\n\ta 'word'\n",
            b"\x1b]0;title\x07",
            "\u{9b}31m\u{202e}gpj\u{61c}\u{2066}".as_bytes(),
            b"\x7f\r\n\n",
            b"\xff%s\\\n",
            b"$(id)`id`\x08",
            "größe".as_bytes(),
        ];
        for word in words {
            let quoted = quote(std::ffi::OsString::from_vec(word.to_vec()));
            let shown = quoted.chars().find(|&c| crate::drives_terminal(c) && !matches!(c, '\n' | '\t'));
            assert_eq!(shown, None, "{quoted:?}");
            let script = format!("printf %s {quoted}");
            let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(output.stdout, word, "{quoted:?}");
        }
    }
}
