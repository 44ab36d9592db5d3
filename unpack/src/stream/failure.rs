//! An error with its hint, through an interface that only knows `io::Error`.

use std::error::Error;
use std::{fmt, io};

use chain::Hint;

#[derive(Debug)]
struct Failure(anyhow::Error);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        // The hint is the outermost context and prints as nothing.
        let text = self.0.chain().map(ToString::to_string).find(|text| !text.is_empty());
        f.write_str(&text.unwrap_or_default())
    }
}

impl Error for Failure {}

/// An error for a reader to return.
pub fn failure(error: anyhow::Error) -> io::Error {
    io::Error::other(Failure(error))
}

pub fn is_failure(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Failure>())
}

/// The error, with the hint that a reader in its chain gave.
pub fn hinted(error: anyhow::Error) -> anyhow::Error {
    if error.downcast_ref::<Hint>().is_some() {
        return error;
    }
    let hint = error.chain().find_map(|cause| {
        let failure = cause.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref::<Failure>()?;
        failure.0.downcast_ref::<Hint>().map(|Hint(text)| text.clone())
    });
    match hint {
        Some(text) => error.context(Hint(text)),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};
    use chain::WithHint;

    use super::*;

    #[test]
    fn a_hint_survives_a_reader() {
        let error = Err::<(), _>(anyhow!("too much")).hint("ask for less").unwrap_err();
        let read: io::Result<()> = Err(failure(error));
        let error = hinted(read.context("layer").unwrap_err());
        assert_eq!(error.downcast_ref::<Hint>().unwrap().0, "ask for less");
        assert!(format!("{error:#}").ends_with("layer: too much"));
    }
}
