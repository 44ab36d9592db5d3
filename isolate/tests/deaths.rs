//! What becomes of the command when isolate dies, also if it has changed its user meanwhile.

mod bench;

use bench::{NOBODY, have, sh};

/// Kills isolate with SIGKILL once its command is there, and waits for the end of the processes that have
/// the fifo `$dir/held` open: they tell that they have it by opening `$dir/up`.
fn dies_with_isolate(command: &str) {
    dies_as_user(command, "")
}

/// The same, and says at the kill whether it really is this user.
fn dies_as_user(command: &str, user: &str) {
    let outcome = sh(&format!(
        "dir=$(mktemp -d); chmod 755 $dir; mkfifo -m 666 $dir/up $dir/held
        {command} & pid=$!
        exec 6>$dir/up 5<$dir/held
        [ -z '{user}' ] || pgrep -u '{user}' -f $dir/up >/dev/null || echo 'not user {user}'
        kill -9 $pid; wait $pid 2>/dev/null
        cat <&5; echo gone; exec 6>&-; rm -r $dir"
    ));
    assert_eq!(outcome.stdout, "gone\n", "{command}: {outcome:?}");
}

/// Keeps the fifo open for writing, and then becomes something that sleeps.
const HOLD: &str = "sh -c \"exec 7<>$dir/held; exec cat $dir/up\"";

#[test]
fn kill_9_of_isolate_ends_the_command() {
    for option in ["--pid", "--fork", "--init", "--user --fork", "--net --fork"] {
        dies_with_isolate(&format!("$ISOLATE $U {option} -- {HOLD}"));
    }
}

#[test]
fn a_command_whose_user_was_changed_does_not_outlive_isolate() {
    needs_root!();
    for option in ["--pid", "--fork", "--init"] {
        dies_with_isolate(&format!("$ISOLATE {option} --setuid {NOBODY} --setgid {NOBODY} -- {HOLD}"));
        // A foreign program: the kernel forgets its parent-death signal, the guard does not.
        dies_with_isolate(&format!(
            "$ISOLATE {option} -- setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups {HOLD}"
        ));
    }
}

#[test]
fn su_does_not_outlive_isolate() {
    needs_root!();
    if sh("su -s /bin/sh nobody -c true").status != 0 {
        skip!("su does not work here");
    }
    // It waits for what it starts: with a pid namespace, both are in that.
    dies_with_isolate("$ISOLATE --pid -- su -s /bin/sh nobody -c \"exec 7<>$dir/held; exec cat $dir/up\"");
}

/// A setuid program of this owner and group (in a user namespace both must be mapped): as it starts,
/// the kernel forgets its parent-death signal.
fn setuid(program: &str, owner: u32) -> String {
    format!(
        "cp $(command -v {program}) $dir/{program}; chown {owner}:{owner} $dir/{program}; chmod 4755 $dir/{program}"
    )
}

#[test]
fn a_setuid_program_does_not_outlive_isolate() {
    needs_root!();
    let cat = setuid("cat", NOBODY);
    for option in ["--pid", "--fork", "--init"] {
        let command = format!("{cat}; $ISOLATE {option} -- sh -c \"exec 7<>$dir/held; exec $dir/cat $dir/up\"");
        dies_as_user(&command, &NOBODY.to_string());
    }
}

#[test]
fn a_setuid_program_of_an_ordinary_users_does_not_outlive_isolate() {
    needs_root!();
    if !have("newuidmap") {
        skip!("no newuidmap");
    }
    // The program is the second subordinate user's, who is user 2 inside.
    let cat = setuid("cat", 200_001);
    for option in ["--pid", "--fork", "--init"] {
        dies_as_user(
            &format!(
                "{cat}; echo {NOBODY}:200000:1000 >$dir/ids
            unshare --mount sh -c \"mount --bind $dir/ids /etc/subuid && mount --bind $dir/ids /etc/subgid && cd / &&
                exec setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups \\
                $ISOLATE --map-auto {option} -- sh -c 'exec 7<>$dir/held; exec $dir/cat $dir/up'\""
            ),
            "200001",
        );
    }
}

#[test]
fn what_kill_child_names_is_what_the_command_gets() {
    // Whatever the command is: in a pid namespace, below a reaper, or as another user.
    let other = format!("--setuid {NOBODY} --setgid {NOBODY}");
    for options in ["--fork", "--pid", "--init", &other] {
        if options == other && !bench::is_root() {
            continue;
        }
        let outcome = sh(&format!(
            "dir=$(mktemp -d); chmod 755 $dir; mkfifo -m 666 $dir/up $dir/told
            $ISOLATE $U {options} --kill-child=USR1 -- \\
                sh -c \"trap 'echo told >$dir/told; exit' USR1; echo >$dir/up; while :; do sleep 0.01; done\" & pid=$!
            read x <$dir/up; kill -9 $pid; wait $pid 2>/dev/null; cat $dir/told; rm -r $dir"
        ));
        assert_eq!(outcome.stdout, "told\n", "{options}: {outcome:?}");
    }
}

#[test]
fn a_pid_1_that_leaves_the_signal_at_its_default_dies_of_it_all_the_same() {
    for signal in ["TERM", "SIGHUP", "1"] {
        dies_with_isolate(&format!("$ISOLATE $U --pid --kill-child={signal} -- {HOLD}"));
    }
    bench::isolate(["--kill-child=NONESUCH", "true"]).refused("no such signal");
}

#[test]
fn roots_setuid_program_for_an_ordinary_user_ends_unless_it_becomes_root_altogether() {
    needs_root!();
    let cat = setuid("cat", 0);
    let user = format!("cd /; exec setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups");
    // By its real user it is the caller's still.
    let command =
        format!("{cat}; sh -c \"{user} $ISOLATE --fork -- sh -c 'exec 7<>$dir/held; exec $dir/cat $dir/up'\"");
    dies_as_user(&command, "0");
    // What is root's altogether the caller may not signal: it lives on, as the manual says.
    let outcome = sh(&format!(
        "dir=$(mktemp -d); chmod 755 $dir; mkfifo -m 666 $dir/up; {}
        sh -c \"{user} $ISOLATE --fork -- $dir/setpriv --reuid=0 cat $dir/up\" & pid=$!
        exec 6>$dir/up
        kill -9 $pid; wait $pid 2>/dev/null
        echo heard >&6; pgrep -U 0 -f \"^cat $dir/up\" >/dev/null && echo alive; exec 6>&-
        while pgrep -f $dir/up >/dev/null; do :; done; rm -r $dir",
        setuid("setpriv", 0)
    ));
    assert_eq!(outcome.stdout, "heard\nalive\n", "{outcome:?}");
}

/// As `timeout -k` does it. A second prctl(2) takes the parent-death signal back:
/// https://github.com/containers/bubblewrap/issues/700
#[test]
fn a_pid_1_that_blocks_everything_and_floods_its_group_does_not_outlive_isolate() {
    if !have("python3") {
        skip!("needs python3");
    }
    let hostile = "import ctypes, os, signal, sys\n\
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())\n\
        ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)\n\
        held = os.open(sys.argv[1] + \"/held\", os.O_RDWR)\n\
        os.close(os.open(sys.argv[1] + \"/up\", os.O_RDONLY))\n\
        while True:\n    for number in (1, 2, 10, 15, 20, 21): os.kill(0, number)";
    for option in ["--pid", "--init", "--pid --net"] {
        dies_with_isolate(&format!("$ISOLATE $U {option} -- python3 -c '{hostile}' $dir"));
        if bench::is_root() {
            dies_with_isolate(&format!("$ISOLATE {option} --setuid {NOBODY} -- python3 -c '{hostile}' $dir"));
        }
    }
}

#[test]
fn a_guard_that_somebody_kills_is_replaced() {
    let guard = "for pid in $(cat /proc/$pid/task/$pid/children); do
        [ \"$(cat /proc/$pid/comm)\" != chainroot-guard ] || echo $pid; done";
    let outcome = sh(&format!(
        "dir=$(mktemp -d); mkfifo $dir/up
        $ISOLATE $U --pid -- sh -c \"echo >$dir/up; exec sleep 1000\" & isolate=$!
        read x <$dir/up
        guard() {{ pid=$isolate; {guard}; }}
        first=$(guard); kill -9 $first; second=$first
        while [ -z \"$second\" ] || [ \"$second\" = \"$first\" ]; do second=$(guard 2>/dev/null); done
        kill -TERM $isolate; wait $isolate; echo $?; rm -r $dir"
    ));
    assert_eq!(outcome.stdout, "143\n", "{outcome:?}");
}

/// The parent-death signal is the first child's alone: https://github.com/multikernel/sandlock/issues/238
#[test]
fn what_the_command_has_started_does_not_outlive_isolate_in_a_pid_namespace() {
    for option in ["--pid", "--init"] {
        dies_with_isolate(&format!(
            "$ISOLATE $U {option} -- sh -c \"exec 7<>$dir/held; cat $dir/up | cat | cat & wait\""
        ));
    }
}

/// Kills the process that started isolate.
fn dies_with_the_caller(line: &str) {
    let outcome = sh(&format!(
        "dir=$(mktemp -d); chmod 755 $dir; mkfifo -m 666 $dir/up $dir/held; export dir PATH=${{ISOLATE%/*}}:$PATH
        sh -c '{line} & wait' & pid=$!
        exec 6>$dir/up 5<$dir/held
        kill -9 $pid; wait $pid 2>/dev/null
        cat <&5; echo gone; exec 6>&-; rm -r $dir"
    ));
    assert_eq!(outcome.stdout, "gone\n", "{line}: {outcome:?}");
}

#[test]
fn with_the_option_isolate_dies_with_its_caller() {
    for options in ["", "--pid", "--init", "--new-session", "--uts -- isolate --ipc", "--uts -- isolate --pid"] {
        dies_with_the_caller(&format!("isolate $U --die-with-parent {options} -- {HOLD}"));
    }
    // From inside another isolate's pid namespace, which shows no parent.
    dies_with_the_caller(&format!("isolate $U --die-with-parent --pid -- isolate --die-with-parent -- {HOLD}"));
    needs_root!();
    for options in ["--setuid 65534 --setgid 65534", "--uts -- isolate --setuid 65534 --setgid 65534"] {
        dies_with_the_caller(&format!("isolate --die-with-parent {options} -- {HOLD}"));
    }
}

/// https://github.com/containers/bubblewrap/issues/692: a container died when the thread that had started it was done
/// (PR_SET_PDEATHSIG(2const)).
#[test]
fn the_end_of_the_thread_that_started_isolate_is_not_its_callers() {
    if !have("python3") {
        skip!("no python3");
    }
    let seen = sh("exec python3 -c '
import os, subprocess, threading
words = [os.environ[\"ISOLATE\"], *os.environ[\"U\"].split(), \"--die-with-parent\", \"--pid\", \"--\", \"sh\", \"-c\",
         \"echo up; read line; echo $line\"]
def start():
    global child
    child = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    child.stdout.readline()
thread = threading.Thread(target=start)
thread.start()
thread.join()
print(child.communicate(\"lives\\n\")[0], end=\"\")'");
    assert_eq!(seen.stdout, "lives\n", "{seen:?}");
}

#[test]
fn a_parent_outside_the_pid_namespace_is_none_to_die_with() {
    // As the process that a container engine starts.
    let seen = sh("$ISOLATE $U --fork -- unshare --pid --fork $ISOLATE --die-with-parent --uts -- true");
    assert_eq!(seen.status, 125, "{seen:?}");
    assert!(seen.stderr.contains("outside its pid namespace"), "{seen:?}");
}
