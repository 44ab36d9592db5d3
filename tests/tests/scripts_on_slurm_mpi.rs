//! A real MPI program in scripts/on-slurm: Slurm's PMIx, and the host's Open MPI in the root.

use chainroot_tests::slurm::{UNTIL_GONE, USER, in_cluster};
use chainroot_tests::{Outcome, Work, busybox_image, have, needs_slurm_user, script, skip};

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

/// One cluster for all jobs of one node, whose ranks have shared memory and nothing else between them.
fn jobs(work: &Work, jobs: &[(u32, &str)]) -> Outcome {
    let mut commands = "export NODE_DIR=$PWD/disk SLURM_MPI_TYPE=pmix OMPI_MCA_btl=vader,self; cd shared\n".to_owned();
    for (tasks, words) in jobs {
        commands += &format!(
            r#"{USER} sbatch --quiet --nodes=1 --ntasks={tasks} --output=out {} {words}
            {UNTIL_GONE}
            echo "job $(sed -n '$s/.* ExitCode=\([0-9]*\):.*/\1/p' $CLUSTER/log/jobs)"; cat out; rm out
            "#,
            script("on-slurm")
        );
    }
    in_cluster(work, &commands)
}

#[test]
fn ranks_of_a_real_mpi_program_share_memory() {
    needs_slurm_user!();
    if !["mpicc", "ompi_info"].iter().all(|program| have(program)) {
        skip!("no Open MPI (Debian: openmpi-bin libopenmpi-dev)");
    }
    let work = Work::new();
    std::fs::write(work.join("image"), IMAGE).expect("write");
    let made = work.sh(&format!("chmod 755 .; mkdir -m 777 disk shared; sh ./image '{}'", busybox_image().display()));
    made.expect(0, "");
    let info = (1, "../mpi.tar ompi_info --param btl vader --level 9");
    let outcome = jobs(&work, &[(4, "../mpi.tar /ring 2"), (4, "-1 ../mpi.tar /ring 2"), info]);
    let outputs: Vec<&str> = outcome.stdout.split("job ").skip(1).collect();
    let [joined, alone, info] = outputs[..] else { panic!("{outcome:?}") };
    for output in [joined, alone] {
        for rank in 0..4 {
            let line = format!("rank {rank} of 4: 6 from {}\n", (rank + 3) % 4);
            assert!(output.contains(&line), "{outcome:?}");
        }
        assert!(output.starts_with("7\n"), "{outcome:?}");
    }
    let copies = info.lines().find(|line| line.contains("\"btl_vader_single_copy_mechanism\""));
    assert!(copies.is_some_and(|line| line.contains("\"cma\"")), "{outcome:?}");
}
