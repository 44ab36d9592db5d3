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
