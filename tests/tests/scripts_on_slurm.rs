//! scripts/on-slurm on a real cluster of two nodes, which scripts/test-slurm starts for each test.

use chainroot_tests::slurm::{USER, in_cluster, job, job_of};
use chainroot_tests::{Work, busybox_image, needs_slurm, needs_slurm_user, script};

#[test]
fn an_ordinary_user_needs_no_privilege_on_the_nodes() {
    needs_slurm_user!();
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
    needs_slurm_user!();
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
#[ignore = "long: scripts/soak slurm"]
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
#[ignore = "long: scripts/soak slurm"]
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

/// As --export=NONE does in a script of one's own, which says what it needs; srun then has to be told to pass it on.
#[test]
#[ignore = "long: scripts/soak slurm"]
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
    in_cluster(&work, commands).expect(0, "0\nb  c\nd\ny  \"z\n0\n");
}

#[test]
#[ignore = "long: scripts/soak slurm"]
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
#[ignore = "long: scripts/soak slurm"]
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

/// The devices and libraries are stand-ins: no machine of the tests has an accelerator.
#[test]
#[ignore = "long: scripts/soak slurm"]
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
#[ignore = "long: scripts/soak slurm"]
fn what_is_bound_is_there_and_so_is_the_home() {
    needs_slurm!();
    let work = Work::new();
    work.sh("mkdir -p shared 'some: where' home; echo data >'some: where/file'; echo mine >home/file").expect(0, "");
    let task = "sh -c 'echo $(cat /data/file $HOME/file); echo x >/data/file'";
    let arguments = format!(r#"-H -b "${{PWD%/*}}/some\: where:/data:ro" ../image.tar {task}"#);
    let outcome = job_of("HOME=${PWD%/*}/home", &work, "--ntasks=1", &arguments, "");
    assert!(outcome.stdout.contains("data mine\n") && outcome.stdout.contains("Read-only"), "{outcome:?}");
}

/// Variables for the node's loader would name libraries that the image does not have.
#[test]
#[ignore = "long: scripts/soak slurm"]
fn the_schedulers_directories_are_there_and_the_loaders_variables_are_not() {
    needs_slurm!();
    let work = Work::new();
    let there = ["/run/munge", "/etc/slurm"].iter().filter(|place| std::path::Path::new(place).is_dir());
    let there: String = there.map(|place| format!("{place}\n")).collect();
    let task = r#"sh -c 'ls -d /run/munge /etc/slurm 2>/dev/null; echo "[$LD_LIBRARY_PATH$LD_PRELOAD]"'"#;
    let user = "LD_LIBRARY_PATH=/usr/lib LD_PRELOAD=libc.so.6";
    let outcome = job_of(user, &work, "--ntasks=1", &format!("../image.tar {task}"), "");
    assert!(outcome.stdout.starts_with(&format!("status 0\n{there}[]\n")), "{there}: {outcome:?}");
}

#[test]
#[ignore = "long: scripts/soak slurm"]
fn a_cache_is_filled_once_however_many_jobs_start() {
    needs_slurm_user!();
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
    let outcome = in_cluster(&work, &commands);
    assert_eq!(outcome.stdout, "0\n 8 busybox\nunpacked\ncache\n3\n", "{outcome:?}");
}

#[test]
#[ignore = "long: scripts/soak slurm"]
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
    let outcome = in_cluster(&work, &commands);
    assert!(outcome.stdout.starts_with("0\nbusybox\nbusybox\n"), "{outcome:?}");
    assert!(!outcome.stdout.contains("chain-"), "{outcome:?}");
}

/// stat(1) stands in for the filesystem.
#[test]
#[ignore = "long: scripts/soak slurm"]
fn a_filesystem_that_nodes_share_is_refused() {
    needs_slurm!();
    let work = Work::new();
    work.sh("mkdir bin shared; printf '#!/bin/sh\\necho lustre\\n' >bin/stat; chmod 755 bin/stat").expect(0, "");
    let outcome = job_of("PATH=${PWD%/*}/bin:$PATH", &work, "--ntasks=1", "../image.tar true", "");
    assert!(outcome.stdout.contains("status 125\n") && outcome.stdout.contains("that the nodes share"), "{outcome:?}");
}
