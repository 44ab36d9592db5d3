//! Checks that a static link is sound: a std compiled for glibc and linked with musl relies on both having the same
//! layouts and constants. Each check compares with something that does not come from the C library.

mod files;
mod kernel;
mod processes;

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

type Checked = Result<(), Box<dyn Error>>;
type Check = fn(&Path) -> Checked;

macro_rules! ensure {
    ($($what:tt)*) => { if !($($what)*) { return Err(stringify!($($what)*).into()) } };
}
pub(crate) use ensure;

fn main() -> ExitCode {
    #[expect(clippy::disallowed_methods, reason = "no tool of the chain: std starts it")]
    if let Some(role) = std::env::args().nth(1) {
        return processes::child(&role);
    }
    let checks: [(&str, Check); 10] = [
        ("exit statuses", processes::statuses),
        ("panic", processes::panics),
        ("backtraces", processes::backtraces),
        ("threads", processes::threads),
        ("metadata", files::metadata),
        ("directories", files::directories),
        ("errors", kernel::errors),
        ("signals", kernel::signals),
        ("descriptors over sockets", kernel::sockets),
        ("terminals", kernel::terminals),
    ];
    let dir = std::env::temp_dir().join(format!("chainroot-self-test-{}", std::process::id()));
    if let Err(error) = fs::create_dir(&dir) {
        eprintln!("self-test: {}: {error}", dir.display());
        return ExitCode::FAILURE;
    }
    let mut code = ExitCode::SUCCESS;
    for (name, check) in checks {
        if let Err(error) = check(&dir) {
            eprintln!("self-test: {name}: {error}");
            code = ExitCode::FAILURE;
        }
    }
    let _ = fs::remove_dir_all(&dir);
    code
}
