//! Whatever ends a job of scripts/on-slurm: its tasks are told, and nothing stays on the nodes.

use chainroot_tests::slurm::{UNTIL_GONE, USER, job, job_of};
use chainroot_tests::{Outcome, Work, needs_slurm, needs_slurm_user, script};

/// Both tasks of a job are there.
const BOTH_UP: &str = "until [ -e up0 ] && [ -e up1 ]; do sleep 0.1; done";

/// A job of two tasks, and how it is ended once both are there; then what they got.
fn ended(options: &str, how: &str) -> (Outcome, [String; 2]) {
    let work = Work::new();
    let end = format!(
        r#"{BOTH_UP}
        job=$(squeue --noheader --format=%A)
        keeper() {{ pgrep -f "^isolate.*--status-fd" | head -n 1; }}
        {how}"#
    );
    // A shell runs a trap once its child has ended: this one is told of its end by a pipe of its own.
    let task = r#"sh -c 'mkfifo /tmp/$SLURM_PROCID; trap "echo TERM >>got$SLURM_PROCID" TERM; trap "echo USR1 >>got$SLURM_PROCID" USR1; cat /tmp/$SLURM_PROCID & : >up$SLURM_PROCID; wait $!; kill $!; exit 4'"#;
    let outcome = job(&work, &format!("--nodes=2 --ntasks=2 {options}"), &format!("../image.tar {task}"), &end);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert!(!outcome.stdout.contains("chain-"), "a root is left: {outcome:?}");
    let got = ["got0", "got1"].map(|task| std::fs::read_to_string(work.join("shared").join(task)).unwrap_or_default());
    (outcome, got)
}

fn both_got(signal: &str, (outcome, got): &(Outcome, [String; 2])) {
    assert!(got.iter().all(|got| got.contains(signal)), "{got:?} {outcome:?}");
}

#[test]
fn a_cancelled_job_ends_its_containers_and_removes_their_roots() {
    needs_slurm!();
    let ended = ended("", "scancel $job");
    both_got("TERM", &ended);
    assert!(ended.0.stdout.contains("JobState=CANCELLED"), "{ended:?}");
}

#[test]
#[ignore = "long: scripts/soak slurm"]
fn a_job_cancelled_with_all_its_processes_removes_the_roots() {
    needs_slurm!();
    let ended = ended("", "scancel --full $job");
    both_got("TERM", &ended);
}

#[test]
#[ignore = "long: scripts/soak slurm"]
fn a_signal_to_the_batch_shell_reaches_the_tasks() {
    needs_slurm!();
    for signal in ["TERM", "USR1"] {
        let ended = ended("", &format!("scancel --batch --signal={signal} $job"));
        both_got(signal, &ended);
        assert!(ended.0.stdout.contains("status 4\n"), "{ended:?}");
        assert!(ended.0.stdout.contains("JobState=FAILED ExitCode=4:0"), "{ended:?}");
    }
}

#[test]
fn a_signal_to_the_steps_reaches_the_tasks_and_not_the_containers() {
    needs_slurm!();
    let ended = ended("", "scancel --signal=USR1 $job");
    both_got("USR1", &ended);
    assert!(ended.0.stdout.contains("status 4\n"), "{ended:?}");
}

#[test]
#[ignore = "long: scripts/soak slurm"]
fn where_the_container_is_killed_its_tasks_end_and_the_roots_go() {
    needs_slurm!();
    let ended = ended("--time=1", "kill -9 $(keeper); scancel --signal=TERM $job");
    assert!(ended.0.stdout.contains("Killed"), "{ended:?}");
    assert!(ended.0.stdout.contains("JobState=FAILED ExitCode=137:0"), "{ended:?}");
}

/// What kill -9 of everything leaves, or a node that goes down; an image's directory without write permission is in it.
#[test]
fn what_killed_jobs_left_goes_with_the_next_one_and_nothing_else() {
    needs_slurm_user!();
    let work = Work::new();
    work.sh("chmod 755 .; mkdir -m 777 disk; cd disk
        for left in 900-one.AAAAAA 900-two.AAAAAA 901-one.LOCKED 902-one.KNOWN_ 903-one.OTHERS; do
            mkdir -p chain-$left/root/full; chmod 555 chain-$left/root
        done
        mkdir other chain-other; ln -s other chain-904-one.LINKED
        chown -Rh 65534 .; chown 0 chain-903-one.OTHERS")
        .expect(0, "");
    let known = r#"#!/bin/sh
        echo 902; exec /usr/bin/squeue "$@""#;
    std::fs::write(work.join("squeue"), known).expect("write");
    work.sh("mkdir path; mv squeue path; chmod 755 path path/squeue").expect(0, "");
    let user = format!("flock disk/chain-901-one.LOCKED {USER} env PATH={}:$PATH", work.join("path").display());
    let outcome =
        job_of(&user.replace("disk/", "../disk/"), &work, "--nodes=2 --ntasks=2 --wait", "../image.tar true", "");
    assert!(outcome.stdout.starts_with("status 0\n"), "{outcome:?}");
    work.sh("ls disk").expect(
        0,
        "chain-901-one.LOCKED\nchain-902-one.KNOWN_\nchain-903-one.OTHERS\nchain-904-one.LINKED\nchain-other\nother\n",
    );
}

/// A job of which something is killed, and which is then cancelled; what it leaves goes with the next one.
fn killed_and_followed(work: &Work, kill: &str) -> Outcome {
    let kill = format!(
        r#"{BOTH_UP}
        {kill}
        scancel $(squeue --noheader --format=%A)
        {UNTIL_GONE}
        sbatch --nodes=2 --ntasks=2 --quiet --wait --output=../again {} ../image.tar true; echo again $?"#,
        script("on-slurm")
    );
    let task = "sh -c ': >up$SLURM_PROCID; exec sleep 100'";
    let outcome = job(work, "--nodes=2 --ntasks=2", &format!("../image.tar {task}"), &kill);
    assert!(outcome.stdout.contains("again 0\n") && !outcome.stdout.contains("chain-"), "{kill}: {outcome:?}");
    outcome
}

#[test]
#[ignore = "long: scripts/soak slurm"]
fn a_job_whose_every_process_is_killed_leaves_what_the_next_one_removes() {
    needs_slurm!();
    let work = Work::new();
    let kill = r#"shells="$(pgrep -f slurm_script) $(pgrep -f '^/usr/bin/sh.*on-slurm')"
        kill -STOP $shells
        kill -9 $(pgrep slurmstepd) $(pgrep -x isolate) $(pgrep -x srun) $shells
        ls ../disk | cut -d . -f 1 >left"#;
    let outcome = killed_and_followed(&work, kill);
    assert_eq!(work.sh("cat shared/left").stdout, "chain-1-one\nchain-1-two\n", "{outcome:?}");
}

#[test]
fn where_the_batch_shell_is_killed_the_roots_go() {
    needs_slurm!();
    ended("", "kill -9 $(pgrep -f '^/bin/sh.*slurm_script' | head -n 1)");
}

/// Slurm looks at the clock every half minute. The limit comes near once the tasks are there to be told.
#[test]
#[ignore = "long: scripts/soak slurm"]
fn the_signal_before_the_time_limit_reaches_the_tasks() {
    needs_slurm!();
    let how = r#"scontrol update JobId=$job EndTime=now+50
        until [ -e got0 ] && [ -e got1 ] || [ -z "$(squeue --noheader)" ]; do sleep 0.1; done
        scancel $job"#;
    both_got("USR1", &ended("--time=5 --signal=USR1@60", how));
}

/// Slurm looks at the clock every half minute, and kills what is left after KillWait.
#[test]
#[ignore = "long: scripts/soak slurm"]
fn the_time_limit_ends_the_tasks_and_removes_the_roots() {
    needs_slurm!();
    let ended = ended("--time=5", "scontrol update JobId=$job EndTime=now+2");
    both_got("TERM", &ended);
    assert!(ended.0.stdout.contains("JobState=TIMEOUT"), "{ended:?}");
}

/// One process of Slurm's or of the script's is killed, then the job is cancelled; what is left goes with the next job.
#[test]
#[ignore = "long: scripts/soak slurm"]
fn a_job_that_lost_one_process_leaves_at_most_what_the_next_one_removes() {
    needs_slurm!();
    let stepd = |step: &str| format!("pgrep -f 'slurmstepd: .1[.]{step}' | head -n 1");
    let keeper = "for pid in $(pgrep -f '^/usr/bin/sh.*on-slurm'); do
            grep -qz ON_SLURM=keep /proc/$pid/environ && echo $pid && break
        done";
    let lost = [
        ("slurmstepd: [1.0]", stepd("0")),
        ("slurmstepd: [1.1]", stepd("1")),
        ("srun", "pgrep -x srun | head -n 1".into()),
        ("srun", "pgrep -x srun | tail -n 1".into()),
        ("on-slurm", keeper.into()),
    ];
    for (name, one) in lost {
        let work = Work::new();
        let kill = format!(r"lost=$({one}); tr '\0' ' ' </proc/$lost/cmdline >lost; kill -9 $lost");
        killed_and_followed(&work, &kill);
        let lost = work.sh("cat shared/lost").stdout;
        assert!(lost.contains(name), "{lost} was killed, not {name}");
    }
}
