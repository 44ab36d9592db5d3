//! Running scripts where systemd owns the cgroups.

use std::path::Path;
use std::process::Command;

use super::{ISOLATE, Outcome, is_root};

/// Ends the test where systemd does not run, or not with version 2 of cgroups alone.
#[macro_export]
macro_rules! needs_systemd {
    () => {
        if !$crate::bench::systemd::is_here() {
            $crate::skip!("no systemd on version 2 of cgroups (scripts/test-systemd boots one)");
        }
    };
}

pub fn is_here() -> bool {
    ["/run/systemd/system", "/sys/fs/cgroup/init.scope"].iter().all(|place| Path::new(place).exists())
}

/// Runs a script in a unit of its own: root's, or the user's own manager's.
pub fn unit(properties: &[&str], script: &str) -> Outcome {
    let mut command = Command::new("systemd-run");
    if !is_root() {
        command.arg("--user");
    }
    command.args(["--quiet", "--wait", "--pipe", "--collect", "-E"]).arg(format!("ISOLATE={ISOLATE}"));
    command.args(["-E", if is_root() { "U=" } else { "U=--map-root" }]);
    command.args(["-E", if is_root() { "SYSTEMCTL=systemctl" } else { "SYSTEMCTL=systemctl --user" }]);
    command.args(properties.iter().map(|property| format!("--property={property}")));
    // Not on the command line, where a dollar is a variable (systemd.service(5)), and two of them are, once another
    // test has systemd reload the unit.
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(&file, script).expect("write");
    command.args(["--", "timeout", "-v", "300", "sh"]).arg(file.path());
    Outcome::of(command.output().expect("systemd-run starts"))
}

/// As the tests are run: in a group that is delegated.
pub fn here(script: &str) -> Outcome {
    let mut command = Command::new("timeout");
    command.args(["-v", "300", "sh", "-c", script]).env("ISOLATE", ISOLATE);
    command.env("U", if is_root() { "" } else { "--map-root" });
    Outcome::of(command.output().expect("sh starts"))
}
