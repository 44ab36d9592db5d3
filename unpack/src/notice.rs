//! What people are told on stderr when a root is made.

use std::path::Path;
use std::sync::atomic::Ordering;

use chain::{Tool, warn};

use crate::tree::Policy;

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
