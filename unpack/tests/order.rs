//! Several threads make the files, later than the reader of the archive decides on them: the tree is the same.

mod archive;
mod scene;
mod snapshot;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::Result;
use archive::{Block, END};
use scene::{Scene, is_root};
use unpack::budget::Limits;
use unpack::confine::own_umask;
use unpack::frame::Archive;
use unpack::gate::Gate;
use unpack::layer::Layers;
use unpack::ledger::Ledger;
use unpack::populate::tree_with_writers;
use unpack::tree::{Owners, Policy};

/// Extracts archives one after the other into a new directory, on so many threads; the number of the one that cannot be.
fn extracted(root: &Path, archives: &[Vec<u8>], threads: usize) -> Result<Option<usize>> {
    let _ = fs::remove_dir_all(root);
    fs::create_dir(root)?;
    fs::set_permissions(root, fs::Permissions::from_mode(0o700))?;
    std::thread::scope(|scope| {
        let work = || {
            own_umask()?;
            let policy = Arc::new(Policy {
                owners: Owners::new(None)?,
                ledger: Ledger::default(),
                devices: false,
                overlaid: false,
                privileged: is_root(),
                setuid: 0.into(),
                capable: 0.into(),
            });
            let (gate, progress, limits) =
                (Arc::<Gate>::default(), AtomicU64::new(0), Limits { entries: Some(1 << 20), ..Limits::default() });
            let (tree, writers) = tree_with_writers(fs::File::open(root)?.into(), policy.clone(), 0, threads, &gate)?;
            let mut layers = Layers {
                tree,
                writers,
                policy: &policy,
                limits: &limits,
                gate: &gate,
                progress: &progress,
                layered: false,
                entries: 0,
                bytes: 0,
            };
            for (number, archive) in archives.iter().enumerate() {
                if layers.apply(&mut Archive::new(&archive[..], limits.clone())).is_err() {
                    return Ok(Some(number));
                }
            }
            layers.tree.close().map(|()| None)
        };
        scope.spawn(work).join().unwrap()
    })
}

/// Entries of few names, so that they replace, link to, lead through and hide each other.
fn entries(seed: u64) -> Vec<Vec<u8>> {
    let mut state = seed ^ 0x0c0f_fee0;
    let mut next = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let names = if seed.is_multiple_of(3) { 12 } else { 4 };
    let mut made = Vec::new();
    for i in 0..next(60) + 1 {
        let mut path = || {
            let names: Vec<_> = (0..next(3) + 1).map(|_| format!("n{}", next(names))).collect();
            names.join("/")
        };
        let (name, other) = (path(), path());
        let block = match next(16) {
            0 => Block::new(&name, b'2').link(if next(2) == 0 { "/n0" } else { "n1" }),
            1 | 2 => Block::new(&name, b'1').link(&other),
            3 | 4 => Block::new(&name, b'5').mode(0o700 + next(8) as u32),
            5 => Block::new(&name, b'6'),
            6 if next(8) == 0 => Block::file(&name, &vec![b'x'; 300_000]),
            size => Block::file(&name, format!("{i}").repeat(size as usize * 40).as_bytes()),
        };
        made.push(block.field(136, format!("{:011o}\0", 1_000_000 + i).as_bytes()).bytes());
    }
    made
}

#[test]
fn files_that_are_made_later_give_the_tree_that_files_made_one_by_one_give() {
    let scene = Scene::new();
    let seeds = std::env::var("UNPACK_TEST_HISTORIES").ok().and_then(|n| n.parse().ok()).unwrap_or(40);
    for seed in 0..seeds {
        let (slowly, quickly) = (scene.path("one-by-one"), scene.path("together"));
        let archive = |entries: &[Vec<u8>]| [entries.concat(), END.to_vec()].concat();
        let mut entries = entries(seed);
        // Without those that nobody could make: below a file, or a link to what is not there.
        loop {
            let alone: Vec<_> = entries.iter().map(|entry| archive(std::slice::from_ref(entry))).collect();
            match extracted(&slowly, &alone, 1).unwrap() {
                Some(refused) => drop(entries.remove(refused)),
                None => break,
            }
        }
        assert_eq!(extracted(&quickly, &[archive(&entries)], 1 + seed as usize % 3).unwrap(), None, "seed {seed}");
        let what = snapshot::What::default();
        let (ours, theirs) = (snapshot::of(&quickly, what), snapshot::of(&slowly, what));
        if ours != theirs {
            eprintln!("seed {seed}");
        }
        snapshot::same(&ours, &theirs);
    }
    scene.untouched();
}

#[test]
fn a_path_through_a_file_replaces_it_though_it_is_not_there_yet() {
    let scene = Scene::new();
    for below in [Block::file("file/x", b""), Block::new("file/x", b'5'), Block::file("file/x/y", b"y")] {
        let archive = [&Block::file("file", b"content").bytes()[..], &below.bytes(), &END].concat();
        let root = scene.path("root");
        assert_eq!(extracted(&root, &[archive], 2).unwrap(), None);
        assert!(root.join("file/x").exists());
    }
}

#[test]
fn a_name_that_was_used_long_ago_is_replaced() {
    let scene = Scene::new();
    let mut archive = [Block::new("dir", b'5').mode(0o755).bytes(), Block::file("dir/f", b"old").bytes()].concat();
    archive.extend(Block::new("dir/d/e", b'5').mode(0o755).bytes());
    // More than are remembered.
    for number in 0..40_000 {
        archive.extend(Block::file(&format!("dir/{number}"), b"").bytes());
    }
    for again in [Block::file("dir/f", b"new"), Block::file("dir/d", b"new"), Block::file("dir/7", b"new")] {
        archive.extend(again.bytes());
    }
    archive.extend(END);
    let root = scene.path("root");
    assert_eq!(extracted(&root, &[archive], 2).unwrap(), None);
    for name in ["dir/f", "dir/d", "dir/7"] {
        assert_eq!(fs::read(root.join(name)).unwrap(), b"new", "{name}");
    }
    assert_eq!(fs::read_dir(root.join("dir")).unwrap().count(), 40_002);
}
