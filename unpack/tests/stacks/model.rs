//! What a stack of layers is, entry by entry, in memory: by the OCI image specification, or as umoci 0.4.7 has it.

use std::collections::BTreeMap;

use unpack::digest::{Algorithm, Digest};

use super::{Item, Kind};

/// As many as path_resolution(7) has.
const LINKS: usize = 40;

#[derive(Clone)]
pub struct Model {
    umoci: bool,
    layer: usize,
    /// By paths without links; the root is empty.
    names: BTreeMap<String, Name>,
    files: Vec<File>,
    waiting: Vec<(String, String)>,
    /// Ways in which umoci's tree may differ that this stack came by.
    pub differs: std::collections::BTreeSet<&'static str>,
}

#[derive(Clone, Copy)]
struct Name {
    file: usize,
    /// The layer that made it or last had an entry for it.
    layer: usize,
}

#[derive(Clone)]
struct File {
    kind: Kind,
    mode: u32,
    uid: u32,
    gid: u32,
    /// None for a time that nobody can foretell.
    mtime: Option<i64>,
}

pub type Refused = &'static str;

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

fn join(dir: &str, name: &str) -> String {
    if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") }
}

fn clean(path: &str) -> String {
    let mut names = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    names.join("/")
}

impl Model {
    pub fn new(umoci: bool) -> Model {
        let mut model = Model {
            umoci,
            layer: 0,
            names: BTreeMap::new(),
            files: Vec::new(),
            waiting: Vec::new(),
            differs: Default::default(),
        };
        model.add("", File { kind: Kind::Directory, mode: 0o755, uid: 0, gid: 0, mtime: Some(0) });
        model
    }

    pub fn of(stack: &[Vec<Item>], umoci: bool) -> Result<Model, Refused> {
        let mut model = Model::new(umoci);
        for layer in stack {
            layer.iter().try_for_each(|item| model.apply(item))?;
            model.end_layer()?;
        }
        Ok(model)
    }

    fn file(&self, path: &str) -> Option<&File> {
        self.names.get(path).map(|name| &self.files[name.file])
    }

    fn is_directory(&self, path: &str) -> bool {
        matches!(self.file(path), Some(File { kind: Kind::Directory, .. }))
    }

    fn those(&self, which: fn(&Kind) -> bool) -> Vec<String> {
        let kinds = self.names.iter().filter(|(_, name)| which(&self.files[name.file].kind));
        kinds.map(|(path, _)| path.clone()).collect()
    }

    pub fn directories(&self) -> Vec<String> {
        self.those(|kind| matches!(kind, Kind::Directory))
    }

    pub fn symlinks(&self) -> Vec<String> {
        self.those(|kind| matches!(kind, Kind::Symlink(_)))
    }

    pub fn files(&self) -> Vec<String> {
        self.those(|kind| !matches!(kind, Kind::Directory))
    }

    pub fn all(&self) -> Vec<String> {
        self.names.keys().filter(|path| !path.is_empty()).cloned().collect()
    }

    fn straight(&self, path: &str) -> Result<String, Refused> {
        let names = |path: &str| path.split('/').rev().map(str::to_owned).collect::<Vec<_>>();
        let (mut at, mut to_come, mut links) = (String::new(), names(path), 0);
        while let Some(name) = to_come.pop() {
            match name.as_str() {
                "" | "." => continue,
                ".." => {
                    at = split(&at).0.to_owned();
                    continue;
                }
                _ => {}
            }
            let next = join(&at, &name);
            match self.file(&next) {
                Some(File { kind: Kind::Symlink(target), .. }) => {
                    links += 1;
                    if links > LINKS {
                        return Err("a loop of links");
                    }
                    if target.starts_with('/') {
                        at.clear();
                    }
                    to_come.extend(names(target));
                }
                _ => at = next,
            }
        }
        Ok(at)
    }

    fn remove(&mut self, path: &str) {
        self.names.remove(path);
        let below = format!("{path}/");
        self.names.retain(|name, _| !name.starts_with(&below));
        self.waiting.retain(|(name, _)| !name.starts_with(&below));
    }

    fn add(&mut self, path: &str, file: File) {
        self.files.push(file);
        self.names.insert(path.to_owned(), Name { file: self.files.len() - 1, layer: self.layer });
        self.waiting.retain(|(name, _)| name != path);
    }

    fn implied(&mut self) -> File {
        let mtime = if self.umoci { None } else { Some(0) };
        File { kind: Kind::Directory, mode: 0o755, uid: 0, gid: 0, mtime }
    }

    fn imply(&mut self, path: &str) {
        if self.umoci {
            self.differs.insert("implied directories have the time of the extraction");
        }
        let file = self.implied();
        self.add(path, file);
        // It puts back only the times of the directory that an entry is in.
        if self.umoci {
            let parent = self.names[split(path).0].file;
            self.files[parent].mtime = None;
        }
    }

    fn make(&mut self, path: &str) -> Result<(), Refused> {
        for end in path.match_indices('/').map(|(at, _)| at).chain([path.len()]) {
            let path = &path[..end];
            if path.is_empty() || self.is_directory(path) {
                continue;
            }
            if self.names.contains_key(path) {
                if self.umoci {
                    return Err("a path through a file");
                }
                self.remove(path);
            }
            self.imply(path);
        }
        Ok(())
    }

    pub fn apply(&mut self, item: &Item) -> Result<(), Refused> {
        let path = clean(&item.name);
        let (parent, name) = split(&path);
        if let Some(hidden) = name.strip_prefix(".wh.") {
            let parent = self.straight(parent)?;
            let time = self.file(&parent).map(|file| file.mtime);
            match hidden {
                ".wh..opq" => self.hide_children(&parent),
                hidden => self.hide(&join(&parent, hidden)),
            };
            if let (Some(name), Some(time)) = (self.names.get(&parent), time) {
                self.files[name.file].mtime = time;
            }
            return Ok(());
        }
        let meta = |kind: &Kind| File {
            kind: kind.clone(),
            mode: if matches!(kind, Kind::Symlink(_)) { 0o777 } else { item.mode },
            uid: item.uid,
            gid: item.gid,
            mtime: Some(item.mtime),
        };
        if path.is_empty() {
            let Kind::Directory = item.kind else { return Err("the root is no directory") };
            self.add("", meta(&item.kind));
            return Ok(());
        }
        let parent = self.straight(parent)?;
        self.make(&parent)?;
        let path = join(&parent, name);
        self.waiting.retain(|(name, _)| *name != path);
        match &item.kind {
            Kind::Directory => {
                if !self.is_directory(&path) {
                    self.remove(&path);
                }
                self.add(&path, meta(&item.kind));
            }
            Kind::HardLink(target) => self.hard_link(path, &clean(target))?,
            kind => {
                self.remove(&path);
                self.add(&path, meta(kind));
            }
        }
        Ok(())
    }

    fn hard_link(&mut self, path: String, target: &str) -> Result<(), Refused> {
        let (parent, name) = split(target);
        if name.is_empty() {
            return Err("a hard link to the root");
        }
        if self.umoci {
            // It removes what is there before it looks where the target's name leads.
            self.remove(&path);
        }
        let target = join(&self.straight(parent)?, name);
        if self.is_directory(&target) {
            return Err("a hard link to a directory");
        }
        if target == path && self.umoci {
            return Err("a hard link to itself");
        }
        if target == path && self.names.contains_key(&path) {
            let layer = self.layer;
            self.names.entry(path).and_modify(|name| name.layer = layer);
            return Ok(());
        }
        self.remove(&path);
        match self.names.get(&target) {
            Some(&Name { file, .. }) => {
                self.names.insert(path, Name { file, layer: self.layer });
            }
            None if self.umoci => return Err("a hard link before its target"),
            None => self.waiting.push((path, target)),
        }
        Ok(())
    }

    pub fn end_layer(&mut self) -> Result<(), Refused> {
        while !self.waiting.is_empty() {
            let targets = self.waiting.iter();
            let (at, file) = targets
                .enumerate()
                .find_map(|(at, (_, target))| self.names.get(target).map(|name| (at, name.file)))
                .ok_or("a hard link to what is not there")?;
            if matches!(self.files[file].kind, Kind::Directory) {
                return Err("a hard link to a directory");
            }
            let (path, _) = self.waiting.remove(at);
            self.names.insert(path, Name { file, layer: self.layer });
        }
        self.layer += 1;
        Ok(())
    }

    /// Takes what lower layers made at a path and below it; whether anything is left.
    fn hide(&mut self, path: &str) -> bool {
        let Some(&Name { layer, .. }) = self.names.get(path) else { return false };
        let below = format!("{path}/");
        // A link that waits for its target is there, too.
        let waits = self.waiting.iter().any(|(name, _)| name.starts_with(&below));
        let left = self.hide_children(path) || waits;
        if layer == self.layer {
            return true;
        }
        if !left {
            self.remove(path);
            return false;
        }
        if self.umoci {
            self.differs.insert("a hidden directory that is implied again keeps what lower layers said of it");
        } else {
            let file = self.implied();
            self.files.push(file);
            let file = self.files.len() - 1;
            // Its layer stays: that is about entries.
            self.names.entry(path.to_owned()).and_modify(|name| name.file = file);
        }
        true
    }

    fn hide_children(&mut self, path: &str) -> bool {
        if !self.is_directory(path) {
            return false;
        }
        let below = if path.is_empty() { String::new() } else { format!("{path}/") };
        let children: Vec<String> = self
            .names
            .keys()
            .filter_map(|name| name.strip_prefix(&below))
            .filter(|name| !name.is_empty() && !name.contains('/'))
            .map(str::to_owned)
            .collect();
        let left = children.iter().filter(|name| self.hide(&join(path, name))).count();
        if self.umoci && left < children.len() {
            self.differs.insert("directories below a whiteout have the time of the extraction");
            let file = self.names[path].file;
            self.files[file].mtime = None;
        }
        left > 0
    }

    /// As `snapshot::of` has it; a time that nobody can foretell is `now`.
    pub fn snapshot(&self) -> BTreeMap<String, String> {
        let mut links: BTreeMap<usize, (usize, &str)> = BTreeMap::new();
        for (path, name) in &self.names {
            links.entry(name.file).or_insert((0, path)).0 += 1;
        }
        let line = |name: &Name| {
            let File { kind, mode, uid, gid, mtime } = &self.files[name.file];
            let (kind_bits, content) = match kind {
                Kind::Directory => (0o040_000, None),
                Kind::File(content) => (0o100_000, Some(content.as_str())),
                Kind::Symlink(target) => (0o120_000, Some(target.as_str())),
                Kind::Fifo => (0o010_000, Some("")),
                Kind::HardLink(_) => unreachable!("a link is the file that it names"),
            };
            let time = mtime.map_or("now".to_owned(), |mtime| format!("{mtime}.000000000"));
            let mut line = format!("{:o} {uid}:{gid} mtime {time}", kind_bits | mode);
            if let Some(content) = content {
                let (count, first) = links[&name.file];
                line += &format!(" size {} links {count}", content.len());
                if count > 1 {
                    line += &format!(" with {first}");
                }
            }
            match kind {
                Kind::Symlink(target) => line += &format!(" -> {target}"),
                Kind::File(content) => line += &format!(" {}", Digest::of(Algorithm::Sha256, content.as_bytes())),
                _ => {}
            }
            line
        };
        self.names.iter().map(|(path, name)| (path.clone(), line(name))).collect()
    }
}
