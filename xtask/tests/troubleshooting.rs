//! Every hint that the tools can print is on the page for those who search for it, and each row of its table names the
//! test that brings the cause about.

use std::fs;

use xtask::causes::{CRATES, Source, literals, rows, sources};

fn all() -> Vec<Source> {
    CRATES.iter().flat_map(|(package, _)| sources(package)).collect()
}

/// Where a hint is chosen before it is given: the functions and constants that hold its texts.
const CHOSEN: &[(&str, &[&str])] = &[
    ("chain/src/account.rs", &["fn missing"]),
    ("chain/src/sys.rs", &["fn missing"]),
    ("chain/src/covered_proc.rs", &["pub fn why"]),
    ("chain/src/namespace.rs", &["    let hint"]),
    ("chain/src/why_denied.rs", &["pub fn explain", "fn closed"]),
    ("isolate/src/ids.rs", &[]),
    ("isolate/src/step.rs", &[]),
    ("isolate/src/process.rs", &[]),
    ("isolate/src/why_no_process.rs", &["fn "]),
    ("isolate/src/ids/why_refused.rs", &["pub fn", "fn overlap", "fn too_many", "fn not_in_one", "fn granted"]),
    ("isolate/src/privileges/capability.rs", &["pub fn set"]),
    ("isolate/src/limits/cgroup.rs", &[]),
    ("isolate/src/limits/delegation.rs", &["    let hint"]),
    ("isolate/src/limits/why_refused.rs", &["fn "]),
    ("isolate/src/limits/hierarchy.rs", &["fn missing"]),
    ("isolate/src/namespaces/join/why_refused.rs", &["    let hint"]),
    ("isolate/src/namespaces/pasta.rs", &["        let hint"]),
    ("isolate/src/namespaces/persist.rs", &["    let hint"]),
    ("isolate/src/privileges.rs", &["fn privilege", "fn unmapped"]),
    ("isolate/src/namespaces/why_failed.rs", &["    match errno", "fn "]),
    ("mountclean/src/procfs.rs", &["    let hint"]),
    ("pivot/src/root.rs", &[]),
    ("pivot/src/why_failed.rs", &[]),
    ("pivot/src/overlay.rs", &["    let hint", "fn invalid"]),
    ("pivot/src/changes.rs", &[]),
    ("pivot/src/place.rs", &["fn why_not_made"]),
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
    let page = fs::read_to_string(xtask::workspace().join("docs/troubleshooting.md")).expect("the page");
    let page = plain(&page.replace("\\|", "|"));
    let (mut missing, mut hints) = (Vec::new(), 0);
    let mut look = |file: &str, text: &str| {
        hints += 1;
        for part in fixed(text).into_iter().filter(|part| !page.contains(part.as_str())) {
            missing.push(format!("{file}: {part}"));
        }
    };
    for Source { name: file, text: source } in all() {
        let chosen = CHOSEN.iter().find(|(name, _)| *name == file);
        for call in [".hint(", "::hint(", "Hint("] {
            for (at, _) in source.match_indices(call) {
                let texts = literals(&source[at + call.len()..]);
                if texts.is_empty() && !PASSED_ON.contains(&file.as_str()) {
                    let known = chosen.is_some() || source.contains("//:");
                    assert!(known, "{file}: a hint whose text is elsewhere: add where to CHOSEN");
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

#[test]
fn every_row_has_a_test_that_is_there() {
    let mut missing = Vec::new();
    let mut count = 0;
    for source in all() {
        for row in rows(&source) {
            count += 1;
            let there = match row.test.split_once("::") {
                Some((file, function)) => {
                    let (package, name) = file.split_once('/').unwrap_or((file, ""));
                    let texts = [format!("{package}/tests/{name}.rs"), format!("{file}.rs")]
                        .map(|path| fs::read_to_string(xtask::workspace().join(path)).unwrap_or_default());
                    texts.iter().any(|text| text.contains(&format!("fn {function}()")))
                }
                None => xtask::workspace().join(&row.test).is_file(),
            };
            if !there {
                missing.push(format!("{}: {}", source.name, row.test));
            }
        }
    }
    assert!(count > 60, "only {count} rows were found");
    assert_eq!(missing, Vec::<String>::new(), "no such test");
}
