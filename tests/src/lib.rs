//! The bench on which whole chains are tried: a directory of its own for each test, the four
//! binaries, real images, a terminal, and a look at the host before and after.

pub mod faults;
mod host;
mod image;
pub mod inject;
pub mod older;
mod person;
pub mod scene;
mod scripts;
pub mod slurm;
mod snapshot;
mod terminal;
mod work;

pub use host::{is_root, kernel_at_least, processes_with};
pub use image::{busybox_image, debian_image, have, image_of};
pub use person::Person;
pub use scripts::{but_for_old_kernels, examples, script};
pub use snapshot::{Snapshot, differences, snapshot};
pub use terminal::Terminal;
pub use work::{Outcome, Work};

/// Ends the test that cannot run here, with the reason on a line that CI counts.
#[macro_export]
macro_rules! skip {
    ($($why:tt)*) => {{
        eprintln!("skipped: {}", format_args!($($why)*));
        return;
    }};
}

/// Ends the test where it is not root that runs it.
#[macro_export]
macro_rules! needs_root {
    () => {
        if !$crate::is_root() {
            $crate::skip!("needs root");
        }
    };
}
