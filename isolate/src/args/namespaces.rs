//! The values of the options about namespaces.

use std::path::PathBuf;
use std::str::FromStr;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Propagation {
    #[default]
    Private,
    Slave,
    Shared,
    Unchanged,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Join {
    Process(Process),
    Files(Vec<(String, PathBuf)>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub named: Named,
    /// Names of namespaces. Where there is none, all are meant.
    pub kinds: Vec<String>,
    pub root: bool,
    pub wd: bool,
    pub env: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    Pid(i32),
    /// By what isolate writes to --status-fd.
    Status(PathBuf),
}

impl FromStr for Process {
    type Err = String;

    fn from_str(text: &str) -> Result<Process, String> {
        let (name, words) = text.rsplit_once(':').filter(|(name, _)| !name.is_empty()).unwrap_or((text, ""));
        let named = match name.parse() {
            Ok(pid) => Named::Pid(pid),
            // A word that is no path would be waited for because of a typing error.
            Err(_) if name.contains('/') || PathBuf::from(name).exists() => Named::Status(name.into()),
            Err(_) => return Err("neither a process id, nor NS=FILE, nor the path of a file (./FILE)".into()),
        };
        let mut process = Process { named, kinds: Vec::new(), root: false, wd: false, env: false };
        for word in words.split(',').filter(|word| !word.is_empty()) {
            match word {
                "root" => process.root = true,
                "wd" => process.wd = true,
                "env" => process.env = true,
                "all" => process.kinds.clear(),
                "mnt" => process.kinds.push("mount".into()),
                "mount" | "uts" | "ipc" | "net" | "pid" | "user" | "cgroup" | "time" => process.kinds.push(word.into()),
                _ => return Err(format!("{word} is no namespace, nor root, wd, env or all")),
            }
        }
        Ok(process)
    }
}

impl FromStr for Join {
    type Err = String;

    fn from_str(text: &str) -> Result<Join, String> {
        let file = |part: &str| {
            let (kind, file) = part.split_once('=').ok_or("not NS=FILE")?;
            Ok((kind.to_owned(), PathBuf::from(file)))
        };
        if text.split_once('=').is_none_or(|(kind, _)| kind.contains('/')) {
            return text.parse().map(Join::Process);
        }
        text.split(',').map(file).collect::<Result<_, _>>().map(Join::Files)
    }
}
