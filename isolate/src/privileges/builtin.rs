//! Filters that need no file, as words of --seccomp: `default`, `fakeroot`, and calls to let pass or to refuse.

use nix::libc;

use crate::privileges::default::default;
use crate::privileges::profile::{Action, Profile, Rule};
use crate::privileges::syscall::Syscalls;

/// With a user's one id, chown(2) and its kin have nothing to change to: package managers take that for an error.
#[rustfmt::skip]
const FAKED: &[&str] = &[
    "chown", "chown32", "fchown", "fchown32", "fchownat", "lchown", "lchown32", "setgroups", "setgroups32", "setuid", "setuid32",
    "setgid", "setgid32", "setreuid", "setreuid32", "setregid", "setregid32", "setresuid", "setresuid32", "setresgid",
    "setresgid32", "setfsuid", "setfsuid32", "setfsgid", "setfsgid32",
];

pub fn is_one(text: &str) -> bool {
    matches!(text.split(',').next(), Some("default" | "fakeroot"))
}

/// In the order of the words: a later one wins.
pub fn read(text: &str, syscalls: &Syscalls) -> Result<Profile, String> {
    let mut profile = Profile { architectures: default().architectures, ..Profile::default() };
    for word in text.split(',') {
        match (word, word.split_at_checked(1)) {
            ("default", _) => profile.syscalls.extend(default().syscalls),
            ("fakeroot", _) => answer(&mut profile, FAKED, 0),
            (_, Some((sign @ ("+" | "-"), name))) if syscalls.has(name) => match sign {
                "+" => forget(&mut profile, &[name]),
                _ => answer(&mut profile, &[name], libc::EPERM),
            },
            (_, Some(("+" | "-", name))) => return Err(format!("{name}: no system call has this name")),
            _ => return Err(format!("{word} is none of default, fakeroot, +NAME, -NAME")),
        }
    }
    Ok(profile)
}

/// The calls are not made, and return an error or, with 0, success.
fn answer(profile: &mut Profile, names: &[&str], errno: i32) {
    forget(profile, names);
    let names = names.iter().map(|&name| name.to_owned()).collect();
    profile.syscalls.push(Rule { names, action: Action::Errno, errno_ret: Some(errno as u32), ..Rule::default() });
}

fn forget(profile: &mut Profile, names: &[&str]) {
    for rule in &mut profile.syscalls {
        rule.names.retain(|name| !names.contains(&name.as_str()));
    }
    profile.syscalls.retain(|rule| !rule.names.is_empty());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_word_wins() {
        let syscalls = Syscalls::read();
        let errno = |text: &str, name: &str| {
            let profile = read(text, &syscalls).expect("words");
            let rule = profile.syscalls.iter().find(|rule| rule.names.iter().any(|known| known == name));
            rule.map(|rule| rule.errno_ret)
        };
        assert_eq!(errno("default", "mount"), Some(Some(1)));
        assert_eq!(errno("default,+mount", "mount"), None);
        assert_eq!(errno("default,+mount,-mount", "mount"), Some(Some(1)));
        assert_eq!(errno("default,-mkdir", "mkdir"), Some(Some(1)));
        assert_eq!(errno("default,+clone", "clone"), None);
        assert_eq!(errno("fakeroot", "mount"), None);
        assert_eq!(errno("default,fakeroot", "setuid"), Some(Some(0)));
        assert_eq!(errno("fakeroot,-setuid", "setuid"), Some(Some(1)));
        assert!(FAKED.iter().all(|name| syscalls.has(name)));
        for wrong in ["default,", "default,mount", "default,+mkdri", "default,-", "fakeroot,/etc/passwd"] {
            assert!(read(wrong, &syscalls).is_err(), "{wrong}");
        }
        assert!(!is_one("default.json") && !is_one("./default,+mount") && is_one("fakeroot"));
    }
}
