//! Random stacks of layers, small enough that their entries meet: replace, hide, link to and lead through each other.
#![allow(dead_code)]

pub mod model;

use super::archive::{Block, END};
use model::Model;

/// So many as are asked for in the environment, from there on.
pub fn seeds(usual: u64) -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|n| n.parse().ok());
    let first = number("UNPACK_TEST_STACKS_FROM").unwrap_or(0);
    first..first + number("UNPACK_TEST_STACKS").unwrap_or(usual)
}

pub fn told(stack: &Stack) -> String {
    let mut text = String::new();
    for (number, layer) in stack.iter().enumerate() {
        text += &format!("layer {number}\n");
        layer.iter().for_each(|item| text += &format!("  {}\n", item.told()));
    }
    text
}

#[derive(Clone, Debug)]
pub struct Item {
    /// As the archive has it; whiteouts are files.
    pub name: String,
    pub kind: Kind,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: i64,
}

#[derive(Clone, Debug)]
pub enum Kind {
    Directory,
    File(String),
    Symlink(String),
    HardLink(String),
    Fifo,
}

pub type Stack = Vec<Vec<Item>>;

pub fn packed(layer: &[Item]) -> Vec<u8> {
    let mut bytes: Vec<u8> = layer.iter().flat_map(|item| item.block().bytes()).collect();
    bytes.extend(END);
    bytes
}

impl Item {
    fn block(&self) -> Block {
        let name = self.name.as_str();
        let block = match &self.kind {
            Kind::Directory => Block::new(name, b'5'),
            Kind::File(content) => Block::file(name, content.as_bytes()),
            Kind::Symlink(target) => Block::new(name, b'2').link(target),
            Kind::HardLink(target) => Block::new(name, b'1').link(target),
            Kind::Fifo => Block::new(name, b'6'),
        };
        block
            .mode(self.mode)
            .uid(self.uid.into())
            .field(116, format!("{:07o}\0", self.gid).as_bytes())
            .field(136, format!("{:011o}\0", self.mtime).as_bytes())
    }

    /// For messages.
    pub fn told(&self) -> String {
        let Item { name, mode, uid, gid, mtime, .. } = self;
        let what = match &self.kind {
            Kind::Directory => "directory".to_owned(),
            Kind::File(content) => format!("file {content:?}"),
            Kind::Symlink(target) => format!("symlink -> {target}"),
            Kind::HardLink(target) => format!("hard link to {target}"),
            Kind::Fifo => "fifo".to_owned(),
        };
        format!("{name}: {what}, {mode:o} {uid}:{gid} {mtime}")
    }
}

/// A linear congruential generator: the same stacks from the same seed, everywhere.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1a_7e75)
    }

    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % end.max(1) as u64) as usize
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        let at = self.below(all.len());
        all.get(at)
    }

    fn name(&mut self) -> String {
        ["a", "b", "c", "d", "e"][self.below(5)].to_owned()
    }

    fn path(&mut self) -> String {
        (0..self.below(3) + 1).map(|_| self.name()).collect::<Vec<_>>().join("/")
    }
}

/// One to six layers. Most entries make sense where they stand, so that most stacks can be applied, and of every other
/// stack umoci makes the same tree to the last nanosecond.
pub fn stack(seed: u64) -> Stack {
    let mut random = Random::new(seed);
    let (mut model, mut umoci) = (Model::new(false), Model::new(true));
    let mut stack = Vec::new();
    let mut mtime = 1_000_000;
    for _ in 0..random.below(6) + 1 {
        let mut layer = Vec::new();
        for _ in 0..random.below(20) + 1 {
            mtime += 1;
            let item = item(&mut random, &model, mtime);
            let (mut trial, mut theirs) = (model.clone(), umoci.clone());
            let (taken, same) = (trial.apply(&item).is_ok(), theirs.apply(&item).is_ok());
            let fits = taken && same && (seed % 2 == 1 || theirs.differs.is_empty());
            // Now and then one that umoci refuses, or both do.
            if fits || (seed % 2 == 1 && random.below(40) == 0) {
                (model, umoci) = (trial, theirs);
                layer.push(item);
            }
        }
        let _ = (model.end_layer(), umoci.end_layer());
        stack.push(layer);
    }
    stack
}

fn item(random: &mut Random, model: &Model, mtime: i64) -> Item {
    let parent = match random.below(10) {
        0..5 => random.of(&model.directories()).cloned().unwrap_or_default(),
        5..8 => random.of(&model.symlinks()).cloned().unwrap_or_default(),
        _ => random.path(),
    };
    let within = |last: &str| if parent.is_empty() { last.to_owned() } else { format!("{parent}/{last}") };
    let last = random.name();
    let mut name = within(&last);
    let kind = match random.below(40) {
        0..10 => Kind::Directory,
        10..22 => Kind::File(format!("{mtime}").repeat(random.below(3))),
        22..28 => Kind::Symlink(match random.below(6) {
            0 => ".".to_owned(),
            1 => "..".to_owned(),
            2 => random.path(),
            3 => format!("../{}", random.path()),
            _ => format!("/{}", random.of(&model.directories()).cloned().unwrap_or_default()),
        }),
        28..32 => Kind::HardLink(match random.below(10) {
            0 => random.path(),
            _ => random.of(&model.files()).cloned().unwrap_or_else(|| random.path()),
        }),
        32 => Kind::Fifo,
        33..37 => {
            // Half of them in place of what is there.
            name = match random.of(&model.all()) {
                Some(there) if random.below(2) == 0 => match there.rsplit_once('/') {
                    Some((parent, last)) => format!("{parent}/.wh.{last}"),
                    None => format!(".wh.{there}"),
                },
                _ => within(&format!(".wh.{last}")),
            };
            Kind::File(String::new())
        }
        _ => {
            name = within(".wh..wh..opq");
            Kind::File(String::new())
        }
    };
    name = match random.below(30) {
        0 => format!("./{name}"),
        1 => format!("../{name}"),
        2 => format!("{}/../{name}", random.path()),
        _ => name,
    };
    let mode = 0o600 + [0o000, 0o044, 0o155, 0o111, 0o1177, 0o077][random.below(6)];
    Item { name, kind, mode, uid: random.below(3) as u32 * 500, gid: random.below(3) as u32 * 7, mtime }
}
