//! Networks: an ordinary user's through pasta, and one made by ip netns.

mod bench;

use bench::{Outcome, have, isolate, sh};

/// A server on the host's loopback, and a fetch from the gateway's address, which pasta makes it.
const FETCH: &str = r#"
import http.server, os, subprocess, sys, threading
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"from the host")
    def log_message(self, *args): pass
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
gateway = subprocess.run("ip route | sed -n 's/^default via \\([^ ]*\\).*/\\1/p'", shell=True, capture_output=True, text=True)
url = f"http://{gateway.stdout.strip()}:{server.server_port}/"
get = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=20).read().decode(), flush=True)"
code = subprocess.run(sys.argv[1:] + ["python3", "-c", get, url]).returncode
# The file where it says who it is has the name of the isolate that it was for.
def left():
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = open(f"/proc/{pid}/cmdline").read().split("\0")
            owner = [word for word in words if "/isolate-pasta-" in word][0].rpartition("-")[2]
            if words[0] == "pasta" and not os.path.exists(f"/proc/{owner}"):
                return True
        except IndexError: pass
        except OSError: pass
while code == 0 and left(): pass
print("no pasta is left")
sys.exit(code)
"#;

/// Whether there is what it takes.
fn can_fetch() -> bool {
    if !have("pasta") || !have("python3") || !have("ip") {
        eprintln!("skipped: no pasta, python3 or ip");
        return false;
    }
    let routed = sh("ip route | grep -q ^default").status == 0;
    if !routed {
        eprintln!("skipped: no default route");
    }
    routed
}

/// Fetches with this `sh -c` script around it.
fn fetches(script: &str) {
    // What root mounts for it is nobody else's to see.
    let words: &[&str] = if bench::is_root() { &["unshare", "--mount"] } else { &["env"] };
    let output = std::process::Command::new(words[0])
        .args(&words[1..])
        .args(["sh", "-c", script])
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("FETCH", FETCH)
        .env("ISOLATE", bench::ISOLATE)
        .stdin(std::process::Stdio::null())
        .output();
    let outcome = Outcome::of(output.expect("it starts"));
    if outcome.stderr.contains("tun") {
        skip!("no tun device to be had");
    }
    assert_eq!(outcome.stdout, "from the host\nno pasta is left\n", "{script}: {outcome:?}");
}

#[test]
fn an_ordinary_user_fetches_a_file_from_the_host_through_pasta() {
    if !can_fetch() {
        return;
    }
    if !bench::is_root() {
        return fetches("exec python3 -c \"$FETCH\" $ISOLATE --map-root --net=pasta --");
    }
    // Hosts differ in who may open the tun device; in a mount namespace it is ours to say.
    fetches(&format!(
        "f=$(mktemp -u); [ -e /dev/net/tun ] && mknod -m 666 $f c 10 200 2>/dev/null && mount --bind $f /dev/net/tun; rm -f $f
        cd /; exec setpriv --reuid={0} --regid={0} --clear-groups python3 -c \"$FETCH\" $ISOLATE --map-root --net=pasta --",
        bench::NOBODY
    ));
}

#[test]
fn root_fetches_a_file_from_the_host_through_pasta() {
    needs_root!();
    if !can_fetch() {
        return;
    }
    for options in ["", "--pid --init", "--map-root", "--user --map-users 0:100000:1000 --map-groups 0:100000:1000"] {
        fetches(&format!("exec python3 -c \"$FETCH\" $ISOLATE {options} --net=pasta --"));
    }
    // Root of a user namespace is root to pasta as well.
    fetches("exec $ISOLATE --map-root -- python3 -c \"$FETCH\" $ISOLATE --net=pasta --");
}

#[test]
fn without_pasta_the_error_names_its_package() {
    let outcome = sh("PATH=/nowhere $ISOLATE --map-root --net=pasta true");
    outcome.refused("package passt");
}

#[test]
fn a_network_of_ip_netns_is_joined() {
    needs_root!();
    if !have("ip") {
        skip!("no ip");
    }
    // In a mount namespace, so that nothing of it is seen outside.
    let outcome = sh("unshare --mount sh -c '
        mkdir -p /run/netns && mount -t tmpfs tmpfs /run/netns && ip netns add blue && ip netns exec blue ip link set lo up
        readlink /proc/self/ns/net; ip netns exec blue readlink /proc/self/ns/net
        $ISOLATE --join net=/run/netns/blue -- readlink /proc/self/ns/net'");
    let seen = outcome.good();
    let lines: Vec<&str> = seen.lines().collect();
    assert!(lines[0] != lines[1] && lines[1] == lines[2], "{seen}");
    isolate(["--join", "net=/no/such/netns", "true"]).refused("/no/such/netns");
}
