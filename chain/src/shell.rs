//! Words as a POSIX shell would have to be given them.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;

/// One shell word that means exactly these bytes.
pub fn quote(word: impl AsRef<OsStr>) -> String {
    let bytes = word.as_ref().as_bytes();
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"_-./=:,+@%^".contains(b);
    match std::str::from_utf8(bytes) {
        Ok(text) if !bytes.is_empty() && bytes.iter().all(plain) => text.to_owned(),
        Ok(text) => format!("'{}'", text.replace('\'', r"'\''")),
        // printf(1)'s octal escapes are the portable way to bytes that are no text. (Command
        // substitution would eat a newline at the very end of such a word.)
        Err(_) => {
            let mut octal = String::new();
            for b in bytes {
                let _ = write!(octal, "\\{b:03o}");
            }
            format!("\"$(printf '{octal}')\"")
        }
    }
}

/// A command line.
pub fn join<W: AsRef<OsStr>>(words: impl IntoIterator<Item = W>) -> String {
    words.into_iter().map(quote).collect::<Vec<_>>().join(" ")
}
