//! An image file that somebody changes while it is read: what a root's receipt says was digested is what was written.

mod archive;
mod scene;

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt, chown};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use archive::{Block, END};
use scene::{Scene, is_root, text};
use unpack::digest::{Algorithm, Digest};

const FILES: usize = 12;
/// Larger than what is copied from file to file at least.
const SIZE: usize = 200 << 10;

/// How often an image is unpacked; `scripts/soak toggles` does it a thousand times.
fn tries() -> usize {
    std::env::var("UNPACK_TEST_TOGGLES").ok().and_then(|n| n.parse().ok()).unwrap_or(12)
}

fn archive(contents: &[Vec<u8>]) -> Vec<u8> {
    let blocks = contents.iter().enumerate().map(|(i, content)| Block::file(&format!("d/f{i}"), content).bytes());
    blocks.chain([END.to_vec()]).collect::<Vec<_>>().concat()
}

fn all(mark: u8) -> Vec<u8> {
    archive(&vec![vec![mark; SIZE]; FILES])
}

/// The archive that a root was made of, by what is in it.
fn as_archive(root: &Path) -> Vec<u8> {
    archive(&(0..FILES).map(|i| fs::read(root.join(format!("d/f{i}"))).unwrap()).collect::<Vec<_>>())
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    // Of one length whatever the bytes.
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn digest_of(scene: &Scene, root: &str) -> String {
    let receipt = fs::read(scene.path(&format!("{root}.image.json"))).unwrap();
    let receipt: serde_json::Value = serde_json::from_slice(&receipt).unwrap();
    receipt["digest"].as_str().unwrap_or_default().to_owned()
}

/// Unpacks over and over while the file is one image and the other in turns; says how often there was a root.
fn toggled(scene: &Scene, args: &[&str], one: &[u8], other: &[u8], check: impl Fn(&str)) -> usize {
    assert_eq!(one.len(), other.len());
    let image = scene.write("img.tar", one);
    let writer = File::options().write(true).open(&image).unwrap();
    if is_root() {
        // Its former owner may still have it open.
        chown(&image, Some(31347), None).unwrap();
    }
    fs::set_permissions(&image, fs::Permissions::from_mode(0o666)).unwrap();
    let done = AtomicBool::new(false);
    let mut roots = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0.. {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                for bytes in [other, one] {
                    // At any pace: somewhere between two readings of the whole and two of a part.
                    std::thread::sleep(Duration::from_millis([0, 1, 5, 20][round % 4]));
                    for (i, part) in bytes.chunks(64 << 10).enumerate() {
                        writer.write_all_at(part, (i * (64 << 10)) as u64).unwrap();
                    }
                }
            }
        });
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for number in 0..tries() {
                // Now it is the caller's again, but for the descriptor that is open.
                if number == tries() / 2 && is_root() {
                    chown(&image, Some(0), None).unwrap();
                    fs::set_permissions(&image, fs::Permissions::from_mode(0o644)).unwrap();
                }
                let output = scene.unpack(&[&["-q"], args, &["img.tar", "root"]].concat());
                if output.status.success() {
                    roots += 1;
                    check("root");
                    fs::remove_dir_all(scene.path("root")).unwrap();
                    fs::remove_file(scene.path("root.image.json")).unwrap();
                } else {
                    scene.failed(&output);
                    assert!(!text(&output.stderr).contains("panicked"), "{}", text(&output.stderr));
                }
            }
        }));
        done.store(true, Ordering::Relaxed);
        result.unwrap();
    });
    roots
}

#[test]
fn a_plain_archive_that_is_toggled_is_digested_as_it_was_written() {
    let scene = Scene::new();
    let roots = toggled(&scene, &[], &all(b'a'), &all(b'b'), |root| {
        let written = Digest::of(Algorithm::OWN, &as_archive(&scene.path(root)));
        assert_eq!(digest_of(&scene, root), written.as_str());
    });
    assert_eq!(roots, tries());
}

#[test]
fn a_compressed_archive_that_is_toggled_is_digested_as_it_was_written_or_refused() {
    let scene = Scene::new();
    let roots = toggled(&scene, &[], &gzip(&all(b'a')), &gzip(&all(b'b')), |root| {
        let written = Digest::of(Algorithm::OWN, &gzip(&as_archive(&scene.path(root))));
        assert_eq!(digest_of(&scene, root), written.as_str());
    });
    println!("{roots} of {} were whole", tries());
}

/// The configuration's digest is pinned in the image's name; it holds that of the layer.
#[test]
fn a_layer_that_is_toggled_is_the_one_that_the_configuration_names_or_refused() {
    let scene = Scene::new();
    let one = archive::layout::docker("x:1", &[all(b'a')], &["a/layer.tar".into()]).tar();
    let of_a = vec![b'a'; SIZE];
    let mut other = one.clone();
    let mut at = 0;
    while let Some(found) = other[at..].windows(1024).position(|window| window == &of_a[..1024]) {
        other[at + found..at + found + SIZE].fill(b'b');
        at += found + SIZE;
    }
    let roots = toggled(&scene, &[], &one, &other, |root| {
        assert!(as_archive(&scene.path(root)) == all(b'a'), "a root holds what its digests do not say");
    });
    println!("{roots} of {} were whole", tries());
}

#[test]
fn a_pinned_archive_that_is_toggled_is_the_pinned_one_or_refused() {
    for (name, form) in [("plain", (|bytes: &[u8]| bytes.to_vec()) as fn(&[u8]) -> Vec<u8>), ("gzip", gzip)] {
        let scene = Scene::new();
        let (one, other) = (form(&all(b'a')), form(&all(b'b')));
        let pin = Digest::of(Algorithm::Sha256, &one);
        let roots = toggled(&scene, &["--ref", pin.as_str()], &one, &other, |root| {
            assert!(as_archive(&scene.path(root)) == all(b'a'), "a root holds what its pin does not say");
        });
        println!("{name}: {roots} of {} were whole", tries());
    }
}

/// The quick way is still there where the file is the caller's alone.
#[test]
fn a_file_of_the_callers_own_has_the_same_digest() {
    let scene = Scene::new();
    for (name, mode) in [("quick", 0o644), ("slow", 0o666)] {
        let path = scene.write("img.tar", &all(b'a'));
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert!(scene.unpack(&["-q", "img.tar", name]).status.success());
        assert_eq!(digest_of(&scene, name), Digest::of(Algorithm::OWN, &all(b'a')).as_str());
    }
}
