//! Runs what our tools need of the C library and of std, to see that a static link is sound: a std
//! that was compiled for glibc and is linked with musl relies on both having the same layouts and
//! constants. Each check compares with something that does not come from the C library.

mod decompressors;
mod files;
mod kernel;
mod memory;
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
    if let Some(role) = std::env::args().nth(1) {
        return processes::child(&role);
    }
    let checks: [(&str, Check); 17] = [
        ("arguments and environment", processes::arguments),
        ("exit statuses", processes::statuses),
        ("panic", processes::panics),
        ("backtraces", processes::backtraces),
        ("stack overflow", processes::overflows),
        ("threads", processes::threads),
        ("blocks of memory", memory::blocks),
        ("metadata", files::metadata),
        ("large files", files::large_files),
        ("directories", files::directories),
        ("clocks", files::clocks),
        ("errors", kernel::errors),
        ("signals", kernel::signals),
        ("descriptors over sockets", kernel::sockets),
        ("terminals", kernel::terminals),
        ("xz", decompressors::xz),
        ("zstd", decompressors::zstd),
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
