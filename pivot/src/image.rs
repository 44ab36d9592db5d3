//! What the image says is to be run, from the receipt that unpack left beside the root.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use chain::handoff::absolute;
use chain::receipt::{self, Doubt};
use chain::{Image, User, WithHint, open_inside, read_small};
use rustix::fs::{FileType, OFlags, fstat};
use serde_json::Value;

use crate::root;

pub struct Config {
    /// Which tree says so.
    pub tree: (u64, u64),
    pub image: Image,
    pub env: Vec<(OsString, OsString)>,
    pub working_dir: Option<PathBuf>,
}

pub fn read(path: &Path) -> Result<Config> {
    let root = root::open_root(path)?;
    let receipt = receipt(path, &root)?;
    let config = &receipt["config"]["config"];
    if !config.is_object() {
        return Err(anyhow!("{}: the image has no configuration", path.display()))
            .hint("a plain archive says nothing of what is to be run: leave out --as-image and name a COMMAND");
    }
    let mut env: Vec<(OsString, OsString)> = strings(&config["Env"])
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    let user = user(config["User"].as_str().unwrap_or_default(), &root)?;
    if !env.iter().any(|(name, _)| name == "HOME") {
        env.push(("HOME".into(), user.home.into()));
    }
    let words = |value: &Value| strings(value).map(OsString::from).collect();
    Ok(Config {
        tree: root::identity(&root)?,
        image: Image {
            entrypoint: words(&config["Entrypoint"]),
            cmd: words(&config["Cmd"]),
            user: Some(user.ids).filter(|ids| (ids.uid, ids.gid) != (0, 0)),
        },
        env,
        working_dir: config["WorkingDir"].as_str().filter(|dir| !dir.is_empty()).map(PathBuf::from),
    })
}

fn strings(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// The receipt beside ROOT, or beside what a link of that name leads to, if it vouches for the tree that is there.
fn receipt(path: &Path, root: &OwnedFd) -> Result<Value> {
    let beside = [absolute(path)?, path.canonicalize()?].map(|root| receipt::path(&root));
    let found =
        beside.iter().map(|receipt| receipt::vouching(receipt, root)).find(|found| *found != Err(Doubt::Missing));
    let shown = beside[0].display();
    match found {
        Some(Ok(receipt)) => Ok(receipt),
        None | Some(Err(Doubt::Missing)) => Err(anyhow!("{shown}: not there, so what the image says is not known"))
            .hint("unpack writes it beside the root: unpack IMAGE ROOT"),
        // Between the two renames of an unpack --replace it is, too.
        Some(Err(Doubt::OtherTree)) => {
            Err(anyhow!("{shown}: the receipt of another tree than the one that is there now"))
                .hint("unpack IMAGE into a new ROOT makes both")
        }
        Some(Err(doubt)) => Err(anyhow!("{}: what its image says cannot be trusted: {doubt}", path.display()))
            .hint("leave out --as-image and name a COMMAND, or unpack IMAGE into a ROOT of your own"),
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Account {
    ids: User,
    home: String,
}

/// `user[:group]`, each a number or a name of the root's own. Where no group is given, the user's other
/// groups count too (the image specification, config.md).
fn user(text: &str, root: &OwnedFd) -> Result<Account> {
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
            return Err(anyhow!("the image's user {name} is not in its /etc/passwd"))
                .hint("the root may have been changed");
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

/// A file of the root's, which may be hostile: found inside it, or nothing.
fn table(root: &OwnedFd, path: &str) -> Result<String> {
    let Ok(file) = open_inside(root, Path::new(path), OFlags::RDONLY | OFlags::NONBLOCK) else {
        return Ok(String::new());
    };
    // As if it were not there: who is numbered needs none.
    if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
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
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(
            dir.path().join("etc/passwd"),
            "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/srv/web:/bin/sh\n\nbad\n",
        )
        .unwrap();
        std::fs::write(
            dir.path().join("etc/group"),
            "root:x:0:\nadm:x:4:bin,web\nwww:x:5:webmaster\nmail:x:8:web\nbad:x:y:web\nworse\n",
        )
        .unwrap();
        let root = root::open_root(dir.path()).unwrap();
        let found = |text| user(text, &root).map(|user| (user.ids.uid, user.ids.gid, user.home)).ok();
        assert_eq!(found(""), Some((0, 0, "/root".into())));
        assert_eq!(found("web"), Some((33, 34, "/srv/web".into())));
        assert_eq!(found("33"), Some((33, 34, "/srv/web".into())));
        assert_eq!(found("web:adm"), Some((33, 4, "/srv/web".into())));
        assert_eq!(found("1000:7"), Some((1000, 7, "/".into())));
        assert_eq!(found("nobody"), None);
        assert_eq!(found("web:none"), None);
        let groups = |text| user(text, &root).unwrap().ids.groups;
        assert_eq!(
            (groups("web"), groups("33"), groups("web:adm"), groups("1000")),
            (vec![4, 8], vec![4, 8], vec![], vec![])
        );
    }
}
