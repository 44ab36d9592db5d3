//! Command lines of plain flags and a COMMAND, as most are. Building clap's definitions takes longer than the rest of a
//! link's work, so `arguments!` derives a reader of these lines from the same definition at compile time. clap reads
//! every other line and writes every error and help; a test and the fuzzers check that both read the same.

use std::ffi::OsString;
use std::iter::Peekable;
use std::path::PathBuf;
use std::vec::IntoIter;

use clap::Parser;

/// Takes a struct with clap's derive as it is, and adds a reader of plain lines.
#[macro_export]
macro_rules! arguments {
    ($(#[$on_struct:meta])* pub struct $name:ident {
        $($(#[$($attribute:tt)*])* pub $field:ident: $type:ty,)*
    }) => {
        $(#[$on_struct])*
        pub struct $name {
            $($(#[$($attribute)*])* pub $field: $type,)*
        }

        impl $crate::PlainLine for $name {
            fn set(&mut self, flag: &str) -> bool {
                #[allow(unused_imports)]
                use $crate::plain_line::{Flag as _, NoFlag as _};
                $({
                    const HOW: $crate::plain_line::How = $crate::plain_line::How::of(&[$(stringify!($($attribute)*)),*]);
                    if HOW.is_named(stringify!($field), flag) {
                        return (&mut $crate::plain_line::Field(&mut self.$field)).set();
                    }
                })*
                false
            }

            fn take(&mut self, words: &mut $crate::plain_line::Operands) -> bool {
                #[allow(unused_imports)]
                use $crate::plain_line::{NoOperand as _, Operand as _};
                $({
                    const HOW: $crate::plain_line::How = $crate::plain_line::How::of(&[$(stringify!($($attribute)*)),*]);
                    if HOW.is_operand() && !(&mut $crate::plain_line::Field(&mut self.$field)).take(words) {
                        return false;
                    }
                })*
                true
            }
        }
    };
}

/// Arguments that can be read without clap.
pub trait PlainLine: Parser + Default {
    /// Sets a flag, `--long` or `-s`. False: clap has to read this line.
    fn set(&mut self, flag: &str) -> bool;

    /// Takes the words from the first operand on. False: clap has to read this line.
    fn take(&mut self, words: &mut Operands) -> bool;

    /// The arguments, if the line is plain: `words` are those after the tool's own name.
    fn read(words: Vec<OsString>) -> Result<Self, Vec<OsString>> {
        let mut args = Self::default();
        let flags = words.iter().take_while(|word| is_option(word) && *word != "--").count();
        if !words[..flags].iter().all(|word| word.to_str().is_some_and(|word| args.set_each(word))) {
            return Err(words);
        }
        let dashes = words.get(flags).is_some_and(|word| word == "--");
        let rest: Vec<_> = words[flags + usize::from(dashes)..].to_vec();
        let mut operands = Operands { words: rest.into_iter().peekable(), dashes };
        if args.take(&mut operands) { Ok(args) } else { Err(words) }
    }

    /// `--flag`, or each of `-abc`.
    fn set_each(&mut self, word: &str) -> bool {
        match word.strip_prefix('-') {
            Some(letters) if !letters.is_empty() && letters.bytes().all(|letter| letter.is_ascii_alphabetic()) => {
                (0..letters.len()).all(|at| self.set(&format!("-{}", &letters[at..=at])))
            }
            _ => self.set(word),
        }
    }
}

/// The operands, and whether a `--` stood before them.
pub struct Operands {
    words: Peekable<IntoIter<OsString>>,
    dashes: bool,
}

fn is_option(word: &OsString) -> bool {
    word.as_encoded_bytes().starts_with(b"-")
}

/// What the attributes of a field say of it.
#[derive(Clone, Copy)]
pub struct How {
    long: bool,
    short: Short,
    is_arg: bool,
    conflicts: bool,
}

#[derive(Clone, Copy)]
enum Short {
    None,
    First,
    Letter(u8),
}

impl How {
    pub const fn of(attributes: &[&str]) -> How {
        let mut how = How { long: false, short: Short::None, is_arg: false, conflicts: false };
        let mut n = 0;
        while n < attributes.len() {
            let text = attributes[n].as_bytes();
            if starts(text, 0, b"arg(") {
                how.is_arg = true;
                how.read(text);
            }
            n += 1;
        }
        how
    }

    const fn read(&mut self, text: &[u8]) {
        let mut at = 4;
        while at < text.len() {
            // A name in the list, not one in a string.
            if text[at - 1] == b'(' || (text[at - 1] == b' ' && text[at - 2] == b',') {
                self.long |= starts(text, at, b"long,") || starts(text, at, b"long)");
                self.conflicts |= starts(text, at, b"conflicts_with");
                if starts(text, at, b"short = '") {
                    self.short = Short::Letter(text[at + 9]);
                } else if starts(text, at, b"short,") || starts(text, at, b"short)") {
                    self.short = Short::First;
                }
            }
            at += 1;
        }
    }

    pub fn is_operand(self) -> bool {
        self.is_arg && !self.long && matches!(self.short, Short::None)
    }

    pub fn is_named(self, field: &str, word: &str) -> bool {
        if self.conflicts {
            return false;
        }
        match (word.strip_prefix("--"), word.as_bytes()) {
            (Some(long), _) => {
                let same = |(a, b): (u8, u8)| if a == b'_' { b == b'-' } else { a == b };
                self.long && long.len() == field.len() && field.bytes().zip(long.bytes()).all(same)
            }
            (None, [b'-', letter]) => match self.short {
                Short::None => false,
                Short::First => field.as_bytes().first() == Some(letter),
                Short::Letter(own) => own == *letter,
            },
            _ => false,
        }
    }
}

const fn starts(text: &[u8], at: usize, with: &[u8]) -> bool {
    let mut n = 0;
    while n < with.len() {
        if at + n >= text.len() || text[at + n] != with[n] {
            return false;
        }
        n += 1;
    }
    true
}

/// A field of the struct. Method lookup picks the trait for its type: the one that needs fewer references wins, which
/// leaves `NoFlag` and `NoOperand` for all other types.
pub struct Field<'a, T>(pub &'a mut T);

pub trait Flag {
    fn set(&mut self) -> bool;
}

impl Flag for Field<'_, bool> {
    fn set(&mut self) -> bool {
        *self.0 = true;
        true
    }
}

impl<T> Flag for Field<'_, Option<Option<T>>> {
    fn set(&mut self) -> bool {
        *self.0 = Some(None);
        true
    }
}

pub trait NoFlag {
    fn set(&mut self) -> bool;
}

impl<T> NoFlag for &mut Field<'_, T> {
    fn set(&mut self) -> bool {
        false
    }
}

pub trait Operand {
    fn take(&mut self, words: &mut Operands) -> bool;
}

impl Operand for Field<'_, PathBuf> {
    fn take(&mut self, operands: &mut Operands) -> bool {
        let Some(word) = operands.words.next().filter(|word| !word.is_empty() && !operands.dashes) else {
            return false;
        };
        *self.0 = word.into();
        // A `--` may stand behind it, and no option.
        !operands.words.peek().is_some_and(is_option) || operands.words.next().is_some_and(|word| word == "--")
    }
}

impl Operand for Field<'_, Vec<OsString>> {
    fn take(&mut self, operands: &mut Operands) -> bool {
        *self.0 = operands.words.by_ref().collect();
        true
    }
}

pub trait NoOperand {
    fn take(&mut self, words: &mut Operands) -> bool;
}

impl<T> NoOperand for &mut Field<'_, T> {
    fn take(&mut self, _: &mut Operands) -> bool {
        false
    }
}
