//! Command lines as most are: flags, and then what is run. To build clap's definitions takes longer than the rest of
//! a link's work, so these are read from the words themselves. Every other line, and every error and help, is clap's;
//! what is read here is what clap would have read (`fuzz::arguments` and the links' own tests hold that).

use std::ffi::OsString;

use clap::Parser;

/// Arguments that can be read without clap.
pub trait Usual: Parser + Default {
    /// Sets what this flag sets; false where it is not one that stands alone, or was given before.
    fn set(&mut self, flag: &str) -> bool;

    /// Takes the words from the first operand on, without the `--` that may stand before it; false where clap has to
    /// look at them.
    fn operands(&mut self, words: Vec<OsString>, dashes: bool) -> bool;

    /// The arguments, if they are usual: `words` are those after the tool's own name.
    fn read(words: impl IntoIterator<Item = OsString>) -> Option<Self> {
        let mut args = Self::default();
        let mut words = words.into_iter();
        let first = loop {
            match words.next() {
                Some(word) if is_option(&word) && word != "--" => {
                    if !word.to_str().is_some_and(|flag| args.set(flag)) {
                        return None;
                    }
                }
                first => break first,
            }
        };
        let dashes = first.as_ref().is_some_and(|word| word == "--");
        let words = first.into_iter().filter(|_| !dashes).chain(words).collect();
        args.operands(words, dashes).then_some(args)
    }
}

/// Whether clap would look at a word for an option's name.
pub fn is_option(word: &OsString) -> bool {
    word.as_encoded_bytes().starts_with(b"-")
}

/// Sets a flag that may be given once.
pub fn once(flag: &mut bool) -> bool {
    !std::mem::replace(flag, true)
}
