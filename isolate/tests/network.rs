//! Networks: an ordinary user's through pasta, and one made by ip netns.

mod bench;

use bench::{have, isolate, sh};

/// A host in namespaces of its own (tests/escape/net.py), where it is root: a neighbour to talk to, and services on its
/// loopback that nobody else may reach.
const HOST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/escape/net.py");

/// What answers in there, place by place.
const ASK: &str = "
import socket, urllib.request
def ask(url):
    try: return urllib.request.urlopen('http://' + url, timeout=4).read().decode().strip()
    except OSError: return 'nobody'
print('by name:', ask('some.name/'))
for place in '10.99.0.2:80', '10.99.0.2:8000', '10.99.0.1:8000', '127.0.0.1:8000', '169.254.1.1:8000':
    print(place, ask(place + '/'))
";

fn answers(options: &str) {
    if !have("pasta") || !have("python3") || !have("ip") {
        skip!("no pasta, python3 or ip");
    }
    let user = if bench::is_root() { "" } else { "--map-root-user" };
    let outcome = sh(&format!(
        "d=$(mktemp -d) && cd $d || exit
        cat >ask.py <<'END'
{ASK}
END
        echo nameserver 169.254.1.1 >inside
        unshare {user} --net --mount --pid --fork --kill-child --mount-proc timeout -k 1 60 python3 {HOST} \
            $ISOLATE {options} --net=pasta --mount -- sh -c 'mount --bind inside /etc/resolv.conf; python3 ask.py; echo .'
        s=$?; rm -rf $d; exit $s"
    ));
    if outcome.stderr.contains("tun") {
        skip!("no tun device to be had");
    }
    let nobody = "10.99.0.2:8000 nobody\n10.99.0.1:8000 nobody\n127.0.0.1:8000 nobody\n169.254.1.1:8000 nobody\n.\n";
    assert_eq!(
        outcome.stdout,
        format!("by name: neighbour\n10.99.0.2:80 neighbour\n{nobody}"),
        "{options}: {outcome:?}"
    );
}

/// By itself pasta makes the gateway the host's loopback, and forwards the ports that are open there.
#[test]
fn pasta_reaches_the_world_and_its_resolver_and_nothing_on_the_hosts_loopback() {
    answers("");
    answers("--map-root");
    answers("--pid --init");
}

/// Nor does the host, and who is on it, reach what listens inside.
#[test]
fn pasta_forwards_nothing_from_the_hosts_loopback() {
    if !have("pasta") || !have("python3") || !have("ip") {
        skip!("no pasta, python3 or ip");
    }
    let user = if bench::is_root() { "" } else { "--map-root-user" };
    let outcome = sh(&format!(
        "d=$(mktemp -d) && cd $d || exit
        cat >listen.py <<'END'
import socket
servers = [socket.create_server((address, 8001)) for address in ('127.0.0.1', '10.99.0.1')]
print('listens', flush=True)
input()
END
        cat >host.sh <<'END'
mkfifo up down
$ISOLATE --net=pasta -- python3 listen.py <down >up & exec 4>down
read -r line <up
for address in 127.0.0.1 10.99.0.1; do
    python3 -c 'import socket, sys; socket.create_connection((sys.argv[1], 8001), 4)' $address 2>/dev/null && echo reached $address
done
echo >&4; wait; echo $line
END
        unshare {user} --net --mount --pid --fork --kill-child --mount-proc timeout -k 1 60 python3 {HOST} sh host.sh
        s=$?; rm -rf $d; exit $s"
    ));
    if outcome.stderr.contains("tun") {
        skip!("no tun device to be had");
    }
    assert_eq!(outcome.stdout, "listens\n", "{outcome:?}");
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
