//! scripts/bridge-net: two containers on one bridge.

use chainroot_tests::{Work, busybox_image, needs_root, script, skip};

/// Runs a script in a network of its own, and with a /run of its own for ip's names.
fn in_own_network(work: &Work, commands: &str) -> chainroot_tests::Outcome {
    std::fs::write(work.join("commands"), format!("set -e\nmount -t tmpfs none /run\nip link set lo up\n{commands}"))
        .expect("write");
    work.sh("unshare --net --mount --propagation private sh commands")
}

fn have_bridges(work: &Work) -> bool {
    in_own_network(work, "ip link add name chain0 type bridge && ip link add name one type veth peer name two").status
        == 0
}

#[test]
fn two_containers_talk_over_a_bridge() {
    needs_root!();
    let work = Work::new();
    if !have_bridges(&work) {
        skip!("the kernel has no bridge or no veth");
    }
    let bridge_net = script("bridge-net");
    let container = "-- pivot --ephemeral --dev ./root -- mountclean --";
    let outcome = in_own_network(
        &work,
        &format!(
            r#"unpack --quiet '{}' >/dev/null
            {bridge_net} add web 10.88.0.2/24
            {bridge_net} add client 10.88.0.3/24
            mkfifo ready
            isolate --join net=/run/netns/web -- isolate --pid --init --uts {container} \
                sh -c 'echo from the web >/tmp/index.html; httpd -h /tmp -p 80 && echo listening; exec sleep 60' >ready &
            read -r line <ready
            echo "$line"
            isolate --join net=/run/netns/client -- isolate --pid --uts {container} wget -q -O - http://10.88.0.2/index.html
            wget -q -O - http://10.88.0.2/index.html
            kill $!
            wait $! || :
            {bridge_net} del web
            ip -o link show master chain0 | wc -l
            {bridge_net} del client
            ip -o link show type bridge
            ls /run/netns"#,
            busybox_image().display()
        ),
    );
    outcome.expect(0, "listening\nfrom the web\nfrom the web\n1\n");
}

#[test]
fn half_a_network_is_taken_away_again() {
    needs_root!();
    let work = Work::new();
    if !have_bridges(&work) {
        skip!("the kernel has no bridge or no veth");
    }
    let bridge_net = script("bridge-net");
    let outcome = in_own_network(
        &work,
        &format!("{bridge_net} add web 10.88.0.999/24 2>/dev/null || ls /run/netns; ip -o link | wc -l"),
    );
    // Loopback is left, and nothing else.
    outcome.expect(0, "1\n");
}

#[test]
fn an_ordinary_user_is_told_that_it_needs_root() {
    let work = Work::new();
    let outcome = if chainroot_tests::is_root() {
        work.sh(&format!("setpriv --reuid 65534 --clear-groups -- sh {} add web 10.88.0.2/24", script("bridge-net")))
    } else {
        work.sh(&format!("{} add web 10.88.0.2/24", script("bridge-net")))
    };
    if outcome.stderr.contains("Permission denied") {
        skip!("the scripts cannot be read by others");
    }
    outcome.expect(125, "");
    assert!(outcome.stderr.contains("needs root"), "{}", outcome.stderr);
}
