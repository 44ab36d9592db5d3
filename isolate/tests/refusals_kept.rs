//! Why the kernel binds no namespace to a file, and lets nobody into one: each cause has its own hint.

mod bench;

use bench::{isolate, sh};

/// Runs isolate in a directory of its own, to which others have access.
fn in_directory(before: &str, line: &str) -> bench::Outcome {
    sh(&format!("d=$(mktemp -d); chmod 755 $d; cd $d; touch file; {before}; {line}; s=$?; cd /; rm -r $d; exit $s"))
}

/// The rest of the script runs on this processor alone: namespaces have rising numbers there.
const ONE_PROCESSOR: &str =
    "one=$(taskset -cp $$ | sed 's/.*[^0-9]\\([0-9]*\\)$/\\1/'); taskset -cp $one $$ >/dev/null";

#[test]
fn what_keeps_a_namespace_from_being_bound_is_named() {
    isolate(["--map-root", "--uts=/no/such/file", "true"]).refused("the file must be there: touch /no/such/file");
    let nobody = match bench::is_root() {
        true => "setpriv --reuid=65534 --regid=65534 --clear-groups $ISOLATE --map-root",
        false => "$ISOLATE --map-root",
    };
    in_directory(":", &format!("{nobody} --uts=$d/file true")).refused("only root can bind a namespace to a file");
    needs_root!();
    in_directory("mkdir -m 700 closed; touch closed/file", &format!("{nobody} --uts=$d/closed/file true"))
        .refused("closed (mode 0700, user 0) cannot be searched by this user");
    in_directory(":", "unshare --mount $ISOLATE --uts=$d true")
        .refused("a namespace is kept in a file, not in a directory");
    // A second namespace that it would reach.
    let shared = "unshare --mount --propagation private sh -c 'mount -t tmpfs t . && mount --make-shared . && cd . &&
        touch file && unshare --mount --propagation unchanged $ISOLATE --mount=$PWD/file true; exit $?'";
    in_directory(ONE_PROCESSOR, shared).refused("a mount namespace can be bound only to a file on a private mount");
    let private = "unshare --mount --propagation private $ISOLATE --mount=$d/file -- echo kept";
    assert_eq!(in_directory(ONE_PROCESSOR, private).good(), "kept");
}

/// Which of two processors has the greater numbers depends on what they did before.
#[test]
fn a_mount_namespace_with_a_number_below_ours_is_told() {
    needs_root!();
    let processors = sh("taskset -cp $$ | sed 's/.*: //; s/[-,].*//'; taskset -cp $$ | sed 's/.*[-,: ]//'").good();
    let (first, last) = processors.split_once('\n').expect("two lines");
    if first == last {
        skip!("one processor");
    }
    for (outer, inner) in [(first, last), (last, first)] {
        let line =
            format!("taskset -c {outer} unshare --mount taskset -c {inner} $ISOLATE --mount=$d/file -- echo kept");
        let outcome = in_directory(":", &line);
        if outcome.status == 0 {
            assert_eq!(outcome.good(), "kept");
        } else {
            outcome.refused("binds none with a number below ours: start isolate on another processor");
        }
    }
}

#[test]
fn what_keeps_a_process_from_being_joined_is_named() {
    needs_root!();
    sh("sleep 1000 & setpriv --reuid=65534 --regid=65534 --clear-groups $ISOLATE --join $! true; s=$?; kill $!; exit $s")
        .refused("only its own user, or root, may enter a process's namespaces");
    sh("d=$(mktemp -d); chmod 755 $d; touch $d/user; $ISOLATE --map-root --user=$d/user -- true
        setpriv --reuid=65534 --regid=65534 --clear-groups $ISOLATE --join user=$d/user -- true; s=$?
        umount $d/user; rm -r $d; exit $s")
    .refused("a user namespace can be entered only by the user who made it, or by root outside it");
    sh("$ISOLATE --pid -- $ISOLATE --join pid=/proc/$$/ns/pid true; exit $?")
        .refused("a pid namespace can be entered only from one above it");
    let join = |without: &str| {
        sh(&format!(
            "d=$(mktemp -d); mkfifo $d/up $d/down; $ISOLATE --mount --uts -- sh -c \"echo >$d/up; read x <$d/down\" &
             read x <$d/up; setpriv --bounding-set=-{without} --inh-caps=-{without} $ISOLATE --join $! -- true; s=$?
             echo >$d/down; wait $!; rm -r $d; exit $s"
        ))
    };
    join("sys_chroot").refused("to enter a mount namespace takes CAP_SYS_CHROOT too");
    join("sys_admin").refused("this takes root in the user namespace that owns them");
    assert_eq!(join("kill").good(), "");
}
