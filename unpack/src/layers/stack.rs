//! NAME.mstack: links to an image's layers, numbered from the base up, and the seam above them (systemd.mstack(7)).

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, Result, anyhow};
use chain::WithHint;
use chain::receipt::path as receipt_path;
use chain::store::{MOST, SEAM};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use serde_json::{Value, json};

use super::needs::name_of;
use super::seam;
use super::store::{Store, Stored};
use super::view::{Placed, has};
use crate::image::{Image, Kind, Layer};
use crate::stage::Stage;
use crate::tree::{Policy, Whiteouts};

/// Layers from the base up, with none that cannot stand where it is.
pub struct Stack(Vec<Rc<Stored>>);

impl Stack {
    /// Makes sure that the image's layers are in the store.
    pub fn of(image: &mut Image, store: &mut Store) -> Result<Stack> {
        if image.kind == Kind::RootFs {
            return Err(anyhow!("is a plain root filesystem: it has no layers to keep apart"))
                .hint("leave --layers out");
        }
        let mut stack = Stack(Vec::new());
        for number in 0..image.layers.len() {
            let same = (0..number).find(|&other| image.layers[other].diff_id == image.layers[number].diff_id);
            let stored = match same {
                Some(other) => stack.0[other].clone(),
                None => Rc::new(store.alone(&mut image.layers[number])?),
            };
            stack.0.push(stored);
        }
        stack.flatten(&mut image.layers, store)?;
        Ok(stack)
    }

    fn placed<'a>(&'a self, store: &'a Store) -> Vec<Placed<'a>> {
        let store = store.dir.as_fd();
        self.0.iter().map(|stored| Placed { store, name: &stored.name, needs: &stored.needs }).collect()
    }

    /// Replaces layers that cannot stand over those below them, with all of those, by what they are together.
    fn flatten(&mut self, layers: &mut [Layer], store: &mut Store) -> Result<()> {
        // The seam is a layer, too.
        let too_many = (layers.len() + 1).checked_sub(MOST);
        let mut flat = 0;
        if let Some(more) = too_many {
            flat = more + 1;
            self.flatten_first(flat, flat, layers, store)?;
        }
        loop {
            // What stands on a layer that cannot stand is looked at again on what that one is replaced by.
            let placed = self.placed(store);
            let mut last = None;
            for number in (0..placed.len()).skip(usize::from(flat > 0)) {
                if !has(&placed[..number], placed[number].needs)? {
                    last = Some(number);
                }
            }
            let Some(number) = last else { return Ok(()) };
            let before = flat.saturating_sub(1);
            let count = number + 1;
            flat = before + count;
            self.flatten_first(count, flat, layers, store)?;
        }
    }

    /// Of the stack the first `count`, which are the first `layers` of the image.
    fn flatten_first(&mut self, count: usize, layers: usize, all: &mut [Layer], store: &mut Store) -> Result<()> {
        let flattened = store.flattened(&mut all[..layers])?;
        self.0.splice(..count, [Rc::new(flattened)]);
        Ok(())
    }

    /// The layers that overlayfs is to have.
    fn linked(&self) -> Vec<&Rc<Stored>> {
        let opaque = self.0.iter().rposition(|stored| stored.needs.opaque_root).unwrap_or(0);
        let seen = &self.0[opaque..];
        let again = |number: usize| seen[number + 1..].iter().any(|above| above.name == seen[number].name);
        // The same directory twice is ELOOP to overlayfs. What the lower one shows the uppermost shows as well.
        let wanted = |&(number, stored): &(usize, &Rc<Stored>)| !stored.needs.empty && !again(number);
        seen.iter().enumerate().filter(wanted).map(|(_, stored)| stored).collect()
    }

    /// Notes for people and the stack's receipt what the layers lack.
    pub fn tell(&self, policy: &Policy) {
        for stored in &self.0 {
            policy.absorb(&stored.receipt);
        }
    }

    /// Fills the staged NAME.mstack, and says what it is.
    pub fn write(&self, stage: &Stage, store: &Store) -> Result<Value> {
        let what = || stage.path().display().to_string();
        let tree = stage.open_tree()?;
        let parent = stage.parent_path.canonicalize().with_context(what)?;
        let to_store = relative(&parent.join(&stage.name), &store.path);
        let linked = self.linked();
        let mut counted = true;
        for (number, stored) in linked.iter().enumerate() {
            let link = format!("layer@{number}");
            rustix::fs::symlinkat(to_store.join(&stored.name), &tree, &link).with_context(what)?;
            let receipt = receipt_path(&store.path.join(&stored.name));
            counted &= count(&receipt, tree.as_fd(), &format!(".{}.json", stored.name)).with_context(what)?;
        }
        // Overlayfs without an upper directory takes no fewer than two.
        let names = if linked.is_empty() { &["layer@0", SEAM][..] } else { &[SEAM] };
        for name in names {
            rustix::fs::mkdirat(&tree, *name, Mode::RWXU).with_context(what)?;
        }
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let seam = crate::retry_eintr::openat(&tree, SEAM, flags, Mode::empty()).with_context(what)?;
        seam::fill(seam.as_fd(), &self.placed(store)).context("the directories above all layers")?;
        rustix::fs::fchmod(&tree, Mode::from_raw_mode(0o755)).with_context(what)?;
        let forms = linked.iter().filter_map(|stored| stored.needs.whiteouts);
        let form = forms.reduce(|one, other| if one == Whiteouts::Attributes { one } else { other });
        Ok(json!({
            "format": 1,
            "store": store.path.to_string_lossy(),
            "layers": linked.iter().map(|stored| stored.name.as_str()).collect::<Vec<_>>(),
            "whiteouts": form.map(name_of),
            "counted": counted,
        }))
    }

    /// Whether every layer of a stack that was made before is still in the store.
    pub fn is_whole(receipt: &Value, store: &Store) -> Result<bool> {
        let names = receipt["stack"]["layers"].as_array().context("its receipt is not that of a stack")?;
        for name in names.iter().filter_map(Value::as_str) {
            if store.known(name)?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// A hard link of a layer's receipt, whose link count is how many stacks use the layer. False where it has to be a copy.
fn count(receipt: &Path, tree: BorrowedFd, name: &str) -> Result<bool> {
    match rustix::fs::linkat(rustix::fs::CWD, receipt, tree, name, AtFlags::empty()) {
        // Another filesystem, or another user's file (proc_sys_fs(5), protected_hardlinks).
        Err(Errno::XDEV | Errno::PERM | Errno::ACCESS | Errno::MLINK | Errno::OPNOTSUPP) => {
            let text = std::fs::read(receipt)?;
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            let copy = crate::retry_eintr::openat(tree, name, flags, Mode::from_raw_mode(0o644))?;
            File::from(copy).write_all(&text)?;
            Ok(false)
        }
        linked => Ok(linked.map(|()| true)?),
    }
}

/// From a directory to another path; neither has links in it.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let (from, to): (Vec<Component>, Vec<Component>) = (from.components().collect(), to.components().collect());
    let same = from.iter().zip(&to).take_while(|(one, other)| one == other).count();
    let up = from[same..].iter().map(|_| Component::ParentDir);
    up.chain(to[same..].iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_from_the_stack_to_the_store_wherever_they_are() {
        for (from, to, path) in [
            ("/a/n.mstack", "/a/store", "../store"),
            ("/a/n.mstack", "/store", "../../store"),
            ("/n.mstack", "/b/c/store", "../b/c/store"),
        ] {
            assert_eq!(relative(Path::new(from), Path::new(to)), Path::new(path));
        }
    }
}
