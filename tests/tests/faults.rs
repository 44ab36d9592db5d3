//! Every system call of isolate, pivot and mountclean fails once: the contract holds all the same.
//!
//! A sample of the faults by default; all of them with `CHAINROOT_FAULTS=all` (scripts/soak faults).

use chainroot_tests::faults::{Case, behind_a_wall, fail_every_call};
use chainroot_tests::{Work, busybox_image, needs_root};

fn nothing(_: i32) -> Result<(), String> {
    Ok(())
}

fn check(work: &Work, tool: &str, line: &str, stdout: &str) {
    fail_every_call(work, &Case { tool, line, stdout: stdout.to_owned(), before: &|| {}, after: &nothing });
}

fn with_root() -> Work {
    behind_a_wall();
    let work = Work::new();
    work.sh(&format!("unpack --quiet '{}'", busybox_image().display()))
        .expect(0, &format!("{}\n", work.join("root").display()));
    work
}

#[test]
fn whatever_fails_in_isolate_the_contract_holds() {
    needs_root!();
    let work = with_root();
    check(
        &work,
        "isolate",
        "isolate --pid --uts --ipc --mount --net --cgroup --hostname inside -- echo done",
        "done\n",
    );
}

#[test]
fn whatever_fails_in_isolate_with_a_user_namespace_the_contract_holds() {
    needs_root!();
    let work = with_root();
    check(&work, "isolate", "isolate --user --map-root --pid -- echo done", "done\n");
}

#[test]
fn whatever_fails_in_an_isolate_with_limits_other_ids_or_fewer_privileges_the_contract_holds() {
    needs_root!();
    let work = with_root();
    check(&work, "isolate", "isolate --setgid 1000 --setuid 1000 -- echo done", "done\n");
    check(&work, "isolate", "isolate --cap-drop ALL --no-new-privs --seccomp default -- echo done", "done\n");
    check(&work, "isolate", "isolate --memory 64M --pids-max 16 --rlimit nofile=64:128 -- echo done", "done\n");
}

#[test]
fn whatever_fails_in_pivot_the_contract_holds() {
    needs_root!();
    let work = with_root();
    check(&work, "pivot", "pivot root -- echo done", "done\n");
    check(&work, "pivot", "pivot --read-only root -- echo done", "done\n");
    check(&work, "pivot", "pivot --put-old /var root -- echo done", "done\n");
    check(&work, "pivot", "pivot --ephemeral --tmpfs /tmp --bind /etc:/var:ro --dev root -- echo done", "done\n");
    check(&work, "pivot", "pivot --overlay changes root -- echo done", "done\n");
}

#[test]
fn whatever_fails_in_mountclean_the_contract_holds() {
    needs_root!();
    let work = with_root();
    check(&work, "mountclean", "isolate --pid -- pivot root -- mountclean -- echo done", "done\n");
    check(&work, "mountclean", "isolate --pid -- mountclean -- echo done", "done\n");
    check(&work, "mountclean", "isolate --pid --net -- pivot root -- mountclean --mask --sys -- echo done", "done\n");
}
