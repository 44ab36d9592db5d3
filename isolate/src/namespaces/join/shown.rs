//! The lines of nsenter(1) that stand for it.

use std::fmt;

use chain::shell::quote;
use nix::sched::CloneFlags;
use nix::unistd::geteuid;

use super::{Join, has, meant};
use crate::args::{self, Named};
use crate::limits::joined::limiting;
use crate::namespaces::Kind;

impl fmt::Display for Join {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match &self.from {
            args::Join::Process(of) => {
                let (pid, flags) = match &of.named {
                    Named::Pid(pid) => meant(*pid).unwrap_or((*pid, CloneFlags::empty())),
                    Named::Status(file) => {
                        let file = quote(file);
                        writeln!(f, "pid=$(sed -n 's/.*\"pid\":\\([0-9]*\\).*/\\1/p' {file}); export pid")?;
                        (0, CloneFlags::empty())
                    }
                };
                if pid != 0 && has(of, Kind::Pid) {
                    for group in limiting(pid).unwrap_or_default() {
                        writeln!(f, "echo $$ >{}/cgroup.procs", quote(&group))?;
                    }
                }
                let number = if pid == 0 { "$pid".into() } else { pid.to_string() };
                write!(f, "nsenter --target {number}")?;
                for (wanted, word) in [(of.root, " --root"), (of.wd, " --wd"), (of.env, " --env")] {
                    f.write_str(if wanted { word } else { "" })?;
                }
                if flags.is_empty() && of.kinds.is_empty() {
                    return f.write_str(" --all");
                }
                let flags = if flags.is_empty() { CloneFlags::all() | Kind::Time.flag() } else { flags };
                // For an ordinary user --all fails at the first namespace that we share with the process.
                for kind in Kind::ALL.into_iter().filter(|&kind| flags.contains(kind.flag()) && has(of, kind)) {
                    write!(f, " --{}", kind.option())?;
                }
                // Nor may such a user drop groups: setgroups(2) is denied in there (user_namespaces(7)).
                if flags.contains(Kind::User.flag()) && has(of, Kind::User) && !geteuid().is_root() {
                    f.write_str(" --preserve-credentials")?;
                }
                Ok(())
            }
            args::Join::Files(files) => {
                f.write_str("nsenter")?;
                for (kind, file) in files {
                    let kind = if kind == "mnt" { "mount" } else { kind };
                    write!(f, " --{kind}={}", quote(file))?;
                }
                Ok(())
            }
        }
    }
}
