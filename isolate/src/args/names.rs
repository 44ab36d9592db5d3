//! Names of signals and capabilities, in any of their spellings.

use std::str::FromStr;

/// A signal by name, with or without SIG, or by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignalName(pub String);

impl FromStr for SignalName {
    type Err = String;

    fn from_str(text: &str) -> Result<SignalName, String> {
        let name = text.to_uppercase();
        Ok(SignalName(name.strip_prefix("SIG").unwrap_or(&name).to_owned()))
    }
}

/// The name of a capability without CAP_, ALL or DEFAULT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapabilityName(pub String);

impl FromStr for CapabilityName {
    type Err = String;

    fn from_str(text: &str) -> Result<CapabilityName, String> {
        let name = text.to_uppercase();
        Ok(CapabilityName(name.strip_prefix("CAP_").unwrap_or(&name).to_owned()))
    }
}
