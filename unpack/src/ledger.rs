//! What the tree lacks or has otherwise than the image asked, for stderr and the receipt.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

/// How many names of each kind the receipt lists; the count is always whole.
const LISTED: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Given to the caller in place of the image's owner.
    Owner,
    /// A setuid or setgid bit dropped because its owner was.
    Setuid,
    /// A directory's mode widened so that its owner can remove the tree.
    Mode,
    /// An extended attribute that this filesystem or user cannot set.
    Xattr,
    /// An attribute that overlayfs would act on under `pivot --ephemeral`.
    Overlay,
    /// An access control list that could not be set.
    Acl,
    /// An entry whose name, or the text of a symlink, is longer than this filesystem takes.
    Name,
    /// A device node not made.
    Device,
    /// A name that began with a slash, taken from the root.
    Absolute,
    /// A layer's name with `..` in it, kept inside the root.
    Upward,
}

impl Change {
    const ALL: [Change; 10] = [
        Change::Owner,
        Change::Setuid,
        Change::Mode,
        Change::Xattr,
        Change::Overlay,
        Change::Acl,
        Change::Name,
        Change::Device,
        Change::Absolute,
        Change::Upward,
    ];

    fn key(self) -> &'static str {
        match self {
            Change::Owner => "owners",
            Change::Setuid => "setuid",
            Change::Mode => "modes",
            Change::Xattr => "xattrs",
            Change::Overlay => "overlay_attributes",
            Change::Acl => "acls",
            Change::Name => "names_too_long",
            Change::Device => "devices",
            Change::Absolute => "absolute_names",
            Change::Upward => "upward_names",
        }
    }

    /// One of it, and more.
    fn nouns(self) -> (&'static str, &'static str) {
        match self {
            Change::Owner => ("file now owned by you", "files now owned by you"),
            Change::Setuid => ("setuid bit dropped with its owner", "setuid bits dropped with their owners"),
            Change::Mode => ("directory mode widened for its owner", "directory modes widened for their owner"),
            Change::Xattr => ("extended attribute not set", "extended attributes not set"),
            Change::Overlay => ("overlayfs attribute left out", "overlayfs attributes left out"),
            Change::Acl => ("access control list not set", "access control lists not set"),
            Change::Name => ("entry left out for its name's length", "entries left out for their names' length"),
            Change::Device => ("device not made", "devices not made"),
            Change::Absolute => ("absolute name taken from the root", "absolute names taken from the root"),
            Change::Upward => ("name with '..' kept inside the root", "names with '..' kept inside the root"),
        }
    }
}

pub fn counted(number: u64, (one, more): (&str, &str)) -> String {
    format!("{number} {}", if number == 1 { one } else { more })
}

#[derive(Debug, Default)]
struct Count {
    number: u64,
    names: Vec<String>,
}

#[derive(Debug, Default)]
pub struct Ledger(Mutex<BTreeMap<Change, Count>>);

impl Ledger {
    pub fn note(&self, change: Change, path: &[u8]) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(change).or_default();
        count.number += 1;
        if count.names.len() < LISTED {
            count.names.push(String::from_utf8_lossy(path).into_owned());
        }
    }

    pub fn number(&self, change: Change) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&change).map_or(0, |count| count.number)
    }

    /// One line for people, if anything differs.
    pub fn summary(&self) -> Option<String> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let parts: Vec<_> = counts.iter().map(|(change, count)| counted(count.number, change.nouns())).collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }

    /// Adds what another tree's receipt says.
    pub fn absorb(&self, receipt: &Value) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for change in Change::ALL {
            let said = &receipt[change.key()];
            let Some(number) = said["number"].as_u64() else { continue };
            let count = counts.entry(change).or_default();
            count.number += number;
            let names = said["first"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let room = LISTED.saturating_sub(count.names.len());
            count.names.extend(names.take(room).map(str::to_owned));
        }
    }

    pub fn receipt(&self) -> Value {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = |(change, count): (&Change, &Count)| {
            (change.key().to_owned(), json!({ "number": count.number, "first": count.names }))
        };
        counts.iter().map(entry).collect::<serde_json::Map<_, _>>().into()
    }
}
