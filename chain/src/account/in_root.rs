//! The user that an image names, by the files of its own root.

use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use nix::fcntl::OFlag;
use nix::sys::stat::SFlag;

use crate::{User, file_kind, open_inside, read_small};

#[derive(Debug, PartialEq, Eq)]
pub struct Account {
    pub ids: User,
    pub home: String,
}

/// `user[:group]`, each a number or a name of the root's own. Where no group is given, the user's other
/// groups count too (the image specification, config.md).
pub fn in_root(text: &str, root: &OwnedFd) -> Result<Account> {
    let (name, group) = text.split_once(':').map_or((text, ""), |both| both);
    let name = if name.is_empty() { "0" } else { name };
    let passwd = table(root, "etc/passwd")?;
    let number = User::number(name)?;
    let entry = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| {
        fields.len() >= 6
            && match number {
                Some(uid) => fields[2].parse() == Ok(uid),
                None => fields[0] == name,
            }
    });
    let (uid, gid, home) = match (&entry, number) {
        (Some(fields), _) => match (User::number(fields[2])?, User::number(fields[3])?) {
            (Some(uid), Some(gid)) => (uid, gid, fields[5].to_owned()),
            _ => bail!("/etc/passwd in the root: no numbers for user {name}"),
        },
        (None, Some(uid)) => (uid, 0, if uid == 0 { "/root".into() } else { "/".into() }),
        (None, None) => {
            bail!("the image's user {name} is not in its /etc/passwd");
        }
    };
    let (gid, groups) = match (group, entry) {
        ("", Some(fields)) => (gid, groups_of(fields[0], root)?),
        ("", None) => (gid, Vec::new()),
        (group, _) => (self::group(group, root)?, Vec::new()),
    };
    Ok(Account { ids: User { uid, gid, groups }, home })
}

fn groups_of(name: &str, root: &OwnedFd) -> Result<Vec<u32>> {
    if name.is_empty() {
        return Ok(Vec::new());
    }
    let groups = table(root, "etc/group")?;
    let lines = groups.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let member = |fields: &Vec<&str>| fields.get(3).is_some_and(|list| list.split(',').any(|one| one == name));
    Ok(lines.filter(member).filter_map(|fields| User::number(fields[2]).ok()?).collect())
}

fn group(name: &str, root: &OwnedFd) -> Result<u32> {
    if let Some(gid) = User::number(name)? {
        return Ok(gid);
    }
    let groups = table(root, "etc/group")?;
    let found = groups.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields[0] == name);
    let number = found.and_then(|fields| fields.get(2).copied()).map(User::number).transpose()?.flatten();
    number.ok_or_else(|| anyhow!("the image's group {name} is not in its /etc/group"))
}

/// A file in the root, which may be hostile. Nothing where it is missing.
fn table(root: &OwnedFd, path: &str) -> Result<String> {
    let Ok(file) = open_inside(root, Path::new(path), OFlag::O_RDONLY | OFlag::O_NONBLOCK) else {
        return Ok(String::new());
    };
    // As if it were not there: a user with a number needs none.
    if file_kind(&file)? != SFlag::S_IFREG {
        return Ok(String::new());
    }
    let content = read_small(file).with_context(|| format!("/{path} in the root"))?;
    Ok(String::from_utf8_lossy(&content).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_the_roots_own() {
        let dir = std::env::temp_dir().join(format!("chain-accounts-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("etc")).unwrap();
        std::fs::write(dir.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/srv/web:/bin/sh\n\nbad\n")
            .unwrap();
        std::fs::write(
            dir.join("etc/group"),
            "root:x:0:\nadm:x:4:bin,web\nwww:x:5:webmaster\nmail:x:8:web\nbad:x:y:web\nworse\n",
        )
        .unwrap();
        let root = OwnedFd::from(std::fs::File::open(&dir).unwrap());
        let found = |text| in_root(text, &root).map(|user| (user.ids.uid, user.ids.gid, user.home)).ok();
        assert_eq!(found(""), Some((0, 0, "/root".into())));
        assert_eq!(found("web"), Some((33, 34, "/srv/web".into())));
        assert_eq!(found("33"), Some((33, 34, "/srv/web".into())));
        assert_eq!(found("web:adm"), Some((33, 4, "/srv/web".into())));
        assert_eq!(found("1000:7"), Some((1000, 7, "/".into())));
        assert_eq!(found("nobody"), None);
        assert_eq!(found("web:none"), None);
        let groups = |text| in_root(text, &root).unwrap().ids.groups;
        assert_eq!(
            (groups("web"), groups("33"), groups("web:adm"), groups("1000")),
            (vec![4, 8], vec![4, 8], vec![], vec![])
        );
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
