//! A real MPI program in scripts/on-slurm: Slurm's PMIx, and the host's Open MPI in the root.

use chainroot_tests::{Outcome, Work, busybox_image, have, is_root, script, skip};

const USER: &str = "setpriv --reuid 65534 --regid 65534 --clear-groups --";

const IMAGE: &str = r#"set -e
    cat >ring.c <<'END'
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
int main(int n, char **words) {
    static char given[4 << 20], taken[4 << 20];
    int rank, size, sum;
    MPI_Init(&n, &words);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    given[sizeof given - 1] = rank;
    MPI_Sendrecv(given, sizeof given, MPI_CHAR, (rank + 1) % size, 0, taken, sizeof taken, MPI_CHAR,
                 (rank + size - 1) % size, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    MPI_Allreduce(&rank, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    printf("rank %d of %d: %d from %d\n", rank, size, sum, taken[sizeof taken - 1]);
    MPI_Finalize();
    return rank == atoi(words[1]) ? 7 : 0;
}
END
    mkdir mpi; tar -xf "$1" -C mpi
    mpicc -o mpi/ring ring.c
    plugins=$(find /usr/lib/*/openmpi /usr/lib/*/pmix* -name '*.so')
    libraries=$(ldd mpi/ring $plugins 2>/dev/null | grep -o '/[^ ]* (' | tr -d ' (' | sort -u)
    shared=$(ls -d /usr/share/openmpi /usr/share/pmix /etc/openmpi /usr/bin/ompi_info 2>/dev/null) || :
    tar -chf - $libraries $plugins $shared 2>/dev/null | tar -xf - -C mpi
    tar -cf mpi.tar -C mpi ."#;

/// The output of a job on one node, whose ranks have shared memory and nothing else between them.
fn job(work: &Work, tasks: u32, words: &str) -> Outcome {
    let commands = format!(
        "export NODE_DIR=$PWD/disk SLURM_MPI_TYPE=pmix OMPI_MCA_btl=vader,self; cd shared
        {USER} sbatch --quiet --wait --nodes=1 --ntasks={tasks} --output=out {} {words}; echo status $?; cat out",
        script("on-slurm")
    );
    std::fs::write(work.join("commands"), commands).expect("write");
    work.sh(&format!("{} sh ./commands", script("test-slurm")))
}

#[test]
fn ranks_of_a_real_mpi_program_share_memory() {
    if !is_root() {
        skip!("a cluster needs root");
    }
    if !["munged", "slurmctld", "slurmd", "sbatch"].iter().all(|program| have(program)) {
        skip!("no Slurm (Debian: munge slurmctld slurmd slurm-client)");
    }
    if !["mpicc", "ompi_info"].iter().all(|program| have(program)) {
        skip!("no Open MPI (Debian: openmpi-bin libopenmpi-dev)");
    }
    let work = Work::new();
    if work.sh(&format!("{USER} isolate --version && {USER} test -r {}", script("on-slurm"))).status != 0 {
        skip!("the tools or scripts cannot be read by others");
    }
    std::fs::write(work.join("image"), IMAGE).expect("write");
    let made = work.sh(&format!("chmod 755 .; mkdir -m 777 disk shared; sh ./image '{}'", busybox_image().display()));
    made.expect(0, "");
    for how in ["", "-1"] {
        let outcome = job(&work, 4, &format!("{how} ../mpi.tar /ring 2"));
        for rank in 0..4 {
            let line = format!("rank {rank} of 4: 6 from {}\n", (rank + 3) % 4);
            assert!(outcome.stdout.contains(&line), "{how}: {outcome:?}");
        }
        assert!(outcome.stdout.starts_with("status 7\n"), "{how}: {outcome:?}");
    }
    let outcome = job(&work, 1, "../mpi.tar ompi_info --param btl vader --level 9");
    let copies = outcome.stdout.lines().find(|line| line.contains("\"btl_vader_single_copy_mechanism\""));
    assert!(copies.is_some_and(|line| line.contains("\"cma\"")), "{outcome:?}");
}
