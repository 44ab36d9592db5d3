"""canaries.py DIR: what must not be reached from a box, and who notices. Listens on a dozen sockets, prints `ready`, and
writes to DIR/reached whatever somebody connects to, until it is killed."""

import os
import selectors
import socket
import sys

where = sys.argv[1]
home = os.environ["HOME"]
chosen = selectors.DefaultSelector()


def listen(name, family, address, kind=socket.SOCK_STREAM):
    made = socket.socket(family, kind)
    made.bind(address)
    if kind != socket.SOCK_DGRAM:
        made.listen(16)
    chosen.register(made, selectors.EVENT_READ, name)


unix = socket.AF_UNIX
for name in ["docker.sock", "more/ssh-agent", "more/wayland-0", "work/editor.sock"]:
    listen(name, unix, f"{home}/{name}")
listen("tmp", unix, f"/tmp/{os.path.basename(where)}.sock")
listen("shm", unix, f"/dev/shm/{os.path.basename(where)}.sock")
listen("datagram", unix, f"{home}/more/log", socket.SOCK_DGRAM)
listen("sequenced", unix, f"{home}/more/seq", socket.SOCK_SEQPACKET)
listen("abstract X11", unix, f"\0{where}/X0")
listen("abstract bus", unix, f"\0{where}/bus", socket.SOCK_DGRAM)
os.chdir(f"{home}/more")
listen("relative", unix, "relative")
loopback = socket.socket()
loopback.bind(("127.0.0.1", 0))
loopback.listen(16)
chosen.register(loopback, selectors.EVENT_READ, "loopback")
os.symlink("ssh-agent", "link")
with open(f"{where}/port", "w") as file:
    file.write(str(loopback.getsockname()[1]))
print("ready", flush=True)
while True:
    for key, _ in chosen.select():
        with open(f"{where}/reached", "a") as file:
            file.write(key.data + "\n")
        if key.fileobj.type == socket.SOCK_DGRAM:
            key.fileobj.recv(100)
        else:
            key.fileobj.accept()[0].close()
