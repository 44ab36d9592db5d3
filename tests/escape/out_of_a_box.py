"""out_of_a_box.py HOME WHERE PORT PID: a program in a box that takes what it can. Prints what it got; nothing is right."""

import ctypes
import glob
import os
import signal
import socket
import sys

home, where, port, outside = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])


def attempt(what, deed):
    try:
        got = deed()
    except OSError:
        return
    if got:
        print(f"{what}: {got}")


def connect(family, address, kind=socket.SOCK_STREAM):
    with socket.socket(family, kind) as made:
        made.settimeout(2)
        if kind == socket.SOCK_DGRAM:
            made.sendto(b"x", address)
        else:
            made.connect(address)
        return "reached"


def read(path):
    with open(path, "rb") as file:
        return b"canary" in file.read(1 << 20) and path


def write(path):
    with open(path, "ab") as file:
        return file.write(b"x") and path


unix = socket.AF_UNIX
base = os.path.basename(where)
sockets = [f"{home}/docker.sock", f"/tmp/{base}.sock", f"/dev/shm/{base}.sock", f"{home}/work/editor.sock", "/run/docker.sock"]
sockets += [f"{home}/more/{name}" for name in ["ssh-agent", "wayland-0", "log", "seq", "relative", "link", "hardlink"]]
for path in sockets:
    for kind in [socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET]:
        attempt(path, lambda: connect(unix, path, kind))
for name in ["X0", "bus"]:
    for kind in [socket.SOCK_STREAM, socket.SOCK_DGRAM]:
        attempt(f"abstract {name}", lambda: connect(unix, f"\0{where}/{name}", kind))
for host in ["127.0.0.1", "169.254.169.254", "10.0.0.1"]:
    attempt(host, lambda: connect(socket.AF_INET, (host, port)))

for path in [".ssh/id", ".aws/credentials", ".bashrc", ".netrc", ".config/gh/hosts.yml", "secret"]:
    attempt("read", lambda: read(f"{home}/{path}"))
for path in [f"{where}/secret", f"/tmp/{base}.canary", f"/dev/shm/{base}.canary", "/etc/shadow"]:
    attempt("read", lambda: read(path))
for path in [f"{home}/.bashrc", f"{where}/secret"]:
    attempt("made on the host", lambda: write(path) and None)
for path in ["/etc/passwd", "/etc/profile", "/usr/bin/env", "/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger"]:
    attempt("wrote", lambda: write(path))

# Other processes, and what this one was given.
for pid in glob.glob("/proc/[0-9]*"):
    attempt("environment", lambda: read(f"{pid}/environ"))
    attempt("root", lambda: read(f"{pid}/root{home}/.ssh/id"))
    attempt("directory", lambda: read(f"{pid}/cwd/../.ssh/id"))
    for fd in glob.glob(f"{pid}/fd/*"):
        attempt("descriptor", lambda: "canary" in os.readlink(fd) and fd)
        if fd.startswith("/proc/self") or fd.startswith(f"/proc/{os.getpid()}/"):
            attempt("descriptor", lambda: fd.rsplit("/", 1)[1].isdigit() and int(fd.rsplit("/", 1)[1]) > 2 and read(fd))
libc = ctypes.CDLL(None, use_errno=True)
PTRACE_SEIZE = 0x4206
for pid in [outside, os.getppid()]:
    if pid > 2:
        attempt("signal", lambda: os.kill(pid, 0) or (pid == outside and pid))
        if pid == outside and libc.ptrace(PTRACE_SEIZE, pid, 0, 0) == 0:
            print("traced", pid)
attempt("group", lambda: os.killpg(0, 0))

# The keyring (keyctl(2)), kernel and namespaces, the caller's terminal.
KEYCTL, UNSHARE, MOUNT, IO_URING_SETUP, BPF, SETNS = 250, 272, 165, 425, 321, 308
if os.uname().machine == "x86_64":
    for name, number, words in [
        ("keyring", KEYCTL, (0, -3, 1)),
        ("user namespace", UNSHARE, (0x10000000,)),
        ("mount", MOUNT, (b"none", b"/tmp", b"tmpfs", 0, None)),
        ("io_uring", IO_URING_SETUP, (1, None)),
        ("bpf", BPF, (0, None, 0)),
        ("setns", SETNS, (0, 0)),
    ]:
        if libc.syscall(number, *words) >= 0:
            print("system call", name)
attempt("terminal", lambda: os.open("/dev/tty", os.O_RDWR) and "/dev/tty")
for fd in range(3):
    attempt("foreground", lambda: os.tcgetpgrp(fd))
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
