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

const USER: &str = "setpriv --reuid 65534 --regid 65534 --clear-groups --";

/// Whether another user than root can run the scripts and tools where they are.
fn user_can_run() -> bool {
    Work::new().sh(&format!("{USER} isolate --version && {USER} test -r {}", script("on-slurm"))).status == 0
}

macro_rules! needs_user {
    () => {
        needs_slurm!();
        if !user_can_run() {
            chainroot_tests::skip!("the tools or scripts cannot be read by others");
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
        # It is told of the end before the last processes are gone.
        until [ -z "$(squeue --noheader)" ]; do sleep 0.1; done
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
    needs_user!();
    let work = Work::new();
    let task = r#"sh -c 'echo $(id -u) $(whoami) $(cat /etc/image); echo x >/etc/image; echo x >made; exit 9'"#;
    let outcome = job_of(USER, &work, "--nodes=1 --ntasks=1", &format!("../image.tar {task}"), "");
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert!(outcome.stdout.contains("status 9\n") && outcome.stdout.contains("65534 nobody busybox\n"), "{outcome:?}");
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
        printf '#!/bin/sh\nwhile [ $1 != sh ]; do shift; done\nexec "$@"\n' >path/srun
        ln -s /bin/true path/scontrol; ln -s /bin/true path/squeue; chmod 755 path/srun
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

#[test]
fn the_tasks_of_a_node_are_in_one_container_and_every_node_unpacks_once() {
    needs_slurm!();
    let work = Work::new();
    // The second of each node ends the first, which it can only where it sees it.
    let task = r#"sh -c 'cd /tmp; if [ $SLURM_LOCALID = 0 ]; then mkfifo /wait; echo $$ >/wait; sleep 100; else until [ -p /wait ]; do sleep 0.1; done; read first </wait; kill $first; ls -d /proc/[0-9]* | wc -l; ls /work; fi'"#;
    let outcome = job(&work, "--nodes=2 --ntasks-per-node=2", &format!("../image.tar {task}"), "");
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert!(outcome.stdout.starts_with("status 143\n") && !outcome.stdout.contains("chain-"), "{outcome:?}");
    assert_eq!(outcome.stdout.matches(": Terminated\n").count(), 2, "{outcome:?}");
}

#[test]
fn with_a_container_for_each_task_none_sees_what_another_writes() {
    needs_user!();
    let work = Work::new();
    let task = r#"sh -c 'echo task $SLURM_PROCID: $(cat /etc/image) >/etc/own; echo $(cat /etc/own) $OMPI_MCA_btl_vader_single_copy_mechanism; echo $SLURMD_NODENAME >$SLURM_PROCID'"#;
    let outcome = job_of(USER, &work, "--nodes=2 --ntasks-per-node=2", &format!("-1 ../image.tar {task}"), "");
    assert_eq!(outcome.status, 0, "{outcome:?}");
    for task in 0..4 {
        assert!(outcome.stdout.contains(&format!("task {task}: busybox none\n")), "{outcome:?}");
    }
    assert!(outcome.stdout.starts_with("status 0\n") && !outcome.stdout.contains("chain-"), "{outcome:?}");
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

/// A job of two tasks, and how it is ended once both are there; then what they got.
fn ended(options: &str, how: &str) -> (Outcome, [String; 2]) {
    let work = Work::new();
    let end = format!(
        r#"until [ -e up0 ] && [ -e up1 ]; do sleep 0.1; done
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
fn a_job_cancelled_with_all_its_processes_removes_the_roots() {
    needs_slurm!();
    let ended = ended("", "scancel --full $job");
    both_got("TERM", &ended);
}

#[test]
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
fn where_the_container_is_killed_its_tasks_end_and_the_roots_go() {
    needs_slurm!();
    let ended = ended("--time=1", "kill -9 $(keeper); scancel --signal=TERM $job");
    assert!(ended.0.stdout.contains("Killed"), "{ended:?}");
    assert!(ended.0.stdout.contains("JobState=FAILED ExitCode=137:0"), "{ended:?}");
}

/// What kill -9 of everything leaves, or a node that goes down; an image's directory without write permission is in it.
#[test]
fn what_killed_jobs_left_goes_with_the_next_one_and_nothing_else() {
    needs_user!();
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
    let outcome = job_of(&user.replace("disk/", "../disk/"), &work, "--nodes=2 --ntasks=2", "../image.tar true", "");
    assert!(outcome.stdout.starts_with("status 0\n"), "{outcome:?}");
    work.sh("ls disk").expect(
        0,
        "chain-901-one.LOCKED\nchain-902-one.KNOWN_\nchain-903-one.OTHERS\nchain-904-one.LINKED\nchain-other\nother\n",
    );
}

#[test]
fn a_job_whose_every_process_is_killed_leaves_what_the_next_one_removes() {
    needs_slurm!();
    let work = Work::new();
    let kill = format!(
        r#"until [ -e up0 ] && [ -e up1 ]; do sleep 0.1; done
        kill -9 $(pgrep -f slurm_script) $(pgrep slurmstepd) $(pgrep -x isolate) $(pgrep -x srun) $(pgrep -f '^/usr/bin/sh.*on-slurm')
        ls ../disk | cut -d . -f 1 >left
        scancel $(squeue --noheader --format=%A)
        until [ -z "$(squeue --noheader)" ]; do sleep 0.1; done
        sbatch --nodes=2 --ntasks=2 --quiet --wait --output=../again {} ../image.tar true"#,
        script("on-slurm")
    );
    let task = "sh -c ': >up$SLURM_PROCID; exec sleep 100'";
    let outcome = job(&work, "--nodes=2 --ntasks=2", &format!("../image.tar {task}"), &kill);
    assert_eq!(work.sh("cat shared/left").stdout, "chain-1-one\nchain-1-two\n", "{outcome:?}");
    assert!(!outcome.stdout.contains("chain-"), "{outcome:?}");
}

/// As --export=NONE does in a script of one's own, which says what it needs; srun then has to be told to pass it on.
#[test]
fn what_sbatch_exports_does_not_matter_and_values_keep_their_blanks() {
    needs_slurm!();
    let work = Work::new();
    std::fs::write(
        work.join("own"),
        format!(
            "#!/bin/sh\nexport CHAINROOT_BIN={} NODE_DIR={} A='b  c\nd' LD_PRELOAD=\nexec {} \"$@\"\n",
            work.sh("dirname $(command -v isolate)").stdout.trim(),
            work.join("disk").display(),
            script("on-slurm")
        ),
    )
    .expect("write");
    std::fs::copy(busybox_image(), work.join("image.tar")).expect("copy");
    let commands = r#"mkdir disk; sbatch --quiet --wait --export=NONE --output=out own image.tar sh -c 'echo "$A"; echo "$1"; env | grep -cE "^(ON_SLURM|LD_)"; true' x 'y  "z'
        echo $?; cat out; ls disk"#;
    std::fs::write(work.join("commands"), commands).expect("write");
    work.sh(&format!("{} sh ./commands", script("test-slurm"))).expect(0, "0\nb  c\nd\ny  \"z\n0\n");
}

#[test]
fn where_the_batch_shell_is_killed_the_roots_go() {
    needs_slurm!();
    ended("", "kill -9 $(pgrep -f '^/bin/sh.*slurm_script' | head -n 1)");
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

#[test]
fn a_task_that_dies_of_a_signal_dies_of_it_for_the_scheduler() {
    needs_slurm!();
    let work = Work::new();
    let outcome = job(&work, "--ntasks=1", "../image.tar sh -c 'kill -SEGV $$; sleep 1'", "");
    assert!(outcome.stdout.contains("task 0: Segmentation fault"), "{outcome:?}");
    assert!(outcome.stdout.contains("status 139\n"), "{outcome:?}");
}

/// Slurm looks at the clock every half minute. The limit comes near once the tasks are there to be told.
#[test]
fn the_signal_before_the_time_limit_reaches_the_tasks() {
    needs_slurm!();
    let how = r#"scontrol update JobId=$job EndTime=now+50
        until [ -e got0 ] && [ -e got1 ] || [ -z "$(squeue --noheader)" ]; do sleep 0.1; done
        scancel $job"#;
    both_got("USR1", &ended("--time=5 --signal=USR1@60", how));
}

/// The devices and libraries are stand-ins: no machine of the tests has an accelerator.
#[test]
fn what_a_cdi_file_or_nvidias_program_names_is_there_under_all_of_its_names() {
    needs_slurm!();
    for how in ["cli", "$PWD/spec.yaml", "$PWD/spec.json"] {
        let work = Work::new();
        let given = r#"mkdir shared gpu bin; cd gpu; echo library >libcuda.so.550; ln -s libcuda.so.550 libcuda.so.1; cd ../shared
            gpu=${PWD%/*}/gpu
            printf '#!/bin/sh\necho %s\necho /dev/kmsg\n' "$gpu/libcuda.so.550" >../bin/nvidia-container-cli; chmod 755 ../bin/*
            cat >spec.yaml <<END
cdiVersion: 0.5.0
devices:
- name: "0"
  containerEdits:
    deviceNodes:
    - path: /dev/kmsg
containerEdits:
  hooks:
  - hookName: createContainer
    path: /usr/bin/nvidia-cdi-hook
  mounts:
  - containerPath: /lib/libcuda.so.550
    hostPath: $gpu/libcuda.so.550
END
            echo '{"devices":[{"name":"0","containerEdits":{"deviceNodes":[{"path":"/dev/kmsg"}]}}],"containerEdits":{"mounts":[{"hostPath":"'$gpu'/libcuda.so.550","containerPath":"/x"}]}}' >spec.json"#;
        work.sh(given).expect(0, "");
        let task = r#"sh -c 'ls /dev | grep kmsg; cd $LD_LIBRARY_PATH; cat libcuda.so.550 libcuda.so.1'"#;
        let user = "PATH=${PWD%/*}/bin:$PATH";
        let outcome = job_of(user, &work, "--ntasks=1", &format!("-i -g {how} ../image.tar {task}"), "");
        assert!(outcome.stdout.starts_with("status 0\nkmsg\nlibrary\nlibrary\n"), "{how}: {outcome:?}");
    }
}

#[test]
fn what_is_bound_is_there_and_so_is_the_home() {
    needs_slurm!();
    let work = Work::new();
    work.sh("mkdir -p shared 'some: where' home; echo data >'some: where/file'; echo mine >home/file").expect(0, "");
    let task = "sh -c 'echo $(cat /data/file $HOME/file); echo x >/data/file'";
    let arguments = format!(r#"-H -b "${{PWD%/*}}/some\: where:/data:ro" ../image.tar {task}"#);
    let outcome = job_of("HOME=${PWD%/*}/home", &work, "--ntasks=1", &arguments, "");
    assert!(outcome.stdout.contains("data mine\n") && outcome.stdout.contains("Read-only"), "{outcome:?}");
}

#[test]
fn a_cache_is_filled_once_however_many_jobs_start() {
    needs_user!();
    let work = Work::new();
    std::fs::copy(busybox_image(), work.join("image.tar")).expect("copy");
    let commands = format!(
        r#"chmod 755 .; mkdir -m 777 disk shared bin; export NODE_DIR=$PWD/disk; cd shared
        printf '#!/bin/sh\necho unpacked >>%s/unpacks\nexec %s "$@"\n' $PWD $(command -v unpack) >../bin/unpack
        chmod 755 ../bin/unpack
        {USER} env CHAINROOT_BIN= PATH=${{PWD%/*}}/bin:$PATH sbatch --quiet --wait --array=1-8 --mem=60 --ntasks=1 \
            --output=out.%a {} -c $NODE_DIR/cache ../image.tar sh -c 'cat /etc/image; echo x >/etc/image'
        echo $?; cat out.* | sort | uniq -c | tr -s ' '; cat unpacks; ls ../disk; ls ../disk/cache | wc -l"#,
        script("on-slurm")
    );
    std::fs::write(work.join("commands"), commands).expect("write");
    let outcome = work.sh(&format!("{} sh ./commands", script("test-slurm")));
    assert_eq!(outcome.stdout, "0\n 8 busybox\nunpacked\ncache\n3\n", "{outcome:?}");
}

#[test]
fn sbcast_takes_the_image_to_the_nodes() {
    needs_slurm!();
    let work = Work::new();
    std::fs::copy(busybox_image(), work.join("image.tar")).expect("copy");
    let commands = format!(
        "export NODE_DIR=$CLUSTER/disk/own
        sbatch --quiet --wait --nodes=2 --ntasks=2 --output=out {} -s image.tar cat /etc/image
        echo $?; cat out; ls $CLUSTER/disk/one $CLUSTER/disk/two",
        script("on-slurm")
    );
    std::fs::write(work.join("commands"), commands).expect("write");
    let outcome = work.sh(&format!("{} sh ./commands", script("test-slurm")));
    assert!(outcome.stdout.starts_with("0\nbusybox\nbusybox\n"), "{outcome:?}");
    assert!(!outcome.stdout.contains("chain-"), "{outcome:?}");
}

/// stat(1) stands in for the filesystem.
#[test]
fn a_filesystem_that_nodes_share_is_refused() {
    needs_slurm!();
    let work = Work::new();
    work.sh("mkdir bin shared; printf '#!/bin/sh\\necho lustre\\n' >bin/stat; chmod 755 bin/stat").expect(0, "");
    let outcome = job_of("PATH=${PWD%/*}/bin:$PATH", &work, "--ntasks=1", "../image.tar true", "");
    assert!(outcome.stdout.contains("status 125\n") && outcome.stdout.contains("that the nodes share"), "{outcome:?}");
}
