"""A host with a neighbour, a server on its loopback and a resolver there, in a network namespace of its own.

net.py COMMAND...: run as root of a network, mount and pid namespace that nobody else is in (unshare). The neighbour,
10.99.0.2, is the default route and says "neighbour" on port 80; 127.0.0.1:8000 says "loopback", 127.0.0.53 resolves
every name to the neighbour. COMMAND is run when all of that answers.
"""
import http.server, socket, subprocess, sys, threading, os

def serve(address, port, word):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200); self.end_headers(); self.wfile.write(word.encode() + b"\n")
        def log_message(self, *_): pass
    return http.server.ThreadingHTTPServer((address, port), Handler)

def resolve(server):
    while True:
        query, caller = server.recvfrom(512)
        end = query.index(b"\0", 12) + 5
        a = query[end - 4:end - 2] == b"\0\1"
        answer = b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4" + bytes([10, 99, 0, 2]) if a else b""
        server.sendto(query[:2] + b"\x81\x80\0\1\0" + bytes([a]) + b"\0\0\0\0" + query[12:end] + answer, caller)

def sh(script):
    subprocess.run(["sh", "-ec", script], check=True, env={**os.environ, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})

if sys.argv[1] == "neighbour":
    # A namespace that this process has to itself; the parent puts an end of the wire into it.
    os.write(1, b".")
    os.read(0, 1)
    sh("ip link set lo up; ip addr add 10.99.0.2/24 dev v1; ip link set v1 up")
    server = serve("10.99.0.2", 80, "neighbour")
    os.write(1, b".")
    server.serve_forever()

sh("ip link set lo up; ip link add v0 type veth peer name v1")
neighbour = subprocess.Popen(["unshare", "--net", sys.executable, __file__, "neighbour"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
neighbour.stdout.read(1)
sh(f"ip link set v1 netns {neighbour.pid}; ip addr add 10.99.0.1/24 dev v0; ip link set v0 up; ip route add default via 10.99.0.2")
neighbour.stdin.write(b"."); neighbour.stdin.flush()
neighbour.stdout.read(1)
threading.Thread(target=serve("127.0.0.1", 8000, "loopback").serve_forever, daemon=True).start()
resolver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
resolver.bind(("127.0.0.53", 53))
threading.Thread(target=resolve, args=(resolver,), daemon=True).start()
with open("resolv.conf", "w") as file:
    file.write("nameserver 127.0.0.53\n")
sh("mount --bind resolv.conf /etc/resolv.conf")
status = subprocess.run(sys.argv[1:]).returncode
neighbour.kill()
os._exit(status)
