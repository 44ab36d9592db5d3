"""Starting: new mount, uts, ipc and pid namespaces, a root, its own /proc, the host's tree gone, a
static program that exits at once."""

import ctypes
import json
import os
import pwd
import shlex
import shutil
import signal
import subprocess
import time

from measure import Contender, say

TUTORIAL = """mount --bind {root} {root} && cd {root} && pivot_root . .old &&
exec /bin/sh -c 'mount -t proc proc /proc && umount -l /.old && exec /static-true'"""

# The path of one more bubblewrap, such as one that is linked statically with musl.
ANOTHER_BWRAP = "CHAINROOT_BENCH_BWRAP"


def run(bench):
    root = make_root(bench)
    modern_cgroups(bench)
    everyone = contenders(bench, root)
    bench.cell("start", "one container", everyone, count=20, about="namespaces, root, /proc, exec of a static program")
    links(bench, root)
    quick = [c for c in everyone if c.role != "peer" or c.name in ("bwrap", f"bwrap, {ANOTHER_BWRAP}")]
    for number in (20, 200, 2000):
        many_mounts(bench, quick, number)
    for at_once in (1, 10, 100):
        some = [c for c in quick if c.name != "floor: three programs"]
        bench.cell("start", f"{at_once} at once", some, count=max(50, 2 * at_once), at_once=at_once, about="time for each container")
    for files in (1, 50_000):
        boxes(bench, root, files)
    waiting_memory(bench, root)


def make_root(bench):
    root = os.path.join(bench.work, "root")
    for name in ("proc", "bin", "usr", "etc", "dev", "sys", "tmp", "run", ".old"):
        os.makedirs(os.path.join(root, name))
    source = os.path.join(bench.work, "true.c")
    with open(source, "w") as file:
        file.write("int main(void) { return 0; }\n")
    bench.compile(source, "root/static-true")
    with open(source, "w") as file:
        file.write("#include <unistd.h>\nint main(void) { for (;;) pause(); }\n")
    bench.compile(source, "root/static-pause")
    busybox = shutil.which("busybox")
    if busybox and not needs_loader(busybox):
        shutil.copy(busybox, os.path.join(root, "bin"))
        for name in ("sh", "mount", "umount"):
            os.symlink("busybox", os.path.join(root, "bin", name))
    return root


def needs_loader(program):
    with open(program, "rb") as file:
        return b"/ld-" in file.read(4096)


def modern_cgroups(bench):
    """crun refuses hosts that mix both versions; version 2 alone is also what costs the runtimes least."""
    if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        return
    if subprocess.run(["mount", "-t", "cgroup2", "cgroup2", "/sys/fs/cgroup"], stderr=subprocess.DEVNULL).returncode:
        bench.lacks("cgroup2", "cannot be mounted; the runtimes use what there is")


def ours(bench, root, program="/static-true"):
    chain = [bench.tool("isolate"), "--mount", "--uts", "--ipc", "--pid", "--", "pivot", root, "--", "mountclean", "--", program]
    return Contender("ours: isolate, pivot, mountclean", chain, "ours")


def contenders(bench, root):
    for link, name in enumerate(("one-program", "isolate", "pivot", "mountclean")):
        bench.compile("start.c", f"floor-{name}", f"-DLINK={link}")
    floor = {name: os.path.join(bench.work, f"floor-{name}") for name in ("one-program", "isolate", "pivot", "mountclean")}
    three = [floor["isolate"], floor["pivot"], floor["mountclean"], root, "/static-true"]
    found = [
        Contender("floor: one program", [floor["one-program"], root, "/static-true"], "floor"),
        Contender("floor: three programs", three, "floor"),
    ]
    if all(os.path.exists(bench.tool(tool)) for tool in ("isolate", "pivot", "mountclean")):
        found.insert(0, ours(bench, root))
    bwraps = {"bwrap": "bwrap"} if bench.has("bwrap") else {}
    if os.environ.get(ANOTHER_BWRAP):
        bwraps[f"bwrap, {ANOTHER_BWRAP}"] = os.path.realpath(os.environ[ANOTHER_BWRAP])
    for name, program in bwraps.items():
        bwrap = [program, "--unshare-pid", "--unshare-uts", "--unshare-ipc", "--bind", root, "/", "--proc", "/proc"]
        found.append(Contender(name, [*bwrap, "--as-pid-1", "--", "/static-true"]))
        found.append(Contender(f"{name} with its init", [*bwrap, "--", "/static-true"]))
    if bench.has("unshare", "pivot_root") and os.path.exists(os.path.join(root, "bin/sh")):
        script = TUTORIAL.format(root=root)
        found.append(Contender("the tutorial in sh", ["unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--", "sh", "-c", script]))
    else:
        bench.lacks("the tutorial in sh", "needs util-linux and a static busybox")
    for runtime in ("crun", "runc"):
        if bench.has(runtime):
            found.append(Contender(runtime, [runtime, "run", "-b", make_bundle(bench, root), "chainroot-bench-{}"]))
    if bench.has("systemd-nspawn"):
        words = ["systemd-nspawn", "-q", "-D", root, "--register=no", "--keep-unit", "--console=pipe"]
        bench.mount("tmpfs", "/run", "tmpfs")
        found.append(Contender("systemd-nspawn", [*words, "/static-true"]))
    return found


def make_bundle(bench, root):
    """An OCI bundle that asks for the same and for nothing else."""
    bundle = os.path.join(bench.work, "bundle")
    os.makedirs(bundle, exist_ok=True)
    config = {
        "ociVersion": "1.0.2",
        "process": {"terminal": False, "user": {"uid": 0, "gid": 0}, "args": ["/static-true"], "env": ["PATH=/"], "cwd": "/"},
        "root": {"path": root, "readonly": False},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": {"namespaces": [{"type": kind} for kind in ("mount", "uts", "ipc", "pid")]},
    }
    with open(os.path.join(bundle, "config.json"), "w") as file:
        json.dump(config, file)
    return bundle


def links(bench, root):
    """What each link adds: the chain grown by one at a time."""
    if not os.path.exists(bench.tool("isolate")):
        bench.lacks("isolate, pivot and mountclean", "not built yet")
        return
    isolate = [bench.tool("isolate"), "--mount", "--uts", "--ipc", "--pid", "--"]
    program = os.path.join(root, "static-true")
    bench.cell("start", "link by link", [
        ours(bench, root),
        Contender("the program alone", [program], "part"),
        Contender("isolate", [*isolate, program], "part"),
        Contender("isolate, pivot", [*isolate, "pivot", root, "--", "/static-true"], "part"),
    ], count=20, about="the chain, one link longer at a time")


def many_mounts(bench, everyone, number):
    """The host's table is copied into every new mount namespace."""
    place = os.path.join(bench.work, "mounts")
    os.makedirs(place, exist_ok=True)
    bench.mount("tmpfs", place, "tmpfs")
    with open("/proc/self/mountinfo") as table:
        there = len(table.readlines())
    for n in range(number - there):
        os.mkdir(f"{place}/{n}")
        if MOUNT(b"tmpfs", f"{place}/{n}".encode(), b"tmpfs", 0, None):
            raise OSError(f"mount {n} of {number}")
    bench.cell("start", f"{max(number, there)} mounts on the host", everyone, count=20, about="the same, with so many mounts to copy")
    subprocess.run(["umount", "-l", place], check=True)


def boxes(bench, root, files):
    """scripts/box beside the chain that it runs, in a directory of so many files."""
    name = f"box, {files} file" + ("s" if files > 1 else "")
    if bench.only and bench.only not in name:
        return
    if not os.path.exists(bench.tool("isolate")):
        return
    tree = os.path.join(bench.work, f"tree-{files}")
    for number in range(files):
        directory = os.path.join(tree, str(number // 1000))
        if number % 1000 == 0:
            os.makedirs(directory)
        open(os.path.join(directory, str(number)), "w").close()
    # Below /tmp, which a box hides, but for the directory itself.
    program = shutil.copy(os.path.join(root, "static-true"), tree)
    nobody = pwd.getpwnam("nobody")
    os.chown(tree, nobody.pw_uid, nobody.pw_gid)
    env = {"CHAINROOT_BIN": bench.tools, "HOME": nobody.pw_dir}
    box = os.path.join(os.path.dirname(bench.source), "box")
    user = ["setpriv", "--reuid=nobody", f"--regid={nobody.pw_gid}", "--clear-groups", "env", "-C", tree]
    explained = subprocess.run([*user, box, "--explain", program], env={**os.environ, **env}, text=True, stdout=subprocess.PIPE, check=True)
    chain = shlex.split(explained.stdout.replace("\\\n", " "))
    bench.cell("start", name, [
        Contender("box", [*user, box, program], "ours", env=env),
        Contender("the chain that it runs", [*user, *chain], "part", env=env),
    ], count=20, about="scripts/box as an ordinary user")


LIBC = ctypes.CDLL(None, use_errno=True)
MOUNT = LIBC.mount
KCMP_VM = 1


def waiting_memory(bench, root):
    """What a container costs in memory while its program runs: the processes that wait for it."""
    if bench.only and bench.only not in "memory":
        return
    waiting = [(c.name, c.argv[:-1] + ["/static-pause"]) for c in contenders_that_wait(bench, root)]
    for name, argv in waiting:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True)
        try:
            family = wait_for_program(process)
            if family is None:
                bench.lacks(f"memory of a waiting {name}", "its program did not start")
                continue
            time.sleep(0.1)  # An isolate settles when its command has not ended at once.
            waiting = [pid for pid in family if not is_program(pid)]
            # A guard of isolate's is on isolate's memory.
            monitors = [memory_of(pid) for n, pid in enumerate(waiting) if not any(share_memory(pid, other) for other in waiting[:n])]
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        bench.memory.append({
            "name": name, "processes": len(waiting),
            "rss_kib": sum(m["Rss"] for m in monitors), "pss_kib": sum(m["Pss"] for m in monitors),
            "private_kib": sum(m["Private_Clean"] + m["Private_Dirty"] for m in monitors),
        })
        say(f"memory of a waiting {name}: {bench.memory[-1]['rss_kib']} KiB resident")


def contenders_that_wait(bench, root):
    found = []
    if os.path.exists(bench.tool("isolate")):
        found.append(ours(bench, root))
    if shutil.which("bwrap"):
        words = ["bwrap", "--unshare-pid", "--unshare-uts", "--unshare-ipc", "--bind", root, "/", "--proc", "/proc", "--as-pid-1", "--", "/static-true"]
        found.append(Contender("bwrap", words))
    return found


def wait_for_program(process):
    """The process and its descendants, once one of them is the program; None if it ended or never came."""
    deadline = time.monotonic() + 5
    while process.poll() is None and time.monotonic() < deadline:
        family = [process.pid]
        for parent in family:
            with open(f"/proc/{parent}/task/{parent}/children") as file:
                family += [int(word) for word in file.read().split()]
        if any(is_program(member) for member in family):
            return family
        time.sleep(0.001)
    return None


def is_program(pid):
    with open(f"/proc/{pid}/comm") as file:
        return file.read().strip() == "static-pause"


def share_memory(pid, other):
    """By kcmp(2)."""
    number = {"x86_64": 312, "aarch64": 272}.get(os.uname().machine)
    return number is not None and LIBC.syscall(number, pid, other, KCMP_VM, 0, 0) == 0


def memory_of(pid):
    with open(f"/proc/{pid}/smaps_rollup") as file:
        fields = (line.split() for line in file)
        return {words[0][:-1]: int(words[1]) for words in fields if words[-1] == "kB"}
