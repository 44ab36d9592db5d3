//! The compositions in scripts/, as a shell finds them.

use std::path::Path;

/// A script's path, quoted for a shell.
pub fn script(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts").join(name);
    format!("'{}'", path.canonicalize().unwrap_or_else(|error| panic!("{}: {error}", path.display())).display())
}
