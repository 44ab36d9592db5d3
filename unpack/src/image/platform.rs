//! What an image runs on: `os/arch` or `os/arch/variant`, in Go's words.

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, bail};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    pub os: String,
    pub architecture: String,
    pub variant: Option<String>,
}

impl Platform {
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Platform {
        let variant = variant.filter(|variant| !variant.is_empty()).map(str::to_owned);
        Platform { os: os.to_owned(), architecture: architecture.to_owned(), variant }
    }

    pub fn host() -> Platform {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "x86" => "386",
            "aarch64" => "arm64",
            "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
            "powerpc64" => "ppc64",
            "loongarch64" => "loong64",
            other => other,
        };
        Platform::new("linux", architecture, None)
    }

    /// Whether an image for `self` is what `wanted` asks for.
    pub fn fits(&self, wanted: &Platform) -> bool {
        let same = self.os == wanted.os && self.architecture == wanted.architecture;
        same && (wanted.variant.is_none() || self.level() == wanted.level())
    }

    /// The variant, or what its absence means.
    fn level(&self) -> &str {
        match (&self.variant, self.architecture.as_str()) {
            (Some(variant), _) => variant,
            (None, "amd64") => "v1",
            (None, "arm") => "v7",
            (None, "arm64") => "v8",
            (None, _) => "",
        }
    }

    /// Smaller is better among those that fit where no variant was asked for: what needs the least
    /// of the processor, but hard float before soft on arm.
    pub fn rank(&self) -> (bool, String) {
        let plain = Platform { variant: None, ..self.clone() };
        (self.level() != plain.level(), self.level().to_owned())
    }
}

impl FromStr for Platform {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Platform> {
        let parts: Vec<&str> = text.split('/').collect();
        match parts[..] {
            [os, architecture] if !os.is_empty() && !architecture.is_empty() => {
                Ok(Platform::new(os, architecture, None))
            }
            [os, architecture, variant] if !os.is_empty() && !architecture.is_empty() && !variant.is_empty() => {
                Ok(Platform::new(os, architecture, Some(variant)))
            }
            _ => bail!("{text:?} is no platform: os/arch or os/arch/variant"),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn platforms_have_two_or_three_parts() {
        assert_eq!(platform("linux/arm/v6").to_string(), "linux/arm/v6");
        assert_eq!(Platform::host().os, "linux");
        for bad in ["", "linux", "linux/", "/amd64", "linux/arm/", "a/b/c/d"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_variant_that_goes_without_saying_is_the_same() {
        assert!(platform("linux/arm64/v8").fits(&platform("linux/arm64")));
        assert!(platform("linux/arm64").fits(&platform("linux/arm64/v8")));
        assert!(!platform("linux/arm/v6").fits(&platform("linux/arm/v7")));
        assert!(platform("linux/arm/v6").fits(&platform("linux/arm")));
        assert!(!platform("windows/amd64").fits(&platform("linux/amd64")));
        let mut all = ["linux/arm/v6", "linux/arm/v5", "linux/arm/v7"].map(platform);
        all.sort_by_key(Platform::rank);
        assert_eq!(all[0].to_string(), "linux/arm/v7");
    }
}
