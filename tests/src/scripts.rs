//! The compositions in scripts/, as a shell finds them.

use std::path::Path;

/// A script's path, quoted for a shell.
pub fn script(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts").join(name);
    format!("'{}'", path.canonicalize().unwrap_or_else(|error| panic!("{}: {error}", path.display())).display())
}

/// What was said on stderr, but for what an ordinary user's `pivot --ephemeral` says on a kernel before 6.6.
pub fn but_for_old_kernels(stderr: &str) -> String {
    let is_note = |line: &str| line.starts_with("pivot: the filesystem of the changes has no extended attributes");
    stderr.lines().filter(|line| !is_note(line)).map(|line| format!("{line}\n")).collect()
}

/// The examples in the comment at a script's top, as they stand: lines further in than the text, but no
/// list of options.
pub fn examples(name: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let header = text.lines().take_while(|line| !line.starts_with("set -e"));
    let lines = header.filter_map(|line| line.strip_prefix("#   "));
    lines.filter(|line| !line.starts_with(['-', ' '])).map(str::to_owned).collect()
}
