//! The command that a link becomes: execvp's search, env(1)'s exit statuses, and for a word that is
//! one of our names the binary beside the running one.

use std::borrow::Cow;
use std::convert::Infallible;
use std::ffi::{CStr, CString, OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::statfs::FsType;
use nix::unistd::{execve, execveat};

use crate::carry::{self, Carry};
use crate::environment::Environment;
use crate::image::Image;
use crate::report::{Hint, WithStatus};
use crate::retry_eintr::statfs;
use crate::tool::CARRY;
use crate::{NOT_EXECUTABLE, NOT_FOUND, Tool, defaults, shell};

const PROC_SUPER_MAGIC: FsType = FsType(0x9fa0);

#[derive(Clone, Debug)]
pub struct Command {
    pub argv: Vec<OsString>,
    /// The environment that it gets; the search uses its PATH.
    pub env: Environment,
    /// False: no COMMAND was typed, and this one stands in for it.
    pub(crate) typed: bool,
}

impl Command {
    /// COMMAND as typed, or `shell` if none was.
    pub fn new(words: Vec<OsString>, shell: impl FnOnce() -> OsString) -> Command {
        let typed = !words.is_empty();
        let argv = if typed { words } else { vec![shell()] };
        Command { argv, env: Environment::inherited(), typed }
    }

    /// The command at the end of the chain: words that were typed replace the image's Cmd and follow its Entrypoint.
    /// Only the user is left in the image then, and an isolate changes to it last of all.
    pub(crate) fn of_image(&self, image: &mut Image) -> Command {
        let cmd = std::mem::take(&mut image.cmd);
        let mut argv = std::mem::take(&mut image.entrypoint);
        argv.extend(if self.typed { self.argv.clone() } else { cmd });
        if argv.is_empty() {
            argv.clone_from(&self.argv);
        }
        if image.user.is_some() {
            argv.splice(0..0, ["isolate".into(), "--".into()]);
        }
        Command { argv, env: self.env.clone(), typed: true }
    }

    /// Which of the four tools this is, if any.
    pub fn tool(&self) -> Option<Tool> {
        Tool::from_word(&self.argv[0])
    }

    /// Becomes the command. Returns only if that fails.
    pub(crate) fn exec(&self, carry: Carry) -> Result<Infallible> {
        match self.tool() {
            Some(tool) => self.exec_tool(tool, carry),
            None => {
                drop(carry);
                self.exec_foreign()
            }
        }
    }

    fn exec_tool(&self, tool: Tool, carry: Carry) -> Result<Infallible> {
        // A link that holds its successors may be past a pivot, where a path would be the image's.
        let held_ones = carry.tools.iter().any(Option::is_some);
        // A copy that closes at exec: the chain may come to this tool again.
        let held = carry.tools[tool as usize].as_ref().map(OwnedFd::try_clone).transpose()?;
        let (argv, mut env) = (strings(&self.argv)?, self.env.clone());
        env.set(CARRY, carry.lend()?)?;
        let envp = env.entries();
        let (path, result) = match held {
            Some(fd) => {
                let Err(errno) = execveat(fd.as_fd(), c"", &argv, envp, AtFlags::AT_EMPTY_PATH);
                // TOMOYO in older kernels (Debian's 5.10 has it) looks for the program as /dev/fd/N.
                if errno == Errno::ENOENT {
                    return exec_by_number(tool, &fd, &argv, envp);
                }
                (tool.name().into(), Err(errno))
            }
            None if held_ones => (PathBuf::from(tool.name()), Err(Errno::ENOENT)),
            None => {
                let path = carry::beside_us()?.join(tool.name());
                let result = execve(&string(path.as_os_str())?, &argv, envp);
                (path, result)
            }
        };
        let Err(errno) = result;
        Err(failed(&path, errno))
            .context(Hint("install the four tools in one directory: each starts the next from there".into()))
    }

    fn exec_foreign(&self) -> Result<Infallible> {
        let (argv, envp) = (strings(&self.argv)?, self.env.entries());
        let word = &self.argv[0];
        if word.is_empty() || word.as_bytes().contains(&b'/') {
            let errno = exec_file(&string(word)?, &argv, envp);
            return Err(failed(Path::new(word), errno));
        }
        let path = self.env.get("PATH").unwrap_or_default();
        // As execvp(3): what cannot be executed is remembered, and the search goes on. A host's PATH need not fit the
        // image, so the standard directories follow it.
        let mut refused = None;
        for dir in path.as_bytes().split(|&b| b == b':').chain(defaults::PATH.as_bytes().split(|&b| b == b':')) {
            let dir = if dir.is_empty() { OsStr::new(".") } else { OsStr::from_bytes(dir) };
            let file = Path::new(dir).join(word);
            match exec_file(&string(file.as_os_str())?, &argv, envp) {
                // A name that exists and still gives ENOENT lacks its interpreter.
                Errno::ENOENT if file.symlink_metadata().is_ok() => refused = refused.or(Some((file, Errno::ENOENT))),
                Errno::ENOENT | Errno::ENOTDIR | Errno::ESTALE | Errno::ENODEV | Errno::ETIMEDOUT => {}
                // The directory may not be searched: whether the file exists is unknown.
                Errno::EACCES if file.symlink_metadata().is_err() => {}
                errno @ (Errno::EACCES | Errno::EPERM | Errno::ELOOP) => refused = refused.or(Some((file, errno))),
                // Said before the file is looked for.
                Errno::EAGAIN => return Err(failed(Path::new(word), Errno::EAGAIN)),
                errno => return Err(failed(&file, errno)),
            }
        }
        match refused {
            Some((file, errno)) => Err(failed(&file, errno)),
            None => Err(failed(Path::new(word), Errno::ENOENT)),
        }
    }
}

impl std::fmt::Display for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(&shell::join(&self.argv))
    }
}

/// Executes it by its number in a real proc, if there is one: after pivot the host's, after mountclean the fresh one.
fn exec_by_number(tool: Tool, fd: &OwnedFd, argv: &[CString], envp: &[Cow<CStr>]) -> Result<Infallible> {
    for proc in ["/proc/self/fd", "/../proc/self/fd"] {
        if statfs(proc).is_ok_and(|fs| fs.filesystem_type() == PROC_SUPER_MAGIC) {
            let path = string(OsStr::new(&format!("{proc}/{}", fd.as_raw_fd())))?;
            let Err(errno) = execve(&path, argv, envp);
            return Err(failed(Path::new(tool.name()), errno));
        }
    }
    let message = format!("{}: this kernel does not execute it by its descriptor", tool.name());
    Err(WithStatus { status: NOT_EXECUTABLE, message }).context(Hint(
        "TOMOYO wants a path: boot with lsm= and no tomoyo in it, or let mountclean follow pivot directly".into(),
    ))
}

/// execve; like execvp(3), the shell runs a file that is neither a binary nor has a #!.
fn exec_file(file: &CString, argv: &[CString], envp: &[Cow<CStr>]) -> Errno {
    let Err(errno) = execve(file, argv, envp);
    if errno != Errno::ENOEXEC {
        return errno;
    }
    let mut script = vec![c"/bin/sh".to_owned(), file.clone()];
    script.extend_from_slice(&argv[1..]);
    let Err(_) = execve(c"/bin/sh", &script, envp);
    Errno::ENOEXEC
}

/// Tells apart the reasons behind an errno.
fn failed(file: &Path, errno: Errno) -> anyhow::Error {
    let shown = if file.as_os_str().is_empty() { "''".into() } else { file.display().to_string() };
    let error = |status, why: &str| anyhow::Error::new(WithStatus { status, message: format!("{shown}: {why}") });
    let metadata = file.metadata();
    let is_dir = metadata.as_ref().is_ok_and(|m| m.is_dir());
    let mode = metadata.as_ref().map_or(0, |m| std::os::unix::fs::PermissionsExt::mode(&m.permissions()));
    match errno {
        Errno::ENOENT if metadata.is_ok() => match interpreter(file) {
            Some(interpreter) => error(NOT_FOUND, &format!("interpreter {interpreter} not found in the root"))
                .context(Hint("the root lacks the loader or script interpreter that this file names; is the root whole, and of this architecture?".into())),
            None => error(NOT_FOUND, "interpreter not found in the root"),
        },
        Errno::ENOENT if file.symlink_metadata().is_ok() => error(NOT_FOUND, "symbolic link to a file that is not there"),
        Errno::ENOENT => error(NOT_FOUND, "command not found"),
        Errno::ENOTDIR => error(NOT_FOUND, "a part of its path is not a directory"),
        Errno::EACCES if is_dir => error(NOT_EXECUTABLE, "is a directory, not a command"),
        Errno::EACCES if metadata.is_ok() && mode & 0o111 == 0 => error(NOT_EXECUTABLE, "no execute permission in its mode"),
        Errno::EACCES => error(NOT_EXECUTABLE, "permission denied (its directories, a noexec mount, or a security module)"),
        Errno::ENOEXEC => error(NOT_EXECUTABLE, "neither a binary for this machine nor a script that /bin/sh could run"),
        Errno::EAGAIN => error(NOT_EXECUTABLE, "this user has more processes than allowed")
            //: COMMAND: this user has more processes than allowed | execve: EAGAIN | setuid to a user who is above RLIMIT_NPROC,
            //: which the next exec finds out (since Linux 3.1) | the only cause |
            //: isolate/refusals_privileges::a_user_with_too_many_processes_is_named_at_the_exec
            .context(Hint("RLIMIT_NPROC is too low for this user: ulimit -u N".into())),
        Errno::E2BIG => error(NOT_EXECUTABLE, "arguments and environment are too long together"),
        errno => error(NOT_EXECUTABLE, errno.desc()),
    }
}

/// What a file says should run it: the path after #!, or an ELF file's PT_INTERP (elf(5)).
fn interpreter(file: &Path) -> Option<String> {
    use std::io::Read;
    let mut head = Vec::new();
    std::fs::File::open(file).ok()?.take(4096).read_to_end(&mut head).ok()?;
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|&b| b == b'\n').next()?;
        return Some(String::from_utf8_lossy(line).split_whitespace().next()?.to_owned());
    }
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let number = |at: usize, size: usize| {
        head.get(at..at + size).map(|bytes| bytes.iter().rev().fold(0, |n, &b| n << 8 | usize::from(b)))
    };
    let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    let entry = (0..count).map(|i| table + i * size).find(|&at| number(at, 4) == Some(3))?;
    let (start, length) = (number(entry + 8, 8)?, number(entry + 32, 8)?);
    let name = head.get(start..start.checked_add(length)?)?;
    Some(String::from_utf8_lossy(name.split(|&b| b == 0).next()?).into_owned())
}

fn string(text: &OsStr) -> Result<CString> {
    CString::new(text.to_owned().into_vec()).with_context(|| format!("{}: contains a NUL", shell::quote(text)))
}

fn strings(texts: &[OsString]) -> Result<Vec<CString>> {
    texts.iter().map(|text| string(text)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::User;

    #[test]
    fn typed_words_replace_cmd_and_follow_entrypoint() {
        let image = Image { user: None, entrypoint: vec!["e".into()], cmd: vec!["c".into()] };
        let typed = Command::new(vec!["t".into()], || "sh".into());
        let shell = Command::new(vec![], || "sh".into());
        assert_eq!(typed.of_image(&mut image.clone()).argv, ["e", "t"]);
        assert_eq!(shell.of_image(&mut image.clone()).argv, ["e", "c"]);
        assert_eq!(typed.of_image(&mut Image::default()).argv, ["t"]);
        assert_eq!(shell.of_image(&mut Image::default()).argv, ["sh"]);
        let user = User { uid: 7, gid: 8, groups: Vec::new() };
        let mut with_user = Image { user: Some(user.clone()), ..image };
        assert_eq!(shell.of_image(&mut with_user).argv, ["isolate", "--", "e", "c"]);
        assert_eq!(with_user, Image { user: Some(user), ..Image::default() });
    }
}
