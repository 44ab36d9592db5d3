//! Our listing of an archive beside those of GNU tar, bsdtar and Python's tarfile. Where we accept an
//! archive with --strict all of them must read what we read; where we accept it without, one of them must.

mod archive;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use archive::others::{bsd, difference, gnu, have_all_three, ours, python, same};

/// What two others list, but that is refused on purpose (docs/archives.md, "Refused always"): it can be listed and not
/// be extracted as it says.
const REFUSED_HERE: &[&str] = &[
    // symlink(2) refuses it.
    "empty-link.tar",
    // No number: they stop at its e, or take it for 0.
    "exp-mtime.tar",
    // They cut the name off there.
    "nul-path.tar",
    // The map is not looked at for a listing.
    "sparse-order.tar",
    "sparse-over.tar",
    "sparse-short.tar",
];

fn compare(paths: &[PathBuf]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (path, python) in paths.iter().zip(python(paths)) {
        let others = [("GNU tar", gnu(path)), ("bsdtar", bsd(path)), ("Python", python)];
        let name = path.file_name().map(OsStr::as_bytes).map(String::from_utf8_lossy).unwrap();
        if let Some(lines) = ours(path, true) {
            for (program, listing) in others.iter().filter(|(_, listing)| !same(&lines, listing)) {
                wrong.push(format!(
                    "{name}: --strict accepts it, and {program} differs: {}",
                    difference(&lines, listing)
                ));
            }
        } else if let Some(lines) = ours(path, false) {
            if !others.iter().any(|(_, listing)| same(&lines, listing)) {
                let differences =
                    others.map(|(program, listing)| format!("{program}: {}", difference(&lines, &listing)));
                wrong.push(format!("{name}: nobody else reads it so: {}", differences.join("; ")));
            }
        } else if !REFUSED_HERE.contains(&&*name) {
            // What two of them read alike must not be refused.
            let read: Vec<_> = others.iter().filter_map(|(_, listing)| listing.as_deref()).collect();
            if (0..read.len()).any(|i| read[..i].iter().any(|lines| same(lines, &Some(read[i].to_vec())))) {
                wrong.push(format!("{name}: is refused, and two of the others read the same in it"));
            }
        }
    }
    wrong
}

#[test]
fn the_corpus_is_read_as_others_read_it() {
    if !have_all_three() {
        return;
    }
    let kinds = ["tests/corpus", "../fuzz/seeds/layers", "../fuzz/seeds/image"]
        .map(|kind| Path::new(env!("CARGO_MANIFEST_DIR")).join(kind).read_dir().unwrap());
    let mut paths: Vec<PathBuf> = kinds.into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "tar"));
    paths.sort();
    assert!(paths.len() > 100);
    let wrong = compare(&paths);
    assert!(wrong.is_empty(), "{} disagreements:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn archives_of_a_real_tree_in_every_format_are_read_alike() {
    if !have_all_three() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let tree = directory.path().join("tree");
    for name in ["a/b/c", "caf\u{e9}", "a b", &"long".repeat(60), &format!("{}/{}", "d".repeat(120), "e".repeat(120))] {
        let path = tree.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, name.repeat(100)).unwrap();
    }
    std::fs::hard_link(tree.join("a/b/c"), tree.join("hard")).unwrap();
    std::os::unix::fs::symlink("x".repeat(150), tree.join("symlink")).unwrap();
    std::os::unix::fs::symlink("a/b", tree.join("short")).unwrap();
    nix::unistd::mkfifo(&tree.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut paths = Vec::new();
    let mut make = |program: &str, format: &str, extra: &[&str]| {
        let out = directory.path().join(format!("{program}-{format}.tar"));
        let mut command = Command::new(program);
        command.arg(format!("--format={format}")).args(extra).arg("-cf").arg(&out).arg("-C").arg(directory.path());
        // What a format has no room for, or may not be read, is left out with a complaint.
        command.args(["tree", "/etc"]).output().unwrap();
        paths.push(out);
    };
    for format in ["v7", "oldgnu", "gnu", "ustar", "posix"] {
        make("tar", format, &["-P"]);
    }
    for format in ["v7tar", "ustar", "gnutar", "pax", "paxr"] {
        make("bsdtar", format, &["-P"]);
    }
    for format in ["USTAR", "GNU", "PAX"] {
        let out = directory.path().join(format!("python-{format}.tar"));
        let script = format!(
            "import sys, tarfile\nwith tarfile.open(sys.argv[1], 'w', format=tarfile.{format}_FORMAT) as t:\n \
             t.add(sys.argv[2], 'tree', filter=lambda m: None if len(m.name) > 90 or len(m.linkname) > 90 else m)"
        );
        let made = Command::new("python3").arg("-c").arg(script).arg(&out).arg(&tree).status().unwrap();
        assert!(made.success());
        paths.push(out);
    }
    let wrong = compare(&paths);
    assert!(wrong.is_empty(), "{} disagreements:\n{}", wrong.len(), wrong.join("\n"));
    for path in &paths {
        assert!(ours(path, true).is_some_and(|lines| lines.len() > 5), "{}", path.display());
    }
}
