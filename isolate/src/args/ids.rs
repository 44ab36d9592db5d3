//! The values of the options about ids.

use std::ffi::OsString;
use std::str::FromStr;

/// A value of --map-users or --map-groups, as unshare(1) takes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mapping {
    Auto,
    /// The own ranges, to themselves.
    Subids,
    /// Everything that is mapped here, to itself.
    All,
    Range {
        inner: u32,
        outer: u32,
        count: u32,
    },
}

impl FromStr for Mapping {
    type Err = String;

    fn from_str(text: &str) -> Result<Mapping, String> {
        let numbers = |separator| {
            let numbers = text.split(separator).map(str::parse).collect::<Result<Vec<u32>, _>>().ok()?;
            <[u32; 3]>::try_from(numbers).ok()
        };
        match text {
            "auto" => Ok(Mapping::Auto),
            "subids" => Ok(Mapping::Subids),
            "all" => Ok(Mapping::All),
            _ => {
                let [inner, outer, count] = numbers(':')
                    .or_else(|| numbers(',').map(|[outer, inner, count]| [inner, outer, count]))
                    .ok_or("not INNER:OUTER:COUNT")?;
                if count == 0 || inner.checked_add(count).is_none() || outer.checked_add(count).is_none() {
                    return Err("ids go from 0 to 4294967294, and a range has at least one".into());
                }
                Ok(Mapping::Range { inner, outer, count })
            }
        }
    }
}

pub fn allow_or_deny(text: &str) -> Result<bool, String> {
    match text {
        "allow" => Ok(true),
        "deny" => Ok(false),
        _ => Err("allow or deny".into()),
    }
}

/// A value of --owner: numbers or names, as they are looked up later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    pub user: OsString,
    pub group: OsString,
}

impl FromStr for Owner {
    type Err = String;

    fn from_str(text: &str) -> Result<Owner, String> {
        match text.split_once(':') {
            Some((user, group)) if !user.is_empty() && !group.is_empty() => {
                Ok(Owner { user: user.into(), group: group.into() })
            }
            _ => Err("not USER:GROUP".into()),
        }
    }
}
