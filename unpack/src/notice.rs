//! What people are told on stderr when a root is made.

use std::ffi::OsStr;
use std::fmt;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::{Context, Result};
use chain::{Tool, warn};

use crate::image::{Image, Kind, below_one_directory};
use crate::ledger::counted;
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

    pub fn step_done(&mut self, step: impl fmt::Display) {
        if self.on {
            warn(Tool::Unpack, format_args!("{step} ({:.1} ms)", self.begun.elapsed().as_secs_f64() * 1e3));
        }
        self.begun = Instant::now();
    }
}

/// What people are told, for a program to be told as well.
pub struct Notices {
    pub quiet: bool,
    pub told: Vec<String>,
}

impl Notices {
    pub fn tell(&mut self, text: impl fmt::Display) {
        if !self.quiet {
            warn(Tool::Unpack, &text);
        }
        self.told.push(text.to_string());
    }

    /// What differs from the image, and what is dangerous about it.
    pub fn changes(&mut self, policy: &Policy, root: &Path) {
        let shown = root.display();
        if let Some(changes) = policy.ledger.summary() {
            let receipt = chain::handoff::receipt_path(root);
            self.tell(format_args!("{shown}: {changes} (listed in {})", receipt.display()));
        }
        let kinds = [
            (&policy.setuid, ("setuid or setgid file", "setuid or setgid files")),
            (&policy.capable, ("file with capabilities", "files with capabilities")),
        ];
        let dangerous = kinds.map(|(number, nouns)| (number.load(Ordering::Relaxed), nouns));
        let dangerous = dangerous.into_iter().filter(|&(number, _)| number > 0);
        let dangerous: Vec<_> = dangerous.map(|(number, nouns)| counted(number, nouns)).collect();
        if !dangerous.is_empty() && searchable(root) {
            let what = dangerous.join(" and ");
            self.tell(format_args!("{shown}: {what} that other users of this machine can run"));
            self.tell("hint: keep roots below a directory of mode 0700");
        }
    }

    /// What is odd about an image, and where in its tree a root filesystem is that does not begin at its top.
    pub fn oddities(&mut self, image: &Image, tree: BorrowedFd, root: &Path) -> Result<()> {
        for note in &image.notes {
            self.tell(note);
        }
        if image.kind == Kind::RootFs
            && let Some(name) = below_one_directory(tree).context("look at the tree")?
        {
            let inner = root.join(OsStr::from_bytes(&name));
            self.tell(format_args!("{}: the root filesystem is in here: pivot {0}", inner.display()));
        }
        Ok(())
    }
}

/// Whether anybody can get into the root, and its filesystem honours setuid bits.
fn searchable(root: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let open = |dir: &Path| dir.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o001 != 0);
    let nosuid = rustix::io::retry_on_intr(|| rustix::fs::statvfs(root))
        .is_ok_and(|fs| fs.f_flag.contains(rustix::fs::StatVfsMountFlags::NOSUID));
    !nosuid && root.ancestors().all(open)
}
