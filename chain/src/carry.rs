//! What one link hands to the next: facts that the next cannot find out for itself, and the binaries of its successors.
//! It travels as descriptors and one environment variable, which no foreign command gets to see.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs::File;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use nix::fcntl::{FcntlArg, FdFlag, OFlag, OpenHow, ResolveFlag, SealFlag, fcntl, openat2};
use nix::libc::MOUNT_ATTR_RDONLY;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::{Mode, fstat, stat};

use crate::handoff::Writer;
use crate::retry_eintr::open;
use crate::tool::CARRY;
use crate::{Image, Tool, WithHint, attach, failures, mounts};

/// Where pivot left the host's mounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostTree {
    /// Already detached.
    Gone,
    /// Stacked on `/`, for mountclean to use and to detach.
    Stacked,
    /// Kept on request (`--keep-host`, `--put-old`).
    Kept,
}

#[derive(Debug, Default)]
pub struct Carry {
    /// The private mount namespace that an earlier link made, as [`crate::mount_namespace_id`] gives it.
    pub mount_namespace: Option<u64>,
    /// Set once pivot has made `/` in that namespace: where it left the host's mounts.
    pub host_tree: Option<HostTree>,
    /// A link has changed the root: a path no longer means the host's file.
    pub left_host: bool,
    /// The mounts that pivot made on request, by mount id (field 1 of proc_pid_mountinfo(5)).
    pub mounts: Vec<u64>,
    /// The ids of the detached mounts through which pivot holds its locks.
    pub locks: Vec<u64>,
    /// What the image wants to run at the end of the chain.
    pub image: Option<Image>,
    /// Who could write to standard input, noted by an earlier link while that could still be seen.
    pub writer: Option<Writer>,
    /// A pidfd of the isolate that waits for this chain: readable once it is dead.
    pub parent: Option<OwnedFd>,
    /// Where isolates that wait for this chain learn that a link has failed: plain numbers, for they stay open to the end.
    pub(crate) failures: Vec<RawFd>,
    /// The links have ambient capabilities, which COMMAND must not have.
    pub caps_lent: bool,
    /// Under `--explain`: the open here-documents, outermost first.
    pub explain: Option<Vec<String>>,
    /// Variables that this link's steps found out, for what it becomes.
    pub env: Vec<(OsString, OsString)>,
    pub(crate) tools: [Option<OwnedFd>; 4],
    /// Detached copies of mounts through which something was opened, and the file if it is a file's own mount.
    pub(crate) copies: Vec<(OwnedFd, Option<OwnedFd>)>,
    /// The directory of our binaries, in the host's tree.
    pub(crate) beside: Option<OwnedFd>,
}

impl Carry {
    /// What the previous link left, if there was one.
    pub(crate) fn take() -> Carry {
        std::env::var_os(CARRY).and_then(|text| Carry::parse(text.to_str()?)).unwrap_or_default()
    }

    /// All or nothing: one foreign field, and the text is no carry.
    pub(crate) fn parse(text: &str) -> Option<Carry> {
        let mut carry = Carry::default();
        for field in text.split(';') {
            let (key, value) = field.split_once('=')?;
            match key {
                "mntns" => carry.mount_namespace = Some(value.parse().ok()?),
                "host" => {
                    carry.host_tree = Some(match value {
                        "gone" => HostTree::Gone,
                        "stacked" => HostTree::Stacked,
                        "kept" => HostTree::Kept,
                        _ => return None,
                    });
                }
                "left" => carry.left_host = value == "host",
                "mounts" => carry.mounts = numbers(value)?,
                "image" => carry.image = Some(Image::from_text(value)?),
                "locks" => carry.locks = numbers(value)?,
                "writer" => carry.writer = Some(Writer::from_text(value)?),
                "caps" if value == "lent" => carry.caps_lent = true,
                "parent" => carry.parent = Some(inherited(value)?),
                "failures" => {
                    let kept = |number: &str| inherited(number).map(IntoRawFd::into_raw_fd);
                    carry.failures = value.split(',').map(kept).collect::<Option<_>>()?;
                }
                "explain" => {
                    carry.explain = Some(value.split(',').filter(|s| !s.is_empty()).map(str::to_owned).collect())
                }
                name => {
                    let tool = Tool::from_word(OsStr::new(name))?;
                    carry.tools[tool as usize] = Some(inherited(value)?);
                }
            }
        }
        Some(carry)
    }

    /// The variable's value. Every descriptor that it names stays open across exec.
    pub(crate) fn lend(mut self) -> Result<OsString> {
        let mut text = String::new();
        let mut field = |key: &str, value: &str| {
            let separator = if text.is_empty() { "" } else { ";" };
            let _ = write!(text, "{separator}{key}={value}");
        };
        if let Some(id) = self.mount_namespace {
            field("mntns", &id.to_string());
        }
        match self.host_tree {
            Some(HostTree::Gone) => field("host", "gone"),
            Some(HostTree::Stacked) => field("host", "stacked"),
            Some(HostTree::Kept) => field("host", "kept"),
            None => {}
        }
        if self.left_host {
            field("left", "host");
        }
        for (key, ids) in [("mounts", &self.mounts), ("locks", &self.locks)] {
            if !ids.is_empty() {
                field(key, &list(ids));
            }
        }
        if let Some(image) = &self.image {
            field("image", &image.to_text());
        }
        if let Some(open) = &self.explain {
            field("explain", &open.join(","));
        }
        if let Some(writer) = &self.writer {
            field("writer", writer.to_text());
        }
        if self.caps_lent {
            field("caps", "lent");
        }
        if let Some(fd) = self.parent.take() {
            field("parent", &lend(fd)?.to_string());
        }
        if !self.failures.is_empty() {
            for &number in &self.failures {
                crate::inherited(number).map(|fd| fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))).transpose()?;
            }
            field("failures", &list(&self.failures));
        }
        for tool in Tool::ALL {
            if let Some(fd) = self.tools[tool as usize].take() {
                field(tool.name(), &lend(fd)?.to_string());
            }
        }
        Ok(text.into())
    }

    /// From now on this process, and the links that it becomes, tell of a failure there.
    pub fn tell_failures_to(&mut self, pipe: OwnedFd) {
        self.failures.push(pipe.into_raw_fd());
        failures::tell(self.failures.clone());
    }

    /// Notes a detached mount through which a lock is held.
    pub fn lock_through(&mut self, mount: OwnedFd) -> Result<()> {
        self.locks.push(mounts::id_of(&mount)?);
        self.copies.push((mount, None));
        Ok(())
    }

    /// Notes a detached mount of nothing but `file` through which that was opened.
    pub fn opened_through(&mut self, mount: OwnedFd, file: OwnedFd) {
        self.copies.push((mount, Some(file)));
    }

    /// Gets rid of the mount copies once what was opened through them no longer needs them. The kernel waits for all
    /// processors when it dissolves a mount: attached to the host's tree, they all go with its detach in one wait.
    pub fn leave_copies_to_host_tree(&mut self) {
        for (copy, file) in self.copies.drain(..) {
            // A file's mount goes on a file alone.
            if let Some(place) = file.as_ref().or(self.beside.as_ref()) {
                let _ = attach::attach(copy, place);
            }
        }
    }

    /// Opens the other tools while they can be reached: after pivot_root the host's paths are gone, and the image's
    /// programs must not be taken for them.
    pub fn hold_tools(&mut self) -> Result<()> {
        let dir = beside_us()?;
        // One copy of the mount for all of them: the kernel waits for all processors when one is dissolved.
        let copy = read_only_copy(&dir);
        for tool in Tool::ALL {
            let held = &mut self.tools[tool as usize];
            let path = dir.join(tool.name());
            if held.is_none() && path.exists() {
                *held = Some(
                    hold(&path, copy.as_ref())
                        .with_context(|| format!("open {} for the links that follow", path.display()))?,
                );
            }
        }
        // In a chroot the kernel may give a path that means nothing there. If nothing were held, the next link would come
        // from the image.
        if self.tools.iter().all(Option::is_none) {
            return Err(anyhow!("{}: none of the tools is there", dir.display()))
                .hint("keep the four tools in one directory, and start the chain outside a chroot");
        }
        self.copies.extend(copy.map(|mount| (mount, None)));
        self.beside = open(&dir, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).ok();
        Ok(())
    }
}

/// A descriptor to execute `path` from, read-only even through /proc/PID/fd and /proc/PID/exe: otherwise root inside
/// could chmod or overwrite the host's file.
fn hold(path: &Path, copy: Option<&OwnedFd>) -> Result<OwnedFd> {
    if let (Some(copy), Some(name)) = (copy, path.file_name()) {
        // The copy resolves links only within itself, and lacks a file that is a mount of its own.
        let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_BENEATH);
        if let Ok(file) = openat2(copy, name, how)
            && fstat(&file)
                .ok()
                .zip(stat(path).ok())
                .is_some_and(|(held, meant)| (held.st_dev, held.st_ino) == (meant.st_dev, meant.st_ino))
        {
            return Ok(file);
        }
    }
    match read_only_copy(path) {
        Some(tree) => Ok(tree),
        None => sealed_copy(path),
    }
}

/// The mount at `path`, detached and read-only.
fn read_only_copy(path: &Path) -> Option<OwnedFd> {
    let tree = attach::copy_at(path).ok()?;
    // Linux 5.12; before it a detached mount cannot be made read-only.
    attach::set_unattached_alone(&tree, MOUNT_ATTR_RDONLY).ok()?.then_some(tree)
}

/// The file's bytes in sealed memory: memfd_create(2), F_ADD_SEALS in fcntl(2).
pub(crate) fn sealed_copy(path: &Path) -> Result<OwnedFd> {
    let memory = memfd_create(c"chainroot", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    let mut memory = File::from(memory);
    std::io::copy(&mut File::open(path)?, &mut memory)?;
    let seals = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL;
    fcntl(&memory, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(memory.into())
}

/// The directory that this binary was started from.
pub(crate) fn beside_us() -> Result<PathBuf> {
    let exe = std::env::current_exe()
        .context("/proc/self/exe: cannot tell where this program is")
        .hint("mount /proc: mount -t proc proc /proc")?;
    Ok(exe.parent().unwrap_or(Path::new("/")).to_owned())
}

fn list<T: ToString>(numbers: &[T]) -> String {
    numbers.iter().map(T::to_string).collect::<Vec<_>>().join(",")
}

fn numbers(text: &str) -> Option<Vec<u64>> {
    text.split(',').map(|number| number.parse().ok()).collect()
}

fn lend(fd: OwnedFd) -> Result<RawFd> {
    fcntl(&fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
    // Left open on purpose: the next link closes it.
    Ok(fd.into_raw_fd())
}

/// Takes over a descriptor that the previous link lent.
fn inherited(number: &str) -> Option<OwnedFd> {
    let number: RawFd = number.parse().ok().filter(|&fd| fd > 2)?;
    // SAFETY: the number was lent to this process in the carry and nothing else in it knows the
    // descriptor; one that is not open is given back before it can be closed.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    if fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).is_err() {
        let _ = fd.into_raw_fd();
        return None;
    }
    Some(fd)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn what_is_lent_is_what_is_taken() {
        let carry = Carry {
            mount_namespace: Some(7),
            host_tree: Some(HostTree::Stacked),
            mounts: vec![1, 2],
            locks: vec![3],
            left_host: true,
            image: Some(Image { cmd: vec!["a b".into()], ..Image::default() }),
            explain: Some(vec!["A".into(), "B".into()]),
            writer: Some(Writer::Caller),
            caps_lent: true,
            parent: Some(File::open("/dev/null").unwrap().into()),
            ..Carry::default()
        };
        let text = carry.lend().unwrap();
        let carry = Carry::parse(text.to_str().unwrap()).unwrap();
        assert_eq!(carry.mount_namespace, Some(7));
        assert_eq!(carry.host_tree, Some(HostTree::Stacked));
        assert_eq!(carry.mounts, [1, 2]);
        assert_eq!(carry.locks, [3]);
        assert!(carry.left_host);
        assert_eq!(carry.image.unwrap().cmd, ["a b"]);
        assert_eq!(carry.explain.as_deref(), Some(&["A".to_owned(), "B".to_owned()][..]));
        assert_eq!(carry.writer, Some(Writer::Caller));
        assert!(carry.caps_lent && carry.parent.unwrap().as_raw_fd() > 2);
    }

    #[test]
    fn a_text_that_is_not_ours_carries_nothing() {
        for text in
            ["", "x", "mntns=", "mntns=1;host=elsewhere", "parent=0", "parent=99999", "isolate=x", "mounts=1,,2"]
        {
            assert!(Carry::parse(text).is_none(), "{text:?}");
        }
    }

    #[test]
    fn a_sealed_copy_cannot_be_written() {
        let fd = sealed_copy(Path::new("/proc/self/exe")).unwrap();
        let mut file = File::from(fd);
        assert!(std::io::Write::write_all(&mut file, b"x").is_err());
        assert!(file.metadata().unwrap().len() > 0);
    }
}
