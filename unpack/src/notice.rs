//! What people are told on stderr when a root is made.

use std::fmt;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Instant;

use chain::{Tool, warn};

use crate::tree::Policy;

/// Tells of steps and how long each took, for --verbose.
pub struct Timer {
    on: bool,
    begun: Instant,
}

impl Timer {
    pub fn new(on: bool) -> Timer {
        Timer { on, begun: Instant::now() }
    }

    pub fn told(&mut self, step: impl fmt::Display) {
        if self.on {
            warn(Tool::Unpack, format_args!("{step} ({:.1} ms)", self.begun.elapsed().as_secs_f64() * 1e3));
        }
        self.begun = Instant::now();
    }
}

/// What is otherwise than the image asked, and what is dangerous about it.
pub fn tell(policy: &Policy, root: &Path) {
    let shown = root.display();
    if let Some(told) = policy.ledger.told() {
        let receipt = chain::handoff::receipt_path(root);
        warn(Tool::Unpack, format_args!("{shown}: {told} (listed in {})", receipt.display()));
    }
    let setuid = policy.setuid.load(Ordering::Relaxed);
    if setuid > 0 && searchable(root) {
        warn(Tool::Unpack, format_args!("{shown}: {setuid} setuid files that other users of this machine can run"));
        warn(Tool::Unpack, "hint: keep roots below a directory of mode 0700");
    }
}

/// Whether anybody can get into the root, and its filesystem honours setuid bits.
fn searchable(root: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let open = |dir: &Path| dir.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o001 != 0);
    let nosuid = rustix::fs::statvfs(root).is_ok_and(|fs| fs.f_flag.contains(rustix::fs::StatVfsMountFlags::NOSUID));
    !nosuid && root.ancestors().all(open)
}
