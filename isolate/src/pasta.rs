//! A real network without root: the program pasta joins the child's network namespace to ours.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow};
use chain::WithHint;
use nix::unistd::Pid;

/// Starts it, and returns once the network is there. It goes into the background, and ends when
/// the network namespace does.
pub fn start(child: Pid) -> Result<()> {
    let output = Command::new("pasta")
        .args(["--config-net", "--quiet"])
        .arg(child.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output()
        .context("pasta")
        .hint("--net=pasta runs the program pasta: install the package passt")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().filter(|line| !line.contains("syslog")).collect::<Vec<_>>().join("; ");
        return Err(anyhow!("pasta: {}", if said.is_empty() { "it failed and does not say why" } else { &said }))
            .hint("try it by hand: pasta --config-net -- ip address");
    }
    Ok(())
}
