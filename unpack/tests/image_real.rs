//! Images that umoci, skopeo and buildah made.

mod archive;

use std::fs;
use std::path::Path;
use std::process::Command;

use archive::reading::{Files, contents, request};
use unpack::image::{Image, Kind};
use unpack::source::Source;

/// False, with a word on why, where the program is not here.
fn run(directory: &Path, program: &str, words: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(words).current_dir(directory).env("HOME", directory).env("XDG_RUNTIME_DIR", directory);
    match command.output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            println!("skipped: no {program}");
            false
        }
        output => {
            let output = output.unwrap();
            assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
            true
        }
    }
}

/// A base of two files, then a layer that adds one, changes one and removes one; pushed by buildah itself.
#[test]
fn archives_that_buildah_writes_hold_the_layers_that_it_committed() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root commits layers with buildah here");
        return;
    }
    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    let at = directory.path();
    for (name, content) in [("a", "one"), ("b", "two"), ("new", "three")] {
        fs::write(at.join(name), content).unwrap();
    }
    let store = ["--root", "store", "--runroot", "run", "--storage-driver", "vfs"];
    let buildah = |words: &[&str]| run(at, "buildah", &[&store, words].concat());
    let steps: [&[&str]; 12] = [
        &["from", "--name", "c", "scratch"],
        &["copy", "c", "a", "/d/a"],
        &["copy", "c", "b", "/d/b"],
        &["commit", "--quiet", "c", "base"],
        &["from", "--name", "e", "--pull-never", "localhost/base"],
        &["copy", "e", "new", "/d/new"],
        &["copy", "e", "new", "/d/a"],
        &["config", "--cmd", "sh", "e"],
        &["commit", "--quiet", "e", "top"],
        &["push", "--quiet", "top", "docker-archive:docker.tar:top:tag"],
        &["push", "--quiet", "top", "oci-archive:oci.tar:tag"],
        &["push", "--quiet", "top", "oci:oci:tag"],
    ];
    if !steps.iter().all(|words| buildah(words)) {
        return;
    }
    for (name, kind) in [("docker.tar", Kind::Docker), ("oci.tar", Kind::Oci), ("oci", Kind::Oci)] {
        let mut image = Image::open(Source::open(&at.join(name)).unwrap(), &request(at)).unwrap();
        assert_eq!(image.kind, kind, "{name}");
        assert_eq!(image.config.as_ref().unwrap()["config"]["Cmd"][0], "sh", "{name}");
        let layers: Vec<Vec<(String, String)>> = contents(&mut image).unwrap();
        let files = |layer: &[(String, String)]| -> Vec<(String, String)> {
            layer.iter().filter(|(name, _)| !name.ends_with('/')).cloned().collect()
        };
        let file = |name: &str, content: &str| (name.to_owned(), content.to_owned());
        let all: Vec<_> = layers.iter().map(|layer| files(layer)).collect();
        let base = vec![file("d/a", "one"), file("d/b", "two")];
        let top = vec![file("d/a", "three"), file("d/new", "three")];
        assert_eq!(all, [base, top], "{name}");
    }
}

fn expected() -> Files {
    let file = |name: &str, content: &str| (name.to_owned(), content.to_owned());
    vec![
        vec![file("d/", ""), file("d/a", "one"), file("d/b", "two")],
        vec![file("d/a", "three")],
        vec![file("d/.wh.b", "")],
    ]
}

#[test]
fn every_format_that_skopeo_writes_holds_the_image_that_umoci_made() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    fs::create_dir(at.join("tree")).unwrap();
    fs::write(at.join("tree/a"), "one").unwrap();
    fs::write(at.join("tree/b"), "two").unwrap();
    fs::write(at.join("a"), "three").unwrap();
    let umoci: [&[&str]; 6] = [
        &["init", "--layout", "oci"],
        &["new", "--image", "oci:img"],
        &["insert", "--rootless", "--image", "oci:img", "tree", "d"],
        &["insert", "--rootless", "--image", "oci:img", "a", "d/a"],
        &["insert", "--rootless", "--image", "oci:img", "--whiteout", "d/b"],
        &["config", "--image", "oci:img", "--config.cmd", "sh"],
    ];
    if !umoci.iter().all(|words| run(at, "umoci", words)) {
        return;
    }
    let same_names = |files: Files| -> Files {
        let plain = |(name, content): (String, String)| (name.trim_start_matches('/').to_owned(), content);
        files.into_iter().map(|layer| layer.into_iter().map(plain).collect()).collect()
    };
    let open = |name: &str, kind| {
        let mut image = Image::open(Source::open(&at.join(name)).unwrap(), &request(at)).unwrap();
        assert_eq!(image.kind, kind, "{name}");
        assert_eq!(image.config.as_ref().unwrap()["config"]["Cmd"][0], "sh", "{name}");
        assert_eq!(same_names(contents(&mut image).unwrap()), expected(), "{name}");
    };
    open("oci", Kind::Oci);
    let copies = [
        ("docker-archive:docker.tar:name:tag", "docker.tar", Kind::Docker),
        ("oci-archive:oci.tar:tag", "oci.tar", Kind::Oci),
        ("oci:copy:tag", "copy", Kind::Oci),
    ];
    for (to, name, kind) in copies {
        for options in [&[][..], &["--dest-compress", "--dest-compress-format", "zstd"]] {
            // Docker archives are never compressed, and are not written over.
            let (compressed, docker) = (!options.is_empty(), kind == Kind::Docker);
            if compressed && docker {
                continue;
            }
            let words = [&["copy", "--insecure-policy"], options, &["oci:oci:img", to]].concat();
            if !run(at, "skopeo", &words) {
                return;
            }
            open(name, kind);
        }
    }
}
