//! The table of causes in docs/troubleshooting.md. Its rows stand in the sources, each right above the hint that it is
//! about, so that a hint is written once:
//!
//! ```text
//! //: MESSAGE | CALL: ERRNO | CAUSE | HOW IT IS TOLD | TEST
//! ```
//!
//! TEST is PACKAGE/FILE::FUNCTION, a unit test's file with its path, or a script.

use std::fs;
use std::path::{Path, PathBuf};

const MARK: &str = "//:";
const BEGIN: &str = "<!-- Made by cargo xtask dist -->";
const END: &str = "<!-- The end of it -->";
/// In the order of the page.
pub const CRATES: [(&str, &str); 5] = [
    ("chain", "Any of the tools"),
    ("unpack", "unpack"),
    ("isolate", "isolate"),
    ("pivot", "pivot"),
    ("mountclean", "mountclean"),
];

/// A source without its unit tests.
pub struct Source {
    /// Relative to the workspace.
    pub name: String,
    pub text: String,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Row {
    /// MESSAGE, CALL: ERRNO, CAUSE, HOW IT IS TOLD.
    pub fields: [String; 4],
    pub test: String,
    pub hint: String,
}

/// What the crate's sources say, in the order of their names.
pub fn sources(package: &str) -> Vec<Source> {
    let mut files = Vec::new();
    collect(&crate::workspace().join(package).join("src"), &mut files);
    files.sort();
    let source = |file: &PathBuf| {
        let text = fs::read_to_string(file).expect("a source");
        let name = file.strip_prefix(crate::workspace()).expect("below it").display().to_string();
        Source { name, text: text.split("#[cfg(test)]").next().unwrap_or_default().to_owned() }
    };
    files.iter().map(source).collect()
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("sources").flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The rows of a source.
pub fn rows(source: &Source) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut rest = source.text.as_str();
    while let Some(at) = rest.find(MARK) {
        rest = &rest[at..];
        let mut said = String::new();
        while let Some(line) = rest.trim_start().strip_prefix(MARK) {
            let (line, after) = line.split_once('\n').unwrap_or((line, ""));
            said = format!("{said} {}", line.trim());
            rest = after;
        }
        let fields: Vec<&str> = said.split(" | ").map(str::trim).collect();
        let [message, call, cause, told, test] = fields[..] else {
            panic!("{}: a row has five fields: {said}", source.name);
        };
        let hint = literals(rest).into_iter().next().unwrap_or_else(|| panic!("{}: no hint: {said}", source.name));
        rows.push(Row {
            fields: [message, call, cause, told].map(str::to_owned),
            test: test.to_owned(),
            hint: named(hint.strip_prefix("hint: ").unwrap_or(&hint)),
        });
    }
    rows
}

/// The string literals of a piece of source up to where the bracket that was open before it closes.
pub fn literals(source: &str) -> Vec<String> {
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

/// A text with what differs from case to case in capitals, as the page has it.
fn named(text: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        shown.push_str(&rest[..at]);
        let (first, after) = rest[at..].split_at(1);
        if let Some(after) = after.strip_prefix(first) {
            shown.push_str(first);
            rest = after;
        } else {
            let (name, after) = after.split_once('}').unwrap_or((after, ""));
            shown.push_str(&name.split(':').next().unwrap_or_default().to_uppercase());
            rest = after;
        }
    }
    shown + rest
}

/// The page with its table made anew.
pub fn page(page: &str) -> String {
    let (before, rest) = page.split_once(BEGIN).expect("the page has a table");
    let (_, after) = rest.split_once(END).expect("the table ends");
    format!("{before}{BEGIN}\n{}\n{END}{after}", table())
}

fn table() -> String {
    let mut text = String::new();
    for (package, title) in CRATES {
        let rows: Vec<Row> = sources(package).iter().flat_map(rows).collect();
        text.push_str(&format!(
            "\n### {title}\n\n| message | call and error | cause | how it is told | hint |\n|---|---|---|---|---|\n"
        ));
        for Row { fields, hint, .. } in rows {
            let cells = fields.iter().chain([&hint]).map(|cell| cell.replace('|', "\\|"));
            text.push_str(&format!("| {} |\n", cells.collect::<Vec<_>>().join(" | ")));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_read_with_the_hint_below_it() {
        let text = "x => \"no hint\",\n//: a message | call: EPERM | a cause |\n    //: looking | a/b::c\n\
                    y => format!(\"do {this:04o} \\\n        or {{that}}\"),";
        let [row] = &rows(&Source { name: "x".into(), text: text.into() })[..] else { panic!("one row") };
        assert_eq!(row.fields, ["a message", "call: EPERM", "a cause", "looking"]);
        assert_eq!((row.test.as_str(), row.hint.as_str()), ("a/b::c", "do THIS or {that}"));
    }
}
