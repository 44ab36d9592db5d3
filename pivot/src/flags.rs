//! What a mount forbids: as the kernel's attributes, and as words of mount(8).

use chain::attach::{NODEV, NOEXEC, NOSUID, READ_ONLY};

use crate::args::Flags;

pub fn attributes(flags: Flags) -> u64 {
    let Flags { read_only, nosuid, nodev, noexec } = flags;
    let chosen = [(read_only, READ_ONLY), (nosuid, NOSUID), (nodev, NODEV), (noexec, NOEXEC)];
    chosen.into_iter().filter(|(on, _)| *on).fold(0, |all, (_, bit)| all | bit)
}

pub fn words(flags: Flags) -> String {
    let Flags { read_only, nosuid, nodev, noexec } = flags;
    let words = [(read_only, "ro"), (nosuid, "nosuid"), (nodev, "nodev"), (noexec, "noexec")];
    words.into_iter().filter(|(on, _)| *on).map(|(_, word)| word).collect::<Vec<_>>().join(",")
}

/// A function in the script: sets attributes on a mount and on those below it.
pub const REMOUNT_BELOW: &str = "\
remount_below() { findmnt --raw --noheadings --output TARGET --submounts \"$1\" | while read -r point; do \
    mount -o \"remount,bind,$2\" \"$(printf %b \"$point\")\"; done; }";
