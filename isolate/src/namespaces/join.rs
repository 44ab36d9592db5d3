//! Enters existing namespaces: a process's, or those kept in files. Processes inside may be hostile and see us in /proc
//! once we are there: so isolate runs from a copy of itself that nobody can write to (lib.rs), cannot be traced, and has
//! left its caller's descriptors behind.

mod shown;
mod why_refused;

use std::ffi::OsString;
use std::fs::{File, Metadata, metadata, read_to_string};
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use chain::retry_eintr::open;
use chain::{WithHint, escape_fd_on_streams, names_in, passed_on, pidfd};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl::set_dumpable;
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, chroot, fchdir, setgroups, setresgid, setresuid};

use crate::args::{self, Named, Process};
use crate::limits::joined::limiting;
use crate::namespaces::{Kind, environment, status_file};
use crate::process::close_all_but;

#[derive(Clone, Debug)]
pub struct Join {
    pub from: args::Join,
    /// A child enters them; otherwise this process does.
    pub forks: bool,
    /// --status-fd, which stays with this process.
    pub status: Option<i32>,
}

/// What to enter.
pub struct Opened {
    /// Descriptors, in the order in which to enter them.
    namespaces: Vec<(OwnedFd, CloneFlags)>,
    /// The cgroups of the process's limits.
    pub groups: Vec<PathBuf>,
    root: Option<OwnedFd>,
    directory: Option<OwnedFd>,
}

impl Join {
    /// The process under whose limits COMMAND will be.
    pub fn process(from: &args::Join) -> Result<Option<i32>> {
        match from {
            args::Join::Process(process @ Process { named: Named::Pid(pid), .. }) if has(process, Kind::Pid) => {
                Ok(Some(meant(*pid)?.0))
            }
            _ => Ok(None),
        }
    }

    /// Whether a pid namespace is among them: only a child can be in it.
    pub fn has_pid(from: &args::Join) -> bool {
        match from {
            args::Join::Process(process) => has(process, Kind::Pid),
            args::Join::Files(files) => files.iter().any(|(kind, _)| kind == "pid"),
        }
    }

    pub fn open(&self) -> Result<Opened> {
        leave_descriptors(self.status)?;
        match &self.from {
            args::Join::Process(process) => of_process(process),
            args::Join::Files(files) => of_files(files),
        }
    }
}

/// Puts a process in the place of the file that names it.
pub fn await_process(join: &mut args::Join) -> Result<()> {
    if let args::Join::Process(Process { named, .. }) = join
        && let Named::Status(file) = named
    {
        *named = Named::Pid(status_file::wait_for(file)?);
    }
    Ok(())
}

/// The environment of the process, if that is to be COMMAND's.
pub fn environment(join: &args::Join) -> Result<Option<Vec<(OsString, OsString)>>> {
    match join {
        args::Join::Process(process @ Process { named: Named::Pid(pid), env: true, .. }) => {
            environment::of(meant(*pid)?.0, has(process, Kind::User)).map(Some)
        }
        _ => Ok(None),
    }
}

fn has(process: &Process, kind: Kind) -> bool {
    process.kinds.is_empty() || process.kinds.iter().any(|name| name == kind.option())
}

/// Closes what the caller left open from 3 up, and refuses standard streams that lead to the host's tree.
fn leave_descriptors(status: Option<i32>) -> Result<()> {
    if let Some((number, name, door)) = escape_fd_on_streams(&[])? {
        return Err(anyhow!("{name} is {door}, which the processes inside would get too"))
            .hint(format!("redirect it: {number}<>/dev/null"));
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let directory = open("/proc/self/fd", flags, Mode::empty()).context("/proc/self/fd")?;
    let names = names_in(directory).context("/proc/self/fd")?;
    let numbers = names.iter().filter_map(|name| name.to_str()?.parse().ok());
    // Our own descriptors close at exec, and by now so do those that the previous link lent.
    let own: Vec<i32> = status.into_iter().chain(numbers.filter(|&fd| passed_on(fd).is_none())).collect();
    close_all_but(&own);
    Ok(())
}

impl Opened {
    pub fn enter(&self) -> Result<()> {
        // Until the exec (PR_SET_DUMPABLE): through ptrace(2) or /proc/PID/fd they could take all that we hold, as they
        // could from runc (CVE-2016-9962).
        set_dumpable(false).context("PR_SET_DUMPABLE")?;
        for (fd, flags) in &self.namespaces {
            setns(fd, *flags).map_err(|errno| why_refused::explain(errno, *flags))?;
        }
        if self.namespaces.iter().any(|(_, flags)| flags.contains(Kind::User.flag())) {
            // Our outer ids may not be mapped inside; root is (as in nsenter(1)).
            let _ = setgroups(&[]);
            let _ = setresgid(Gid::from_raw(0), Gid::from_raw(0), Gid::from_raw(0));
            let _ = setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0));
        }
        if let Some(root) = &self.root {
            fchdir(root).and_then(|()| chroot(".")).context("the process's root directory")?;
        }
        if let Some(directory) = &self.directory {
            fchdir(directory).context("the process's working directory")?;
        }
        Ok(())
    }
}

/// The namespaces in which a process differs from us, by its pidfd in one call (Linux 5.8).
fn of_process(of: &Process) -> Result<Opened> {
    let Named::Pid(pid) = of.named else { return Err(anyhow!("the process was not waited for")) };
    let (pid, _) = meant(pid)?;
    let fd = pidfd::of(pid).with_context(|| format!("process {pid}"))?;
    // Ask again: the first process may have ended and its number be another's by now.
    let wanted = Kind::ALL.into_iter().filter(|&kind| has(of, kind)).map(Kind::flag).collect();
    let flags = others(pid)? & wanted;
    let namespaces = if flags.is_empty() { Vec::new() } else { vec![(fd, flags)] };
    let groups = if has(of, Kind::Pid) { limiting(pid)? } else { Vec::new() };
    let directory = |wanted: bool, name: &str| -> Result<Option<OwnedFd>> {
        let path = format!("/proc/{pid}/{name}");
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        wanted.then(|| open(path.as_str(), flags, Mode::empty())).transpose().context(path)
    };
    Ok(Opened { namespaces, groups, root: directory(of.root, "root")?, directory: directory(of.wd, "cwd")? })
}

/// The process to join, and the namespaces in which it differs. A waiting isolate is not in the namespaces that it made:
/// its child is meant. With a session of COMMAND's own that child is another isolate that waits. Children of anything else
/// are not looked at: PID 1 adopts children that are not its own.
fn meant(pid: i32) -> Result<(i32, CloneFlags)> {
    let own = others(pid)?;
    if !own.is_empty() {
        return Ok((pid, own));
    }
    let mut refused = None;
    let mut outside = vec![pid];
    while let Some(pid) = outside.pop() {
        for child in if is_isolate(pid) { children(pid) } else { Vec::new() } {
            match others(child) {
                Ok(flags) if flags.is_empty() => outside.push(child),
                Ok(flags) => return Ok((child, flags)),
                Err(error) => refused = Some(error).filter(|_| Path::new(&format!("/proc/{child}")).exists()),
            }
        }
    }
    Err(refused.unwrap_or_else(|| {
        anyhow!("process {pid} is in no namespace that this one is not in")
            .context(chain::Hint("name a process inside, or the isolate that waits for it: pgrep -x isolate".into()))
    }))
}

fn is_isolate(pid: i32) -> bool {
    read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "isolate\n")
}

fn children(pid: i32) -> Vec<i32> {
    let list = read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

/// Linux 5.10 shows the link itself, which is on proc, to a process that may not follow it.
fn followed(theirs: Metadata, own: &Metadata) -> std::io::Result<Metadata> {
    if theirs.dev() == own.dev() { Ok(theirs) } else { Err(Errno::EACCES.into()) }
}

fn others(pid: i32) -> Result<CloneFlags> {
    let mut flags = CloneFlags::empty();
    for kind in Kind::ALL {
        let (ours, theirs) = (format!("/proc/self/ns/{}", kind.file()), format!("/proc/{pid}/ns/{}", kind.file()));
        let own = match metadata(&ours) {
            // The kernel lacks this kind.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            result => result.context(ours)?,
        };
        match metadata(&theirs).and_then(|theirs| followed(theirs, &own)) {
            Ok(theirs) if theirs.ino() != own.ino() => flags |= kind.flag(),
            Ok(_) => {}
            Err(error) if !Path::new(&format!("/proc/{pid}")).exists() => {
                return Err(error).with_context(|| format!("no process {pid}"));
            }
            Err(error) => {
                //: --join PID | stat of /proc/PID/ns: EACCES | the process is another user's, or has capabilities that this
                //: one lacks (ptrace(2)) | the only cause | isolate/refusals_kept::what_keeps_a_process_from_being_joined_is_named
                return Err(error).context(theirs).hint("only its own user, or root, may enter a process's namespaces");
            }
        }
    }
    Ok(flags)
}

fn of_files(files: &[(String, PathBuf)]) -> Result<Opened> {
    let mut opened = Vec::new();
    // User first: it grants the privilege for the others. Mount last: it hides the files.
    let order = [Kind::User, Kind::Uts, Kind::Ipc, Kind::Net, Kind::Pid, Kind::Cgroup, Kind::Time, Kind::Mount];
    let kind_of = |name: &str| Kind::ALL.into_iter().find(|kind| name == kind.option() || name == kind.file());
    if let Some((name, _)) = files.iter().find(|(name, _)| kind_of(name).is_none()) {
        return Err(anyhow!("{name}: no such kind of namespace"))
            .hint("mount, uts, ipc, net, pid, user, cgroup or time");
    }
    for kind in order {
        for (_, file) in files.iter().filter(|(name, _)| kind_of(name) == Some(kind)) {
            let fd = File::open(file).with_context(|| file.display().to_string())?;
            opened.push((OwnedFd::from(fd), kind.flag()));
        }
    }
    Ok(Opened { namespaces: opened, groups: Vec::new(), root: None, directory: None })
}
