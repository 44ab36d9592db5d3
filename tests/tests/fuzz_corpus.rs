//! The fuzzers' targets over their corpus and over mutations of it, the same ones each time.

use std::collections::BTreeSet;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use chain::fuzz::Target;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join("fuzz")
}

/// The archives that framing starts from are those that unpack's own tests name one by one.
fn seeds(target: &str) -> PathBuf {
    match target {
        "frame" => fuzz().join("../unpack/tests/corpus"),
        _ => fuzz().join("seeds").join(target),
    }
}

fn targets() -> Vec<(&'static str, Target)> {
    let crates: [&[(&str, Target)]; 5] = [
        &chain::fuzz::TARGETS,
        &unpack::fuzz::TARGETS,
        &isolate::fuzz::TARGETS,
        &pivot::fuzz::TARGETS,
        &mountclean::fuzz::TARGETS,
    ];
    crates.concat()
}

/// Runs a target over each seed and over at least `mutated` mutations of them.
fn run(name: &str, mutated: usize) {
    let (_, target) = targets().into_iter().find(|(target, _)| *target == name).expect("a target of this name");
    // What `scripts/soak fuzz` found here, if it ran.
    let mut paths: Vec<_> = [seeds(name), fuzz().join("corpus").join(name)]
        .into_iter()
        .filter_map(|directory| directory.read_dir().ok())
        .flatten()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty());
    let count = mutated.div_ceil(paths.len());
    for (i, path) in paths.iter().enumerate() {
        let seed = std::fs::read(path).unwrap();
        for (n, bytes) in std::iter::once(seed.clone()).chain(mutations(&seed, 77 + i as u64, count)).enumerate() {
            if catch_unwind(AssertUnwindSafe(|| target(&bytes))).is_err() {
                let kept = std::env::temp_dir().join(format!("chainroot-fuzz-{name}-{n}"));
                let _ = std::fs::write(&kept, &bytes);
                panic!("{name}: mutation {n} of {}, kept as {}", path.display(), kept.display());
            }
        }
    }
}

#[test]
fn every_target_has_a_corpus_a_fuzzer_and_a_test() {
    let manifest = std::fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    let fuzzers: BTreeSet<_> =
        manifest.split("[[bin]]").skip(1).map(|bin| bin.split('"').nth(1).expect("a name").to_owned()).collect();
    let targets: BTreeSet<_> = targets().into_iter().map(|(name, _)| name.to_owned()).collect();
    let run: BTreeSet<_> = include_str!("fuzz_corpus.rs")
        .split("\n    run(\"")
        .skip(1)
        .map(|call| call.split('"').next().expect("a name").to_owned())
        .collect();
    assert_eq!(fuzzers, targets);
    for target in &targets {
        assert!(seeds(target).read_dir().is_ok_and(|mut seeds| seeds.next().is_some()), "no seeds for {target}");
    }
    assert_eq!(run, targets);
}

#[test]
fn the_seed_corpus_stays_small() {
    let mut files = 0;
    for directory in fuzz().join("seeds").read_dir().unwrap() {
        for file in directory.unwrap().path().read_dir().unwrap() {
            let size = file.unwrap().metadata().unwrap().len();
            assert!(size < 16 << 10, "a seed of {size} bytes");
            files += 1;
        }
    }
    assert!(files <= 100, "{files} seeds");
}

#[test]
fn framing_survives_its_corpus() {
    run("frame", 30_000);
}

#[test]
fn decompression_survives_its_corpus() {
    run("stream", 10_000);
}

#[test]
fn images_survive_their_corpus() {
    run("image", 600);
}

#[test]
fn documents_survive_their_corpus() {
    run("documents", 4000);
}

#[test]
fn the_tree_survives_its_corpus() {
    run("layers", 400);
}

#[test]
fn receipts_survive_their_corpus() {
    run("receipt", 3000);
}

#[test]
fn what_an_image_runs_survives_its_corpus() {
    run("as-image", 3000);
}

#[test]
fn the_first_line_survives_its_corpus() {
    run("handoff", 30_000);
}

#[test]
fn the_carry_survives_its_corpus() {
    run("carry", 20_000);
}

#[test]
fn granted_ids_survive_their_corpus() {
    run("subids", 20_000);
}

#[test]
fn seccomp_profiles_survive_their_corpus() {
    run("seccomp", 6000);
}

#[test]
fn arguments_of_unpack_survive_their_corpus() {
    run("argv-unpack", 1500);
}

#[test]
fn arguments_of_isolate_survive_their_corpus() {
    run("argv-isolate", 1500);
}

#[test]
fn arguments_of_pivot_survive_their_corpus() {
    run("argv-pivot", 1500);
}

#[test]
fn arguments_of_mountclean_survive_their_corpus() {
    run("argv-mountclean", 1500);
}

/// `count` inputs of `data`'s kind, the same ones for the same seed: bytes changed, cut out, doubled and joined.
fn mutations(data: &[u8], seed: u64, count: usize) -> impl Iterator<Item = Vec<u8>> + '_ {
    let mut state = seed | 1;
    let mut random = move |below: usize| {
        // xorshift64*: Vigna, "An experimental exploration of Marsaglia's xorshift generators".
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % below.max(1)
    };
    (0..count).map(move |_| {
        let mut bytes = data.to_vec();
        for _ in 0..=random(4) {
            let at = random(bytes.len());
            match random(6) {
                0 if !bytes.is_empty() => bytes[at] ^= 1 << random(8),
                1 if !bytes.is_empty() => bytes[at] = [0, 0xff, 0x80, b'/', b'.', b'9', b'\n', b' '][random(8)],
                2 => bytes.truncate(at),
                3 => drop(bytes.drain(at..(at + random(600)).min(bytes.len()))),
                4 => {
                    let piece = bytes[at..(at + random(1100)).min(bytes.len())].to_vec();
                    let to = random(bytes.len());
                    bytes.splice(to..to, piece);
                }
                _ => {
                    let block = at / 512 * 512;
                    fix_checksum(&mut bytes, block);
                }
            }
        }
        let block = random(bytes.len()) / 512 * 512;
        fix_checksum(&mut bytes, block);
        fix_checksum(&mut bytes, 0);
        bytes
    })
}

/// Makes a block's header checksum right, so that what was changed in it is looked at.
fn fix_checksum(bytes: &mut [u8], at: usize) {
    if let Some(block) = bytes.get_mut(at..at + 512) {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        let _ = (&mut block[148..156]).write_all(format!("{sum:06o}\0 ").as_bytes());
    }
}
