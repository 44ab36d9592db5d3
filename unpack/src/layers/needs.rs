//! A layer's needs in its receipt. Names are bytes and JSON has characters: each byte is the character of its number.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::tree::{Needs, Whiteouts};

pub fn to_json(needs: &Needs) -> Value {
    let names = |names: &BTreeSet<Vec<u8>>| -> Value {
        names.iter().map(|name| name.iter().map(|&b| char::from(b)).collect::<String>()).collect()
    };
    json!({
        "flat": needs.flat,
        "empty": needs.empty,
        "opaque_root": needs.opaque_root,
        "whiteouts": needs.whiteouts.map(name_of),
        "parents": names(&needs.parents),
        "there": names(&needs.there),
        "absent": names(&needs.absent),
        "implied": names(&needs.implied),
    })
}

/// None for what this version did not write.
pub fn from_json(value: &Value) -> Option<Needs> {
    let names = |key: &str| -> Option<BTreeSet<Vec<u8>>> { value[key].as_array()?.iter().map(bytes).collect() };
    let whiteouts = match &value["whiteouts"] {
        Value::Null => None,
        form => Some(*[Whiteouts::Devices, Whiteouts::Attributes].iter().find(|known| form == name_of(**known))?),
    };
    Some(Needs {
        flat: value["flat"].as_bool()?,
        empty: value["empty"].as_bool()?,
        opaque_root: value["opaque_root"].as_bool()?,
        whiteouts,
        parents: names("parents")?,
        there: names("there")?,
        absent: names("absent")?,
        implied: names("implied")?,
    })
}

pub fn name_of(whiteouts: Whiteouts) -> &'static str {
    match whiteouts {
        Whiteouts::Devices => "device",
        Whiteouts::Attributes => "xattr",
    }
}

fn bytes(name: &Value) -> Option<Vec<u8>> {
    name.as_str()?.chars().map(|c| u8::try_from(c).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needs_outlive_their_receipt_whatever_bytes_are_in_names() {
        let set = |names: &[&[u8]]| names.iter().map(|name| name.to_vec()).collect::<BTreeSet<_>>();
        let needs = Needs {
            flat: true,
            empty: false,
            opaque_root: true,
            whiteouts: Some(Whiteouts::Attributes),
            parents: set(&[b"a/b", b"\xff\x80\"", "\u{e9}".as_bytes()]),
            there: set(&[b"\x01"]),
            absent: set(&[]),
            implied: set(&[b""]),
        };
        let text = to_json(&needs).to_string();
        assert_eq!(from_json(&serde_json::from_str(&text).unwrap()), Some(needs));
        assert_eq!(from_json(&json!({})), None);
        assert_eq!(from_json(&Value::Null), None);
    }
}
