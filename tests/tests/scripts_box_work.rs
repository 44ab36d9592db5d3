//! Real work in scripts/box, as an ordinary user without any set-up. git is in scripts_box_git.

use chainroot_tests::{Person, have, skip};

macro_rules! needs {
    ($program:literal) => {
        if !have($program) {
            skip!("{} is not installed", $program);
        }
    };
}

#[test]
fn a_test_suite_has_sub_processes_terminals_and_shared_memory() {
    needs!("python3");
    let person = Person::new();
    let outcome = person.sh(r#"cat >suite.py <<'END'
import fcntl, multiprocessing, os, pty, socket, subprocess, tempfile
from multiprocessing import shared_memory

def square(n):
    return n * n

if __name__ == "__main__":
    with multiprocessing.Pool(3) as pool:
        assert pool.map(square, range(5)) == [0, 1, 4, 9, 16]
    shared = shared_memory.SharedMemory(create=True, size=100)
    shared.buf[0] = 7
    shared.close()
    shared.unlink()
    pid, master = pty.fork()
    if not pid:
        os.execvp("tty", ["tty"])
    assert os.read(master, 100).startswith(b"/dev/pts/")
    os.waitpid(pid, 0)
    one, other = socket.socketpair()
    server = socket.socket(socket.AF_UNIX)
    server.bind("/tmp/own")
    server.listen()
    socket.socket(socket.AF_UNIX).connect("/tmp/own")
    tcp = socket.create_server(("127.0.0.1", 0))
    socket.create_connection(tcp.getsockname()).close()
    with tempfile.NamedTemporaryFile() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
    assert subprocess.run(["sh", "-c", "ulimit -n >/dev/null; exit 4"]).returncode == 4
    print("passed")
END
        box python3 suite.py"#);
    outcome.expect(0, "passed\n");
}

#[test]
fn a_lock_holds_across_the_wall() {
    needs!("flock");
    let person = Person::new();
    person
        .sh("mkfifo ../up ../down; : >lock; (flock 9; echo >../up; read line <../down) 9>lock & read up <../up
            box flock -n lock true; echo $?; echo >../down; wait; box flock -n lock echo free")
        .expect(0, "1\nfree\n");
}

/// What changes outside is seen inside: an agent that watches its files hears of an editor's changes.
#[test]
fn inotify_sees_what_changes_outside() {
    needs!("python3");
    let person = Person::new();
    let outcome = person.sh(r#"cat >watch.py <<'END'
import ctypes, os, struct
libc = ctypes.CDLL(None)
fd = libc.inotify_init()
assert libc.inotify_add_watch(fd, b".", 0x100) >= 0
open("up", "w").write("up\n")
print(os.read(fd, 4096)[16:].split(b"\0")[0].decode())
END
        mkfifo up; box python3 watch.py >seen & read up <up; echo x >made; wait; cat seen"#);
    outcome.expect(0, "made\n");
}

#[test]
fn tracers_and_debuggers_work() {
    needs!("strace");
    let person = Person::new();
    person.sh("box strace -f -o log sh -c 'true; /bin/true'; grep -c -m 1 bin/true log").expect(0, "1\n");
    if have("gdb") {
        let outcome = person.sh("box gdb -q -batch -ex 'break exit' -ex run -ex bt --args /bin/true 2>&1");
        assert!(outcome.stdout.contains("#0") || outcome.stdout.contains("exited normally"), "{outcome:?}");
    }
}

#[test]
fn what_a_compiler_makes_runs_with_its_sanitizers() {
    needs!("cc");
    let person = Person::new();
    let outcome = person.sh(
        "printf '#include <stdlib.h>\\nint main(void) { char *p = malloc(3); free(p); return p[1]; }\\n' >bug.c
        box sh -c 'cc -g -fsanitize=address bug.c -o bug 2>/dev/null && ./bug 2>&1 | grep -o heap-use-after-free | head -n 1
            printf \"all: ok\\nok:\\n\\tcc -c bug.c -o ok\\n\" >Makefile; make -j2 >/dev/null && ls ok'",
    );
    outcome.expect(0, "heap-use-after-free\nok\n");
}

#[test]
fn a_terminal_multiplexer_starts_its_server_inside() {
    needs!("tmux");
    let person = Person::new();
    person
        .sh("box sh -c 'tmux -f /dev/null new-session -d -s one \"echo up >up; exec sleep 100\" && while [ ! -s up ]; do sleep 0.05; done; tmux list-sessions | cut -d : -f 1'; pgrep -c -f '[s]leep 100 box' || :")
        .expect(0, "one\n0\n");
}

/// Without a registry: what comes from one takes a network, which is the next test's.
#[test]
fn package_managers_keep_to_the_directory_and_their_caches() {
    let person = Person::new();
    if person.sh("/usr/bin/python3 -m venv --help >/dev/null 2>&1 && /usr/bin/python3 -c 'import ensurepip'").status
        == 0
    {
        person
            .sh("box sh -c '/usr/bin/python3 -m venv env && env/bin/python -m pip --version | cut -d \" \" -f 1'")
            .expect(0, "pip\n");
    }
    if have("npm") {
        person
            .sh("echo '{\"name\": \"x\", \"version\": \"1.0.0\", \"scripts\": {\"test\": \"echo tested\"}}' >package.json
                box sh -c 'npm install --offline >/dev/null 2>&1; npm test --silent'")
            .expect(0, "tested\n");
    }
}
