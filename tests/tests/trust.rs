//! What the documents promise about this code is what the code is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

fn document(name: &str) -> String {
    fs::read_to_string(repository().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Every Rust file of a crate.
fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())).flatten() {
        let path = entry.path();
        if path.is_dir() && !path.ends_with("target") {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// How often the keyword stands in the code of a file, comments and strings of lint names aside.
fn unsafe_in(text: &str) -> usize {
    let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    let words = code.flat_map(|line| line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '"'));
    words.filter(|&word| word == "unsafe").count()
}

#[test]
fn the_unsafe_blocks_are_those_that_contributing_counts() {
    let text = document("CONTRIBUTING.md");
    // | `chain` | 12 | what for |
    let mut stated = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let count: usize = cells[2].parse().unwrap_or_else(|_| panic!("{line}"));
        stated.insert(cells[1].trim_matches('`').to_owned(), count);
    }
    let mut counted = BTreeMap::new();
    for name in ["chain", "unpack", "isolate", "pivot", "mountclean", "xtask", "tests"] {
        let mut files = Vec::new();
        sources(&repository().join(name), &mut files);
        let own = |path: &PathBuf| !path.ends_with("tests/trust.rs");
        let count =
            files.iter().filter(|path| own(path)).map(|path| unsafe_in(&fs::read_to_string(path).unwrap())).sum();
        counted.insert(name.to_owned(), count);
    }
    assert_eq!(stated, counted, "CONTRIBUTING.md, under Unsafe, states the left");
}

#[test]
fn the_scripts_clean_path_is_the_tools_standard_path() {
    let script = document("scripts/sandbox.sh");
    assert!(script.contains(&format!("clean_path={}\n", chain::defaults::PATH)));
}

#[test]
fn every_test_that_the_security_page_names_is_there() {
    let page = document("docs/security.md");
    let names = page.split('`').skip(1).step_by(2).filter(|text| text.contains("::")).collect::<BTreeSet<_>>();
    assert!(names.len() > 40, "{names:?}");
    let mut missing = Vec::new();
    for name in names {
        // crate/file::function
        let (file, function) = name.split_once("::").expect("filtered");
        let (package, file) = file.split_once('/').unwrap_or_else(|| panic!("{name}: no package"));
        let path = repository().join(package).join("tests").join(format!("{file}.rs"));
        let text = fs::read_to_string(&path).unwrap_or_default();
        if !text.contains(&format!("#[test]\nfn {function}(")) {
            missing.push(name);
        }
    }
    assert!(missing.is_empty(), "no such test: {missing:?}");
}

#[test]
fn every_number_on_the_security_page_has_its_address() {
    let page = document("docs/security.md");
    let (text, addresses) = page.split_once("\n[CVE-").expect("addresses at its end");
    let addresses = format!("[CVE-{addresses}");
    let addressed: BTreeSet<_> = addresses
        .lines()
        .map(|line| {
            let (number, address) = line.split_once("]: ").unwrap_or_else(|| panic!("{line}"));
            assert!(address.starts_with("https://"), "{line}");
            number.trim_start_matches('[')
        })
        .collect();
    let named: BTreeSet<_> =
        text.split('[').filter(|rest| rest.starts_with("CVE-")).map(|rest| &rest[..rest.find(']').unwrap()]).collect();
    assert_eq!(text.matches("CVE-").count(), text.matches("[CVE-").count(), "one without brackets is no link");
    assert_eq!(named, addressed);
}

#[test]
fn a_crate_with_a_known_vulnerability_is_found_without_a_network() {
    let check = |lock: &Path| {
        let script = repository().join("scripts/deny.d/check");
        std::process::Command::new("python3").arg(script).arg("advisories").arg(lock).output().expect("python3")
    };
    for lock in ["Cargo.lock", "fuzz/Cargo.lock"] {
        let output = check(&repository().join(lock));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let dir = tempfile::tempdir().expect("a directory");
    let lock = dir.path().join("Cargo.lock");
    let registry = "registry+https://github.com/rust-lang/crates.io-index";
    let found = |name: &str, version: &str| {
        let entry = format!("[[package]]\nname = \"{name}\"\nversion = \"{version}\"\nsource = \"{registry}\"\n");
        fs::write(&lock, entry).expect("a lock file");
        let output = check(&lock);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.success(), text.is_empty(), "{text}");
        text
    };
    assert!(found("tar", "0.4.44").contains("RUSTSEC-2026-0067"));
    assert!(found("anyhow", "1.0.102").contains("RUSTSEC-2026-0190 (unsound)"));
    assert!(found("nix", "0.21.1").contains("RUSTSEC-2021-0119"));
    assert!(found("never-heard-of", "1.0.0").contains("was never looked up"));
    // Patched in its own series, patched at all, and older than the flaw.
    for (name, version) in [("nix", "0.21.2"), ("nix", "0.31.3"), ("nix", "0.15.9"), ("tar", "0.4.45")] {
        assert_eq!(found(name, version), "");
    }
}

#[test]
fn no_tool_depends_on_another() {
    let tools = ["unpack", "isolate", "pivot", "mountclean"];
    for tool in tools {
        let manifest = document(&format!("{tool}/Cargo.toml"));
        for other in tools.into_iter().filter(|&other| other != tool) {
            assert!(!manifest.contains(&format!("path = \"../{other}\"")), "{tool} depends on {other}");
            assert!(!manifest.lines().any(|line| line.starts_with(other)), "{tool} depends on {other}");
        }
    }
}
