//! Which way the arrows point: four tools to `chain`, and no circle between the files of a crate; and what a file may not
//! know or do beside others.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const CRATES: [&str; 5] = ["chain", "isolate", "mountclean", "pivot", "unpack"];

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

/// A module by its path below the crate: `limits::place`, and "" for lib.rs.
type Module = String;

/// One file: what it says without comments, strings and unit tests.
struct Source {
    code: String,
    /// The modules that it declares.
    children: BTreeSet<String>,
    /// What it hands on under its own name, and the path that this came from.
    exports: BTreeMap<String, Vec<String>>,
}

fn modules_of(package: &str) -> BTreeMap<Module, Source> {
    let root = repository().join(package).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    let mut modules = BTreeMap::new();
    for file in files {
        let relative = file.strip_prefix(&root).unwrap().with_extension("");
        let name = relative.to_str().unwrap().replace('/', "::");
        if name == "main" {
            continue;
        }
        let name = if name == "lib" { String::new() } else { name };
        modules.insert(name, Source::of(&fs::read_to_string(&file).unwrap()));
    }
    modules
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())).flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

impl Source {
    fn of(text: &str) -> Source {
        let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        let lines = text.lines().map(|line| line.split("//").next().unwrap());
        let code = lines.collect::<Vec<_>>().join("\n");
        let mut children = BTreeSet::new();
        for line in code.lines() {
            let declared = line.trim_start_matches("pub(crate) ").trim_start_matches("pub ").strip_prefix("mod ");
            children.extend(declared.and_then(|name| name.strip_suffix(';')).map(str::to_owned));
        }
        let mut exports = BTreeMap::new();
        for (at, _) in code.match_indices("pub use ") {
            for path in use_tree(&code[at + "pub use ".len()..]) {
                exports.insert(path.last().unwrap().clone(), path);
            }
        }
        Source { code, children, exports }
    }
}

/// The paths of a `use` tree, or of one path in an expression.
fn use_tree(text: &str) -> Vec<Vec<String>> {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').unwrap_or(text.len());
    let head: Vec<String> = text[..end].split("::").map(str::to_owned).filter(|word| !word.is_empty()).collect();
    if !text[..end].ends_with("::") || !text[end..].starts_with('{') {
        return vec![head];
    }
    let (mut depth, mut begin, mut paths) = (0, end + 1, Vec::new());
    for (at, c) in text.char_indices().skip_while(|(at, _)| *at < end) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 || depth == 1 && c == ',' {
            let part = text[begin..at].trim();
            for tail in if part.is_empty() { Vec::new() } else { use_tree(part) } {
                let tail = tail.into_iter().filter(|word| word != "self");
                paths.push(head.iter().cloned().chain(tail).collect());
            }
            begin = at + 1;
        }
        if depth == 0 {
            break;
        }
    }
    paths
}

/// Where a path that begins in `module` leads: the module that defines it, through what others hand on.
fn resolve(modules: &BTreeMap<Module, Source>, module: &str, path: &[String]) -> Option<Module> {
    let mut at = module.to_owned();
    let mut rest = path;
    loop {
        let (word, more) = rest.split_first()?;
        match word.as_str() {
            "crate" => at = String::new(),
            "super" => at = at.rsplit_once("::").map_or(String::new(), |(parent, _)| parent.to_owned()),
            "self" => {}
            word if modules[&at].children.contains(word) => {
                at = if at.is_empty() { word.to_owned() } else { format!("{at}::{word}") };
                if more.is_empty() {
                    return Some(at);
                }
            }
            word => {
                return match modules[&at].exports.get(word) {
                    Some(from) if from != path => resolve(modules, &at, from),
                    _ => Some(at),
                };
            }
        }
        rest = more;
        if rest.is_empty() {
            return Some(at);
        }
    }
}

/// Module by module, those that it takes something from.
fn arrows_of(package: &str) -> BTreeMap<Module, BTreeSet<Module>> {
    let modules = modules_of(package);
    let mut arrows = BTreeMap::new();
    for (name, source) in &modules {
        let mut to = BTreeSet::new();
        let begins = ["crate", "super", "self"].into_iter().chain(source.children.iter().map(String::as_str));
        for begin in begins {
            for (at, _) in source.code.match_indices(&format!("{begin}::")) {
                let before = source.code[..at].chars().next_back().unwrap_or(' ');
                if before.is_alphanumeric() || matches!(before, '_' | ':' | '$') {
                    continue;
                }
                to.extend(use_tree(&source.code[at..]).iter().filter_map(|path| resolve(&modules, name, path)));
            }
        }
        to.remove(name);
        // A folder's own file and the files in it are one room: they may take from the first what it defines.
        to.retain(|to| to.is_empty() || !name.starts_with(&format!("{to}::")));
        arrows.insert(name.clone(), to);
    }
    arrows
}

fn circle_in(arrows: &BTreeMap<Module, BTreeSet<Module>>) -> Option<Vec<Module>> {
    fn walk(
        at: &Module,
        arrows: &BTreeMap<Module, BTreeSet<Module>>,
        way: &mut Vec<Module>,
        done: &mut BTreeSet<Module>,
    ) -> Option<Vec<Module>> {
        if let Some(begin) = way.iter().position(|module| module == at) {
            return Some(way[begin..].iter().chain([at]).cloned().collect());
        }
        if done.contains(at) {
            return None;
        }
        way.push(at.clone());
        for to in &arrows[at] {
            if let Some(circle) = walk(to, arrows, way, done) {
                return Some(circle);
            }
        }
        done.insert(way.pop().unwrap());
        None
    }
    let mut done = BTreeSet::new();
    arrows.keys().find_map(|module| walk(module, arrows, &mut Vec::new(), &mut done))
}

#[test]
fn no_circle_ties_the_files_of_a_crate() {
    let mut circles = Vec::new();
    for package in CRATES {
        let arrows = arrows_of(package);
        assert!(arrows.values().map(BTreeSet::len).sum::<usize>() > arrows.len(), "{package}: {arrows:?}");
        circles.extend(circle_in(&arrows).map(|circle| format!("{package}: {}", circle.join(" -> "))));
    }
    assert!(circles.is_empty(), "{circles:#?}");
}

#[test]
fn every_arrow_between_crates_points_from_a_tool_to_chain() {
    for package in CRATES {
        for (module, source) in modules_of(package) {
            for other in CRATES.into_iter().filter(|&other| other != package && other != "chain") {
                assert!(!source.code.contains(&format!("{other}::")), "{package}: {module} takes from {other}");
            }
            assert!(
                package != "chain" || !source.code.contains("chain::"),
                "chain: {module} takes from itself by name"
            );
        }
    }
}

#[test]
fn only_the_steps_know_the_state_that_they_share() {
    let mut known = Vec::new();
    for package in ["isolate", "mountclean", "pivot"] {
        let modules = modules_of(package);
        assert!(modules["step"].code.contains("pub struct State {"), "{package}");
        // lib.rs makes the first one.
        for (module, source) in modules.iter().filter(|(name, _)| !["step", ""].contains(&name.as_str())) {
            let without_strings = source.code.split('"').step_by(2);
            let words = without_strings.flat_map(|code| code.split(|c: char| !c.is_alphanumeric() && c != '_'));
            known.extend(words.filter(|word| *word == "State").map(|_| format!("{package}: {module}")));
        }
    }
    assert!(known.is_empty(), "{known:#?}");
}

#[test]
fn only_chain_turns_an_errno_of_rustix_or_std_into_one_of_nix() {
    let mut places = Vec::new();
    for package in CRATES {
        for (module, source) in modules_of(package) {
            let converts = |line: &str| line.contains("from_raw") && line.contains("raw_os_error()");
            places.extend(source.code.lines().any(converts).then(|| format!("{package}: {module}")));
        }
    }
    assert_eq!(places, ["chain: sys"]);
}

#[test]
fn a_file_makes_its_calls_with_nix_or_with_rustix() {
    let mut both = Vec::new();
    for package in CRATES {
        for (module, source) in modules_of(package) {
            let code = source.code.replace("unix::", "");
            // libc's constants and the errno that errors carry are everybody's.
            let is_call = |rest: &&str| !rest.starts_with("libc") && !rest.starts_with("errno::Errno");
            if code.contains("rustix::") && code.split("nix::").skip(1).any(|rest| is_call(&rest)) {
                both.push(format!("{package}: {module}"));
            }
        }
    }
    assert!(both.is_empty(), "{both:#?}");
}
