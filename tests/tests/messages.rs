//! Every hint that the tools can print is on the page for those who search for it.

use std::fs;
use std::path::{Path, PathBuf};

const PAGE: &str = include_str!("../../docs/troubleshooting.md");

/// Where a hint is chosen before it is given: the functions and constants that hold its texts.
const CHOSEN: &[(&str, &[&str])] = &[
    ("chain/src/account.rs", &["fn missing"]),
    ("chain/src/sys.rs", &["fn missing"]),
    ("chain/src/covered_proc.rs", &["pub fn why"]),
    ("isolate/src/ids.rs", &[]),
    ("isolate/src/step.rs", &[]),
    ("isolate/src/process.rs", &[]),
    ("isolate/src/why_no_process.rs", &["fn "]),
    ("isolate/src/ids/why_refused.rs", &["pub fn", "fn overlap", "fn not_in_one", "fn granted"]),
    ("isolate/src/privileges/capability.rs", &["pub fn set"]),
    ("isolate/src/limits/cgroup.rs", &[]),
    ("isolate/src/limits/why_refused.rs", &["fn "]),
    ("isolate/src/limits/hierarchy.rs", &["fn missing"]),
    ("isolate/src/namespaces/join.rs", &["    let hint"]),
    ("isolate/src/namespaces/pasta.rs", &["        let hint"]),
    ("isolate/src/namespaces/persist.rs", &["    let hint"]),
    ("isolate/src/privileges.rs", &["fn privilege", "fn unmapped"]),
    ("isolate/src/namespaces/why_failed.rs", &["    match errno", "fn "]),
    ("mountclean/src/procfs.rs", &["    let hint"]),
    ("pivot/src/root.rs", &[]),
    ("pivot/src/why_denied.rs", &["pub fn explain", "fn closed"]),
    ("pivot/src/why_failed.rs", &["fn "]),
    ("pivot/src/overlay.rs", &["    let hint"]),
    ("pivot/src/volume.rs", &["        let hint"]),
    ("unpack/src/image/foreign.rs", &["const "]),
    ("unpack/src/image/recognise.rs", &[]),
    ("unpack/src/source.rs", &[]),
    ("unpack/src/source/fetch.rs", &["pub(super) fn", "fn copy"]),
    ("unpack/src/publish/replaceable.rs", &["    let hint"]),
    ("unpack/src/expected_root.rs", &["const REPLACE"]),
];

/// Hints that are a list of names, a usage line, or the hint of another error passed on.
const PASSED_ON: [&str; 4] =
    ["chain/src/cli.rs", "chain/src/report.rs", "isolate/src/limits/rlimit.rs", "unpack/src/stream/failure.rs"];

fn sources() -> Vec<(String, String)> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("workspace");
    let mut found = Vec::new();
    for tool in ["chain", "unpack", "isolate", "pivot", "mountclean"] {
        let mut dirs: Vec<PathBuf> = vec![workspace.join(tool).join("src")];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(&dir).expect("sources").flatten() {
                let path = entry.path();
                if path.is_dir() {
                    dirs.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let text = fs::read_to_string(&path).expect("a source");
                    let text = text.split("#[cfg(test)]").next().unwrap_or_default().to_owned();
                    let name = path.strip_prefix(workspace).expect("below it").display().to_string();
                    found.push((name, text));
                }
            }
        }
    }
    found
}

/// The string literals of a piece of source up to where the bracket that was open before it closes.
fn literals(source: &str) -> Vec<String> {
    let (mut found, mut depth) = (Vec::new(), 1);
    let mut chars = source.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => {
                let mut text = String::new();
                loop {
                    match chars.next() {
                        Some('\\') => match chars.next() {
                            // A line that goes on: its indent is no part of the text.
                            Some('\n') => chars = chars.as_str().trim_start().chars(),
                            Some(escaped) => text.push(escaped),
                            None => break,
                        },
                        Some('"') | None => break,
                        Some(c) => text.push(c),
                    }
                }
                found.push(text);
            }
            '(' | '{' | '[' => depth += 1,
            ')' | '}' | ']' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    found
}

/// A text as it is compared: the page may wrap it and set it off.
fn plain(text: &str) -> String {
    text.replace('`', "").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The parts of a text between what differs from case to case.
fn fixed(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut inside = false;
    for c in text.replace("{{", "\u{1}").replace("}}", "\u{2}").chars() {
        match c {
            '{' => inside = true,
            '}' => {
                inside = false;
                parts.push(String::new());
            }
            c if !inside => parts.last_mut().expect("one").push(match c {
                '\u{1}' => '{',
                '\u{2}' => '}',
                c => c,
            }),
            _ => {}
        }
    }
    parts.iter().map(|part| plain(part)).filter(|part| part.split(' ').count() >= 2).collect()
}

#[test]
fn every_hint_is_on_the_page() {
    let page = plain(PAGE);
    let (mut missing, mut hints) = (Vec::new(), 0);
    let mut look = |file: &str, text: &str| {
        hints += 1;
        for part in fixed(text).into_iter().filter(|part| !page.contains(part.as_str())) {
            missing.push(format!("{file}: {part}"));
        }
    };
    for (file, source) in sources() {
        let chosen = CHOSEN.iter().find(|(name, _)| *name == file);
        for call in [".hint(", "::hint(", "Hint("] {
            for (at, _) in source.match_indices(call) {
                let texts = literals(&source[at + call.len()..]);
                if texts.is_empty() && !PASSED_ON.contains(&file.as_str()) {
                    assert!(chosen.is_some(), "{file}: a hint whose text is elsewhere: add where to CHOSEN");
                }
                texts.iter().for_each(|text| look(&file, text));
            }
        }
        for (at, _) in source.match_indices("\"hint: ").filter(|_| file != "chain/src/report.rs") {
            literals(&source[at..]).iter().take(1).for_each(|text| look(&file, text.trim_start_matches("hint: ")));
        }
        for place in chosen.map_or(&[][..], |(_, places)| places) {
            let mut found = false;
            for (at, _) in source.match_indices(place) {
                found = true;
                let rest = &source[at..];
                let body = if place.contains("const") { rest.find('"') } else { rest.find('{').map(|brace| brace + 1) };
                let texts = literals(&rest[body.unwrap_or(0)..]);
                let texts = if place.contains("const") { &texts[..1] } else { &texts[..] };
                // Names of files and of options stand between the texts.
                texts.iter().filter(|text| text.split(' ').count() >= 5).for_each(|text| look(&file, text));
            }
            assert!(found, "{file}: no {place} in it any more");
        }
    }
    assert!(hints > 80, "only {hints} hints were found");
    assert_eq!(missing, Vec::<String>::new(), "not in docs/troubleshooting.md");
}
