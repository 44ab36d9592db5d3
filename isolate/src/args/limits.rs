//! The values of the options about limits.

use std::str::FromStr;

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Size, String> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let shift = match &text[digits.len()..].to_ascii_uppercase()[..] {
            "" | "B" => 0,
            "K" | "KIB" => 10,
            "M" | "MIB" => 20,
            "G" | "GIB" => 30,
            "T" | "TIB" => 40,
            _ => return Err("not a size: bytes, or with K, M, G or T".into()),
        };
        let number: u64 = digits.parse().map_err(|_| "not a size: bytes, or with K, M, G or T")?;
        match number.checked_mul(1 << shift) {
            None => Err("out of range".into()),
            // A kernel that is asked for less kills COMMAND before it starts.
            Some(bytes) if bytes < 256 << 10 => Err(format!("too small for any program to start: {digits}M?")),
            Some(bytes) => Ok(Size(bytes)),
        }
    }
}

/// Thousandths of a processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpus(pub u64);

impl FromStr for Cpus {
    type Err = String;

    fn from_str(text: &str) -> Result<Cpus, String> {
        let number: f64 = text.parse().map_err(|_| "not a number such as 0.5 or 2")?;
        // The kernel takes no less than 1 ms of time in a period, which is 100 ms here.
        if !(0.01..=100_000.0).contains(&number) {
            return Err("out of range: 0.01 to 100000 (no limit: leave the option out)".into());
        }
        Ok(Cpus((number * 1000.0).round() as u64))
    }
}

/// A number of processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pids(pub u64);

impl FromStr for Pids {
    type Err = String;

    fn from_str(text: &str) -> Result<Pids, String> {
        // The kernel's PID_MAX_LIMIT: pids.max takes no higher number.
        match text.parse() {
            Ok(number @ ..=4_194_304) => Ok(Pids(number)),
            Ok(_) => Err("out of range: 4194304 is the kernel's highest (no limit: leave the option out)".into()),
            Err(_) if text == "max" => Err("no limit is what holds without the option: leave it out".into()),
            Err(_) => Err("not a number".into()),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rlimit {
    pub name: String,
    /// None is unlimited.
    pub soft: Option<u64>,
    pub hard: Option<u64>,
}

impl FromStr for Rlimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Rlimit, String> {
        let (name, value) = text.split_once('=').ok_or("not NAME=SOFT[:HARD]")?;
        let number = |text: &str| match text {
            "unlimited" | "infinity" | "-1" => Ok(None),
            text => text.parse().map(Some).map_err(|_| format!("{text:?} is neither a number nor `unlimited`")),
        };
        let (soft, hard) = value.split_once(':').unwrap_or((value, value));
        Ok(Rlimit { name: name.to_lowercase(), soft: number(soft)?, hard: number(hard)? })
    }
}
