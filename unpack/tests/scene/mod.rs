//! A directory to unpack in, with something beside it that must not change.
#![allow(dead_code)]

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

pub const UNPACK: &str = env!("CARGO_BIN_EXE_unpack");

pub struct Scene {
    dir: tempfile::TempDir,
    canary: Canary,
}

/// Everything about a file that an attack could change.
#[derive(Debug, PartialEq, Eq)]
struct Canary {
    content: Vec<u8>,
    facts: [i64; 8],
    neighbours: usize,
}

impl Canary {
    fn look(outside: &Path) -> Canary {
        let file = outside.join("canary");
        let m = fs::symlink_metadata(&file).unwrap();
        let facts = [
            i64::from(m.mode()),
            i64::from(m.uid()),
            i64::from(m.gid()),
            m.nlink() as i64,
            m.mtime(),
            m.mtime_nsec(),
            m.ctime(),
            m.ctime_nsec(),
        ];
        Canary { content: fs::read(&file).unwrap(), facts, neighbours: fs::read_dir(outside).unwrap().count() }
    }
}

impl Scene {
    pub fn new() -> Scene {
        Scene::below(&std::env::temp_dir())
    }

    pub fn below(parent: &Path) -> Scene {
        let dir = tempfile::Builder::new().prefix("scene").tempdir_in(parent).unwrap();
        fs::create_dir(dir.path().join("outside")).unwrap();
        fs::write(dir.path().join("outside/canary"), "alive").unwrap();
        let canary = Canary::look(&dir.path().join("outside"));
        Scene { dir, canary }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn outside(&self) -> String {
        self.path("outside").to_str().unwrap().to_owned()
    }

    /// Puts the program where every user can run it. By another process: while this one had it open for writing, a child
    /// that another test forks would keep it busy (execve(2), ETXTBSY).
    pub fn put_tool(&self) {
        assert!(Command::new("cp").args([UNPACK, "unpack"]).current_dir(self.path("")).status().unwrap().success());
    }

    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(UNPACK);
        command.args(args).current_dir(self.dir.path()).stdin(Stdio::null());
        command
    }

    pub fn unpack(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs a script in a mount namespace of its own, where unpack is `$UNPACK`.
    pub fn with_mounts(&self, script: &str) -> Output {
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", script]).env("UNPACK", UNPACK).current_dir(self.path(""));
        command.output().unwrap()
    }

    /// As from a terminal: what runs the tests in the background may have them ignore signals.
    pub fn spawn_piped(&self, args: &[&str]) -> Child {
        let mut command = Command::new("env");
        command.args(["--default-signal=INT,QUIT,TERM,HUP", UNPACK]).args(args).current_dir(self.dir.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    pub fn unpack_bytes(&self, bytes: &[u8], args: &[&str]) -> Output {
        let mut child = self.spawn_piped(args);
        // A tool that fails early does not read everything.
        let _ = child.stdin.take().unwrap().write_all(bytes);
        child.wait_with_output().unwrap()
    }

    /// Extracts an archive that is fine into a new root.
    pub fn extracted(&self, bytes: &[u8], args: &[&str]) -> PathBuf {
        self.write("img.tar", bytes);
        let output = self.unpack(&[args, &["img.tar", "root"]].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(text(&output.stdout).trim_end(), self.path("root").to_str().unwrap());
        self.nothing_staged();
        self.path("root")
    }

    /// Extracts an archive that must be refused: one line, perhaps a hint, status 125 and nothing left.
    pub fn refused(&self, bytes: &[u8], args: &[&str]) -> String {
        self.write("img.tar", bytes);
        let output = self.unpack(&[args, &["img.tar", "root"]].concat());
        self.failed(&output)
    }

    /// The same from a pipe.
    pub fn failed_pipe(&self, bytes: &[u8]) -> String {
        self.failed(&self.unpack_bytes(bytes, &["-", "root"]))
    }

    pub fn failed(&self, output: &Output) -> String {
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(125), "{stderr}");
        let lines: Vec<_> = stderr.lines().collect();
        assert!(lines[0].starts_with("unpack: ") && !lines[0].starts_with("unpack: hint"), "{stderr}");
        assert!(lines.len() == 1 || (lines.len() == 2 && lines[1].starts_with("unpack: hint: ")), "{stderr}");
        assert!(!text(&output.stdout).contains('\n'), "a whole line on stdout");
        assert!(fs::symlink_metadata(self.path("root")).is_err(), "ROOT is there");
        assert!(!self.path("root.image.json").exists(), "a receipt is there");
        self.nothing_staged();
        stderr
    }

    pub fn staged(&self) -> Vec<PathBuf> {
        let names = fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap().path());
        names.filter(|path| path.file_name().unwrap().to_str().unwrap().contains(".unpack-")).collect()
    }

    pub fn nothing_staged(&self) {
        assert_eq!(self.staged(), Vec::<PathBuf>::new());
    }

    pub fn untouched(&self) {
        assert_eq!(Canary::look(&self.path("outside")), self.canary);
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.untouched();
        }
        // Trees of ordinary users may hold directories that only their owner can open up.
        if let Ok(root) = fs::symlink_metadata(self.path("root"))
            && root.is_dir()
        {
            let _ = fs::set_permissions(self.path("root"), fs::Permissions::from_mode(0o700));
        }
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Says why a test does not run here.
pub fn skip(why: &str) {
    eprintln!("skipped: {why}");
}

pub fn has(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}
