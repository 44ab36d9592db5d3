//! Under which ids the owners of files appear: a map as in mount(8)'s X-mount.idmap.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use chain::id_map::Range;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdMap {
    /// `inner` is the filesystem's id, `outer` the one that appears.
    Ranges { users: Vec<Range>, groups: Vec<Range> },
    /// That of a user namespace, `/proc/PID/ns/user`.
    Namespace(PathBuf),
}

impl FromStr for IdMap {
    type Err = String;

    fn from_str(text: &str) -> Result<IdMap, String> {
        if text.contains('/') {
            return Ok(IdMap::Namespace(text.into()));
        }
        let (mut users, mut groups) = (Vec::new(), Vec::new());
        for part in text.split_whitespace() {
            let (sort, numbers) = match part.split_once(':') {
                Some((sort @ ("u" | "g" | "b"), numbers)) => (sort, numbers),
                _ => ("b", part),
            };
            let range = range(numbers).ok_or_else(|| format!("{part} is not [u:|g:]ID:SHOWN:COUNT"))?;
            if sort != "g" {
                users.push(range);
            }
            if sort != "u" {
                groups.push(range);
            }
        }
        for (ranges, sort, letter) in [(&users, "users", 'u'), (&groups, "groups", 'g')] {
            if ranges.is_empty() {
                return Err(format!("the map names no {sort}: {letter}:ID:SHOWN:COUNT"));
            }
        }
        Ok(IdMap::Ranges { users, groups })
    }
}

/// The last of all numbers is no id (user_namespaces(7)).
fn range(text: &str) -> Option<Range> {
    let numbers: Vec<u32> = text.split(':').map(|number| number.parse().ok()).collect::<Option<_>>()?;
    let [inner, outer, count] = numbers[..] else { return None };
    let fits = |first: u32| first.checked_add(count).is_some();
    (count > 0 && fits(inner) && fits(outer)).then_some(Range { inner, outer, count })
}

impl fmt::Display for IdMap {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            IdMap::Namespace(path) => write!(f, "{}", path.display()),
            IdMap::Ranges { users, groups } => {
                let word = |sort, Range { inner, outer, count }: &Range| format!("{sort}:{inner}:{outer}:{count}");
                let users = users.iter().map(|range| word('u', range));
                let words: Vec<String> = users.chain(groups.iter().map(|range| word('g', range))).collect();
                f.write_str(&words.join(" "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_read_as_mount_reads_it() {
        let shown = |text: &str| text.parse::<IdMap>().map(|map| map.to_string());
        assert_eq!(shown("0:1000:1").unwrap(), "u:0:1000:1 g:0:1000:1");
        assert_eq!(shown("u:0:1:2  b:7:8:9 g:3:4:5").unwrap(), "u:0:1:2 u:7:8:9 g:7:8:9 g:3:4:5");
        assert_eq!(shown("/proc/7/ns/user").unwrap(), "/proc/7/ns/user");
        for wrong in ["", "0", "0:1", "0:1:0", "u:0:1:1", "g:0:1:1", "0:1:x", "0:4294967295:1", "x:0:1:1", "0:1:2:3"] {
            assert!(wrong.parse::<IdMap>().is_err(), "{wrong}");
        }
    }
}
