//! An ordinary user at home, with a directory of work there: the user who runs the tests, or another one where that is root.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;

use crate::{Outcome, Work, is_root, script};

const OTHER: u32 = 1234;

pub struct Person {
    pub work: Work,
}

impl Person {
    #[allow(clippy::new_without_default)]
    pub fn new() -> Person {
        let work = Work::new();
        std::fs::set_permissions(work.path(), PermissionsExt::from_mode(0o755)).expect("chmod");
        std::fs::create_dir_all(work.join("home/work")).expect("a home");
        let person = Person { work };
        if is_root() {
            for dir in [person.home(), person.dir()] {
                chown(dir, Some(OTHER), Some(OTHER)).expect("chown");
            }
        }
        person
    }

    pub fn home(&self) -> PathBuf {
        self.work.join("home")
    }

    /// The directory of the work.
    pub fn dir(&self) -> PathBuf {
        self.work.join("home/work")
    }

    /// What makes a command line one of this user's.
    pub fn prefix(&self) -> String {
        let other = format!("setpriv --reuid={OTHER} --regid={OTHER} --clear-groups --bounding-set=-all ");
        let user = if is_root() { other } else { String::new() };
        format!("{user}env HOME='{}' USER=person LOGNAME=person SHELL=/bin/sh ", self.home().display())
    }

    /// Runs a script in the directory of the work. In it `box` is the script, and its processes are the test's.
    pub fn sh(&self, lines: &str) -> Outcome {
        let file = self.work.join("script");
        let path = script("box");
        std::fs::write(&file, format!("BOX={path}; box() {{ \"$BOX\" -e CHAINROOT_TEST \"$@\"; }}\n{lines}\n"))
            .expect("a script");
        self.work.sh(&format!("cd home/work && {}sh ../../script", self.prefix()))
    }
}
