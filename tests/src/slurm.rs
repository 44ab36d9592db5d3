//! `scripts/on-slurm` on a real cluster of two nodes, which `scripts/test-slurm` starts for each test.

use crate::{Outcome, Work, busybox_image, have, is_root, script};

/// A command that changes to an ordinary user.
pub const USER: &str = "setpriv --reuid 65534 --regid 65534 --clear-groups --";

/// Why there can be no cluster here, if there cannot.
pub fn missing() -> Option<&'static str> {
    if !is_root() {
        return Some("a cluster needs root");
    }
    (!["munged", "slurmctld", "slurmd", "sbatch"].iter().all(|program| have(program)))
        .then_some("no Slurm (Debian: munge slurmctld slurmd slurm-client)")
}

/// Whether another user than root can run the scripts and tools where they are.
pub fn user_can_run() -> bool {
    Work::new().sh(&format!("{USER} isolate --version && {USER} test -r {}", script("on-slurm"))).status == 0
}

/// Ends the test where there can be no cluster.
#[macro_export]
macro_rules! needs_slurm {
    () => {
        if let Some(why) = $crate::slurm::missing() {
            $crate::skip!("{why}");
        }
    };
}

/// Ends the test where an ordinary user can run no job.
#[macro_export]
macro_rules! needs_slurm_user {
    () => {
        $crate::needs_slurm!();
        if !$crate::slurm::user_can_run() {
            $crate::skip!("the tools or scripts cannot be read by others");
        }
    };
}

/// Waits until no job has a process left. Not `sbatch --wait`, which asks after 0, 2, 6, 12 seconds.
pub const UNTIL_GONE: &str = r#"until [ -z "$(squeue --noheader)" ]; do sleep 0.1; done"#;

/// Runs shell commands in a cluster.
pub fn in_cluster(work: &Work, commands: &str) -> Outcome {
    std::fs::write(work.join("commands"), commands).expect("write");
    work.sh(&format!("{} sh ./commands", script("test-slurm")))
}

/// Submits a job of `on-slurm` and waits for its end; then its output, what it left on the nodes, and its
/// state and status as the scheduler has them.
pub fn job(work: &Work, options: &str, arguments: &str, meanwhile: &str) -> Outcome {
    job_of("", work, options, arguments, meanwhile)
}

/// The same, submitted through a command that changes to another user.
pub fn job_of(user: &str, work: &Work, options: &str, arguments: &str, meanwhile: &str) -> Outcome {
    std::fs::copy(busybox_image(), work.join("image.tar")).expect("copy");
    // The log of jobs is written before a job is forgotten.
    let commands = format!(
        r#"mkdir -p shared disk
        chmod 755 . && chmod 777 shared disk && touch out && chmod 666 out
        export NODE_DIR=$PWD/disk
        cd shared
        {user} sbatch --quiet --output=../out {options} {on_slurm} {arguments}
        {meanwhile}
        {UNTIL_GONE}
        sed 's/.* ExitCode=\([0-9]*\):.*/status \1/; q' $CLUSTER/log/jobs
        cat ../out
        cd ..
        ls -A disk
        sed 's/.*\(JobState=[A-Z_]*\).* \(ExitCode=[0-9:]*\).*/\1 \2/' $CLUSTER/log/jobs"#,
        on_slurm = script("on-slurm"),
    );
    in_cluster(work, &commands)
}
