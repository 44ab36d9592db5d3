//! Who can write to standard input, as far as /proc shows it: a stage of the same pipeline is worth waiting for, but a
//! program that started us with a pipe may never write.

use std::fmt;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::stat::SFlag;

use super::peer;
use crate::file_kind;
use crate::retry_eintr::poll;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Writer {
    /// A process that is not an ancestor holds the writing end, or may hold it.
    Stage { who: String, unpack: bool },
    /// Only ancestors hold it, or nobody that can be seen: ssh, cron, a CI runner, docker exec.
    Caller,
    /// /proc does not tell.
    Unseen,
}

impl fmt::Display for Writer {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Writer::Stage { who, .. } => f.write_str(who),
            Writer::Caller => f.write_str("the program that started this one"),
            Writer::Unseen => f.write_str("the first bytes on standard input (/proc does not show who writes them)"),
        }
    }
}

impl Writer {
    /// For the carry.
    pub(crate) fn to_text(&self) -> &'static str {
        match self {
            Writer::Stage { .. } => "stage",
            Writer::Caller => "caller",
            Writer::Unseen => "unseen",
        }
    }

    pub(crate) fn from_text(text: &str) -> Option<Writer> {
        match text {
            "stage" => Some(Writer::Stage { who: "another stage of the pipeline".into(), unpack: false }),
            "caller" => Some(Writer::Caller),
            "unseen" => Some(Writer::Unseen),
            _ => None,
        }
    }
}

/// Who can write to standard input now.
pub fn of_stdin() -> Writer {
    look().unwrap_or(Writer::Unseen)
}

/// How often, and milliseconds apart.
const LOOKS: u32 = 20;
const PAUSE: u8 = 5;

fn look() -> Option<Writer> {
    let Some(end) = End::of_stdin()? else { return Some(Writer::Caller) };
    for _ in 0..LOOKS {
        match end.writer()? {
            // A stage whose open(2) of a named pipe has let ours return, and has not returned itself, has no descriptor yet.
            None if end.is_named() && nothing_comes_for(PAUSE) => {}
            writer => return Some(writer.unwrap_or(Writer::Caller)),
        }
    }
    Some(Writer::Caller)
}

/// Neither bytes nor the end.
fn nothing_comes_for(milliseconds: u8) -> bool {
    let stdin = std::io::stdin();
    poll(&mut [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)], PollTimeout::from(milliseconds)) == Ok(0)
}

/// The writing end, as the links in /proc/PID/fd name it (proc_pid_fd(5)).
struct End {
    link: PathBuf,
    pipe: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    AsStdout,
    Elsewhere,
    No,
    Hidden,
}

impl Holds {
    fn is_held(self) -> bool {
        matches!(self, Holds::AsStdout | Holds::Elsewhere)
    }
}

impl End {
    /// `Some(None)`: whatever writes there is not a stage of a pipeline.
    fn of_stdin() -> Option<Option<End>> {
        let stdin = std::io::stdin();
        let kind = file_kind(&stdin).ok()?;
        if kind == SFlag::S_IFIFO {
            return Some(Some(End { link: fs::read_link("/proc/self/fd/0").ok()?, pipe: true }));
        }
        // ksh93 makes its pipelines of pairs, which have no names. What has one was connected to.
        if !peer::is_unnamed_pair(stdin.as_fd()) {
            return Some(None);
        }
        let inode = peer::inode_of_peer(stdin.as_fd()).ok()?;
        Some(inode.map(|inode| End { link: format!("socket:[{inode}]").into(), pipe: false }))
    }

    /// `Some(None)`: nobody that can be seen. None: /proc does not tell.
    fn writer(&self) -> Option<Option<Writer>> {
        let line = ancestry()?;
        let (mut hidden, mut copy, mut stage): (_, _, Option<Process>) = (None, None, None);
        for process in relatives(&line)? {
            match self.held_by(process.pid) {
                // Prefer unpack itself among several, as below a subshell.
                Holds::AsStdout if stage.as_ref().is_none_or(|_| process.name == "unpack") => stage = Some(process),
                Holds::Elsewhere => copy = Some(process),
                // Such as sudo. A daemon's other children have sessions of their own.
                Holds::Hidden if process.session == line[0].session => hidden = Some(process),
                _ => {}
            }
        }
        if let Some(process) = stage {
            return Some(Some(process.holds()));
        }
        // A shell closes the writing end before it makes the next stage; a program that talks to us keeps it, and each of
        // its forks has a copy until it execs.
        // fish alone runs a block or a function of a pipeline itself, and closes the end with it.
        let above: Vec<_> = line.iter().filter(|process| self.held_by(process.pid).is_held()).collect();
        match above[..] {
            [] => {}
            [shell] if shell.name == "fish" => return Process::read(shell.pid).map(|shell| Some(shell.holds())),
            _ => return Some(Some(Writer::Caller)),
        }
        // A forked stage that has not moved the pipe to its standard output yet.
        if let Some(process) = copy {
            return Some(Some(process.holds()));
        }
        // A stage whose parent is gone, or one of another shell (a named pipe): a stage writes to its standard output.
        let others = numbers("/proc").into_iter().filter(|pid| line.iter().all(|process| process.pid != *pid));
        if let Some(process) = others.filter(|&pid| self.is_at(pid, "1")).find_map(Process::read) {
            return Some(Some(process.holds()));
        }
        Some(hidden.map(|process| Writer::Stage {
            who: format!("{process}, which may be starting unpack (its descriptors cannot be read)"),
            unpack: false,
        }))
    }

    /// A pipe with a name of its own (fifo(7)); that of any other is pipe:[INODE].
    fn is_named(&self) -> bool {
        self.pipe && self.link.is_absolute()
    }

    fn held_by(&self, pid: i32) -> Holds {
        let is_hidden = |error: &std::io::Error| error.kind() == std::io::ErrorKind::PermissionDenied;
        let names = match fs::read_dir(format!("/proc/{pid}/fd")) {
            Ok(names) => names,
            Err(error) if is_hidden(&error) => return Holds::Hidden,
            // It has ended.
            Err(_) => return Holds::No,
        };
        let mut holds = Holds::No;
        for name in names.flatten().map(|entry| entry.file_name()) {
            let path = Path::new("/proc").join(pid.to_string()).join("fd").join(&name);
            match fs::read_link(&path) {
                Ok(link) if self.is(&link, &path) && name == "1" => return Holds::AsStdout,
                Ok(link) if self.is(&link, &path) => holds = Holds::Elsewhere,
                Err(error) if is_hidden(&error) && holds == Holds::No => holds = Holds::Hidden,
                _ => {}
            }
        }
        holds
    }

    fn is_at(&self, pid: i32, fd: &str) -> bool {
        let path = Path::new("/proc").join(pid.to_string()).join("fd").join(fd);
        fs::read_link(&path).is_ok_and(|link| self.is(&link, &path))
    }

    /// Both ends of a pipe have one name; the mode of the link tells which this is.
    fn is(&self, link: &Path, path: &Path) -> bool {
        let writes = || fs::symlink_metadata(path).is_ok_and(|link| link.permissions().mode() & 0o200 != 0);
        link == self.link && (!self.pipe || writes())
    }
}

/// A process as /proc numbers it. In a new pid namespace that may still be the outer one's /proc.
struct Process {
    pid: i32,
    parent: i32,
    session: i32,
    name: String,
    dead: bool,
}

impl Process {
    fn read(pid: i32) -> Option<Process> {
        Process::parse(&fs::read(format!("/proc/{pid}/stat")).ok()?)
    }

    /// proc_pid_stat(5): the name may hold blanks and parentheses.
    fn parse(stat: &[u8]) -> Option<Process> {
        let text = String::from_utf8_lossy(stat);
        let (pid, rest) = text.split_once(" (")?;
        let (name, rest) = rest.rsplit_once(") ")?;
        let mut fields = rest.split(' ');
        let dead = matches!(fields.next()?, "Z" | "X");
        let mut number = || fields.next()?.parse::<i32>().ok();
        let (parent, _group, session) = (number()?, number()?, number()?);
        Some(Process { pid: pid.parse().ok()?, parent, session, name: name.into(), dead })
    }

    fn holds(self) -> Writer {
        Writer::Stage { unpack: self.name == "unpack", who: format!("{self}, which holds the other end of the pipe") }
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} (process {})", self.name, self.pid)
    }
}

/// This process and its ancestors, as far up as /proc shows them.
fn ancestry() -> Option<Vec<Process>> {
    let mut line = vec![Process::parse(&fs::read("/proc/self/stat").ok()?)?];
    loop {
        let above = line.last()?.parent;
        // A pid that is used again meanwhile could lead back.
        if above <= 0 || line.iter().any(|process| process.pid == above) {
            return Some(line);
        }
        let Some(parent) = Process::read(above) else { return Some(line) };
        line.push(parent);
    }
}

/// The living children of this process and its ancestors, as far up as the shell that made the pipeline can be: in our
/// session, or our parent (after setsid(1)).
fn relatives(line: &[Process]) -> Option<Vec<Process>> {
    let own = line.first()?;
    let far = line.iter().position(|process| process.session != own.session);
    let near = &line[..far.map_or(line.len(), |far| far + 1)];
    let mut all = None;
    let mut found = Vec::new();
    for ancestor in near {
        let children = match children(ancestor.pid) {
            Some(children) => children.into_iter().filter_map(Process::read).collect(),
            // A kernel without CONFIG_PROC_CHILDREN.
            None => {
                let all = all.get_or_insert_with(|| numbers("/proc"));
                let processes = all.iter().filter_map(|&pid| Process::read(pid));
                processes.filter(|process| process.parent == ancestor.pid).collect::<Vec<_>>()
            }
        };
        // An isolate's other child is its guard, and holds nothing.
        let is_guard =
            |process: &Process| ancestor.name == "isolate" && process.name.as_bytes() == super::GUARD.to_bytes();
        let is_ancestor = |process: &Process| line.iter().any(|other| other.pid == process.pid);
        found.extend(children.into_iter().filter(|child| !(child.dead || is_ancestor(child) || is_guard(child))));
    }
    Some(found)
}

fn children(pid: i32) -> Option<Vec<i32>> {
    let mut found = Vec::new();
    for thread in numbers(&format!("/proc/{pid}/task")) {
        let list = fs::read_to_string(format!("/proc/{pid}/task/{thread}/children")).ok()?;
        found.extend(list.split_whitespace().filter_map(|child| child.parse::<i32>().ok()));
    }
    Some(found)
}

fn numbers(directory: &str) -> Vec<i32> {
    let names = fs::read_dir(directory).into_iter().flatten().flatten();
    names.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_is_read_as_the_kernel_writes_it() {
        let process = Process::parse(b"12 (a) b (c)) S 7 12 5 0 -1 4194304 0").unwrap();
        assert_eq!((process.pid, process.parent, process.session, process.name.as_str()), (12, 7, 5, "a) b (c)"));
        assert!(!process.dead);
        assert!(Process::parse(b"12 (zombie) Z 7 12 5 0").unwrap().dead);
        assert!(Process::parse(b"").is_none() && Process::parse(b"1 (x) S").is_none());
    }

    #[test]
    fn our_own_line_begins_with_us_and_ends_at_the_top() {
        let line = ancestry().unwrap();
        assert_eq!(line[0].pid, std::process::id() as i32);
        assert!(line.windows(2).all(|pair| pair[0].parent == pair[1].pid));
    }
}
