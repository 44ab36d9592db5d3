//! scripts/on-slurm on a real cluster of two nodes, which scripts/test-slurm starts for each test.

use chainroot_tests::{Outcome, Work, busybox_image, have, is_root, script};

/// Why there can be no cluster here, if there cannot.
fn missing() -> Option<&'static str> {
    if !is_root() {
        return Some("a cluster needs root");
    }
    (!["munged", "slurmctld", "slurmd", "sbatch"].iter().all(|program| have(program)))
        .then_some("no Slurm (Debian: munge slurmctld slurmd slurm-client)")
}

macro_rules! needs_slurm {
    () => {
        if let Some(why) = missing() {
            chainroot_tests::skip!("{why}");
        }
    };
}

/// Submits a job of `on-slurm` and waits for its end; then its status and output, and what the scheduler says of it.
fn job(work: &Work, options: &str, arguments: &str, meanwhile: &str) -> Outcome {
    job_of("", work, options, arguments, meanwhile)
}

/// The same, submitted through a command that changes to another user.
fn job_of(user: &str, work: &Work, options: &str, arguments: &str, meanwhile: &str) -> Outcome {
    std::fs::copy(busybox_image(), work.join("image.tar")).expect("copy");
    let commands = format!(
        r#"mkdir -p shared disk
        chmod 755 . && chmod 777 shared disk && touch out && chmod 666 out
        export NODE_DIR=$PWD/disk
        cd shared
        {user} sbatch --quiet --parsable --wait --output=../out {options} {on_slurm} {arguments} &
        {meanwhile}
        wait $!
        echo "status $?"
        cat ../out
        cd ..
        ls -A disk
        sed 's/.*\(JobState=[A-Z_]*\).* \(ExitCode=[0-9:]*\).*/\1 \2/' $CLUSTER/log/jobs"#,
        on_slurm = script("on-slurm"),
    );
    std::fs::write(work.join("commands"), commands).expect("write");
    work.sh(&format!("{} sh ./commands", script("test-slurm")))
}

#[test]
fn an_ordinary_user_needs_no_privilege_on_the_nodes() {
    needs_slurm!();
    let work = Work::new();
    let user = "setpriv --reuid 65534 --regid 65534 --clear-groups --";
    if work.sh(&format!("chmod 755 .; {user} isolate --version && {user} test -r {}", script("on-slurm"))).status != 0 {
        chainroot_tests::skip!("the tools or scripts cannot be read by others");
    }
    let task = r#"sh -c 'echo $(id -u) $$ $(cat /etc/image); echo x >/etc/image; echo x >made; exit 9'"#;
    let outcome = job_of(user, &work, "--nodes=1 --ntasks=1", &format!("../image.tar {task}"), "");
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert!(outcome.stdout.contains("status 9\n0 1 busybox\n"), "{outcome:?}");
    assert!(outcome.stdout.ends_with("JobState=FAILED ExitCode=9:0\n"), "{outcome:?}");
    work.sh("stat -c %u shared/made; ls -A disk").expect(0, "65534\n");
}

/// In /var/tmp anybody can make a directory of the name that a root would have. Needs no cluster.
#[test]
fn a_directory_that_another_user_made_is_never_the_root() {
    chainroot_tests::needs_root!();
    let work = Work::new();
    std::fs::copy(busybox_image(), work.join("image.tar")).expect("copy");
    let script = format!(
        r#"mkdir -m 1777 disk path
        printf '#!/bin/sh\nwhile [ $1 != sh ]; do shift; done\nexec "$@"\n' >path/srun; chmod 755 path/srun
        for name in chain-7-one chain-7-one.AAAAAA chain-7-one.zzzzzz; do
            mkdir -p disk/$name/root; echo other >disk/$name/root/other; chown -R 31347 disk/$name
        done
        ln -s chain-7-one.AAAAAA disk/chain-7-one.000000
        export SLURM_JOB_ID=7 SLURM_JOB_NUM_NODES=1 SLURMD_NODENAME=one NODE_DIR=$PWD/disk PATH=$PWD/path:$PATH
        {} image.tar sh -c 'cat /etc/image; ls /other 2>/dev/null'; ls disk | wc -l"#,
        script("on-slurm")
    );
    work.sh(&script).expect(0, "busybox\n4\n");
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn every_task_has_a_container_and_every_node_unpacks_once() {
    needs_slurm!();
    let work = Work::new();
    let task = r#"sh -c 'echo task $SLURM_PROCID: $$ $(cat /etc/image) $(ls /..| wc -l) >/etc/own; cat /etc/own; echo $SLURMD_NODENAME >$SLURM_PROCID; ls /work | wc -l >/dev/null'"#;
    let outcome = job(&work, "--nodes=2 --ntasks-per-node=2", &format!("../image.tar {task}"), "");
    assert_eq!(outcome.status, 0, "{outcome:?}");
    // Each is PID 1 of its own, and sees its own change of /etc alone; nothing is left on the disk.
    let directories = outcome.stdout.lines().find_map(|line| line.strip_prefix("task 0: 1 busybox ")).expect("task 0");
    let mut expected: Vec<String> = (0..4).map(|task| format!("task {task}: 1 busybox {directories}")).collect();
    expected.extend(["status 0".into(), "JobState=COMPLETED ExitCode=0:0".into()]);
    expected.sort_unstable();
    assert_eq!(sorted(&outcome.stdout), expected, "{}", outcome.stderr);
    // What they wrote to the directory of the job is there, from both nodes.
    work.sh("cat shared/[0-3] | sort | uniq -c | tr -s ' '").expect(0, " 2 one\n 2 two\n");
}

#[test]
fn the_highest_status_of_the_tasks_is_the_jobs() {
    needs_slurm!();
    let work = Work::new();
    let outcome = job(&work, "--nodes=2 --ntasks=3", "../image.tar sh -c 'exit $((SLURM_PROCID * 20))'", "");
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert!(outcome.stdout.contains("status 40\n"), "{outcome:?}");
    assert!(outcome.stdout.contains("task 1: Exited with exit code 20"), "{outcome:?}");
    assert!(outcome.stdout.ends_with("JobState=FAILED ExitCode=40:0\n"), "{outcome:?}");
}

#[test]
fn a_task_that_is_killed_takes_its_container_along_and_leaves_the_others_alone() {
    needs_slurm!();
    let work = Work::new();
    // Task 1 waits to be killed; its isolate is killed as nothing inside could do it.
    let task = r#"sh -c 'mkfifo wait$SLURM_PROCID; [ $SLURM_PROCID != 1 ] || exec cat wait1; cat wait0; echo task 0 goes on >result'"#;
    let kill = r#"until [ -p wait0 ] && [ -p wait1 ]; do sleep 0.1; done
        for pid in $(pgrep -x isolate); do
            tr '\0' '\n' </proc/$pid/environ | grep -qx SLURM_PROCID=1 && kill -9 $pid
        done
        while pgrep -fx 'cat wait1' >/dev/null; do sleep 0.1; done
        echo gone >wait0"#;
    let outcome = job(&work, "--nodes=2 --ntasks=2", &format!("../image.tar {task}"), kill);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert_eq!(work.sh("cat shared/result").stdout, "task 0 goes on\n", "{outcome:?}");
    assert!(outcome.stdout.contains("task 1: Killed"), "{outcome:?}");
    assert!(outcome.stdout.contains("status 137\n"), "{outcome:?}");
    assert!(outcome.stdout.ends_with("JobState=FAILED ExitCode=137:0\n"), "{outcome:?}");
}

#[test]
fn a_cancelled_job_ends_its_containers_and_removes_their_roots() {
    needs_slurm!();
    let work = Work::new();
    let cancel = r#"until [ -p wait0 ] && [ -p wait1 ]; do sleep 0.1; done
        scancel --batch --signal=TERM $(squeue --noheader --format=%A)
        scancel --signal=TERM $(squeue --noheader --format=%A)"#;
    let task = "sh -c 'mkfifo wait$SLURM_PROCID; exec cat wait$SLURM_PROCID'";
    let outcome = job(&work, "--nodes=2 --ntasks=2", &format!("../image.tar {task}"), cancel);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert!(!outcome.stdout.contains("status 0\n"), "{outcome:?}");
    assert!(!outcome.stdout.contains("chain-"), "a root is left: {outcome:?}");
}

#[test]
fn a_task_over_the_chains_memory_limit_is_killed() {
    needs_slurm!();
    let work = Work::new();
    let task = r#"sh -c 'echo task $SLURM_PROCID starts; [ $SLURM_PROCID = 0 ] || dd if=/dev/zero of=/dev/null bs=128M count=1 2>/dev/null; echo task $SLURM_PROCID: $?'"#;
    let outcome = job(&work, "--nodes=2 --ntasks=2", &format!("-m 32M ../image.tar {task}"), "");
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert!(outcome.stdout.contains("task 0: 0\n"), "{outcome:?}");
    assert!(outcome.stdout.contains("task 1: 137\n"), "{outcome:?}");
}

#[test]
fn a_job_over_the_schedulers_memory_limit_is_killed() {
    needs_slurm!();
    let work = Work::new();
    let task = r#"sh -c 'x=$(head -c 60000000 /dev/zero | tr "\0" x); sleep 100; echo ${#x}'"#;
    let outcome = job(&work, "--nodes=1 --ntasks=1 --mem=32M", &format!("../image.tar {task}"), "");
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert!(
        outcome.stdout.contains("JobState=OUT_OF_MEMORY") || outcome.stdout.contains("JobState=FAILED"),
        "{outcome:?}"
    );
    assert!(outcome.stdout.contains("xceeded"), "{outcome:?}");
}

#[test]
fn an_image_that_cannot_be_unpacked_starts_no_task() {
    needs_slurm!();
    let work = Work::new();
    let outcome = job(&work, "--nodes=2 --ntasks=2", "/etc/passwd echo started", "");
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert!(outcome.stdout.contains("status 125\n") && !outcome.stdout.contains("started"), "{outcome:?}");
}
