//! scripts/bridge-net: two containers on one bridge.

use chainroot_tests::{Outcome, Work, busybox_image, is_root, script, skip};

/// Runs a script in a network of its own, and with a /run of its own for ip's names; None, and why, where
/// there is no bridge-net.
fn in_own_network(commands: &str) -> Option<Outcome> {
    let work = Work::new();
    let own = |commands: &str| {
        let prepare = "set -e\nmount -t tmpfs none /run\nip link set lo up\nPATH=$SCRIPTS:$PATH";
        std::fs::write(work.join("commands"), format!("{prepare}\n{commands}")).expect("write");
        let scripts = script("bridge-net").replace("/bridge-net", "");
        work.sh(&format!("SCRIPTS={scripts} unshare --net --mount --propagation private sh commands"))
    };
    if !is_root() {
        eprintln!("skipped: needs root");
        return None;
    }
    if own("ip link add name chain0 type bridge; ip link add name one type veth peer name two").status != 0 {
        eprintln!("skipped: the kernel has no bridge or no veth");
        return None;
    }
    Some(own(commands))
}

#[test]
fn two_containers_talk_over_a_bridge() {
    let container = "-- pivot --ephemeral --dev ./root -- mountclean --";
    let Some(outcome) = in_own_network(&format!(
        r#"unpack --quiet '{}' >/dev/null
            bridge-net add web 10.88.0.2/24
            bridge-net add client 10.88.0.3/24
            mkfifo ready
            isolate --join net=/run/netns/web -- isolate --pid --init --uts {container} \
                sh -c 'echo from the web >/tmp/index.html; httpd -h /tmp -p 80 && echo listening; exec sleep 60' >ready &
            read -r line <ready
            echo "$line"
            isolate --join net=/run/netns/client -- isolate --pid --uts {container} wget -q -O - http://10.88.0.2/index.html
            wget -q -O - http://10.88.0.2/index.html
            kill $!
            wait $! || :
            bridge-net del web
            ip -o link show master chain0 | wc -l
            bridge-net del client
            ip -o link show type bridge
            ls /run/netns"#,
        busybox_image().display()
    )) else {
        return;
    };
    outcome.expect(0, "listening\nfrom the web\nfrom the web\n1\n");
}

#[test]
fn half_a_network_is_taken_away_again() {
    // An ip whose Nth call that changes something fails, or ends the script by a signal.
    let Some(outcome) = in_own_network(
        r#"mkdir bin
            cat >bin/ip <<'END'
#!/bin/sh
case "$*" in *' show'* | 'netns list') exec "$IP" "$@" ;; esac
calls=$(($(cat calls) + 1)); echo $calls >calls
[ $calls != "$LAST" ] || { [ "$HOW" = fail ] || kill -$HOW $PPID; exit 1; }
exec "$IP" "$@"
END
            chmod +x bin/ip
            export IP=$(command -v ip) LAST HOW
            state() { $IP -o link | wc -l; $IP netns; }
            set +e
            state >before
            for HOW in fail TERM INT HUP; do
                LAST=1
                until echo 0 >calls; PATH=$PWD/bin:$PATH bridge-net add web 10.88.0.2/24 2>/dev/null; do
                    state | cmp - before; LAST=$((LAST + 1))
                done
                echo $((LAST > 10)); bridge-net del web
            done
            state | cmp - before"#,
    ) else {
        return;
    };
    outcome.expect(0, "1\n1\n1\n1\n");
}

/// What is in the network of the test, and the namespaces; afterwards the same as before.
const STATE: &str = "state() { ip -d -o link | sed 's/^[0-9]*: //; s/ state .*alias/ alias/' | cut -d ' ' -f 1; ip -o -4 addr; ip netns; }";

#[test]
fn it_deletes_only_what_it_made() {
    // The administrator's: a bridge, a cable and a namespace with the names that ours would have, a way out.
    let Some(outcome) = in_own_network(&format!(
        "{STATE}
            ip link add name br0 type bridge; ip addr add 192.168.7.254/24 dev br0
            ip link add name c-web type veth peer name away; ip netns add mine
            ip link add name eth0 type veth peer name far; ip addr add 10.1.0.9/24 dev eth0
            state >before
            set +e
            for line in 'add web 192.168.7.9/24 br0' 'del web br0' 'del mine' 'del nosuch' 'del nosuch br0' \
                'add db 10.88.0.2/24 eth0' 'add db 10.1.0.2/16' 'add mine 10.88.0.2/24' 'add db 10.88.0.2/24 br0' \
                'add - 10.88.0.2/24' 'add .. 10.88.0.2/24' 'add db 10.88.0.2/24 ..'; do
                bridge-net $line 2>>errors
                [ $? = 125 ] || echo \"$line: not refused\"
                state | cmp -s - before || echo \"$line: changed something\"
            done
            [ $(grep -vc '^bridge-net: ' errors) = 0 ] || cat errors
            bridge-net add db 192.168.7.9/24 br0 && ip -n db route show default
            bridge-net del db
            state | cmp - before && echo as before"
    )) else {
        return;
    };
    outcome.expect(0, "default via 192.168.7.254 dev eth0 \nas before\n");
}

/// https://github.com/lxc/lxc/issues/604, https://github.com/moby/moby/issues/38942: what a container leaves behind it, the others keep.
#[test]
fn a_network_is_as_long_as_it_says_and_each_address_is_given_once() {
    let Some(outcome) = in_own_network(
        "route() { bridge-net add $1 $2 $3 && ip -n $1 -o route show default; }
            route a 10.88.0.2/24 chain0; route b 10.88.0.3/24 chain0
            route c 10.90.3.77/16 chain1; route d 10.91.0.200/25 chain2; route e 10.91.0.2/30 chain3
            ip -4 -o addr show | sed 's/ scope.*//; s/.*chain/chain/'
            # Its own address stays when the cable with the lowest one leaves.
            before=$(ip -o link show chain0 | sed 's/.*ether//')
            for name in a c d e; do bridge-net del $name; done
            [ \"$(ip -o link show chain0 | sed 's/.*ether//')\" = \"$before\" ] && echo the same
            set +e
            for wrong in 10.88.0.1/24 10.88.0.0/24 10.88.0.255/24 10.88.0.3/24 10.88.1.2/24 10.88.0.2/16 10.88.0.2/32 \
                10.88.0.256/24 10.88.0.02/24 10.88.0/24 10.88.0.2 10.88.0.2/33 x; do
                bridge-net add x $wrong 2>>errors; [ $? = 125 ] || echo $wrong: not refused
            done
            [ $(grep -c '^bridge-net: ' errors) = 13 ] || cat errors
            ip netns; ip -o link show type bridge | wc -l",
    ) else {
        return;
    };
    outcome.expect(
        0,
        "default via 10.88.0.1 dev eth0 \ndefault via 10.88.0.1 dev eth0 \ndefault via 10.90.0.1 dev eth0 \n\
         default via 10.91.0.129 dev eth0 \ndefault via 10.91.0.1 dev eth0 \n1: lo    inet 127.0.0.1/8\n\
         chain0    inet 10.88.0.1/24\nchain1    inet 10.90.0.1/16\nchain2    inet 10.91.0.129/25\n\
         chain3    inet 10.91.0.1/30\nthe same\nb (id: 1)\n1\n",
    );
}

/// https://github.com/docker/for-linux/issues/418: a VPN's default in two halves is in no network's way.
#[test]
fn a_network_that_the_host_reaches_in_another_way_is_refused() {
    let Some(outcome) = in_own_network(
        "ip link add name tun type veth peer name far; ip link set tun up; ip link set far up
            ip addr add 10.8.0.6 peer 10.8.0.5/32 dev tun; ip route add 10.77.0.0/16 via 10.8.0.5
            ip route add unreachable 10.5.5.5; ip route add 0.0.0.0/1 via 10.8.0.5; ip route add 128.0.0.0/1 via 10.8.0.5
            set +e; ip -o link | wc -l
            for taken in 10.8.0.2/24 10.77.3.2/24 10.5.5.2/24 10.64.0.2/10; do
                bridge-net add web $taken 2>>errors; [ $? = 125 ] || echo $taken: not refused
            done
            sed 's/^bridge-net: //; s/ by a .*//' errors
            bridge-net add web 10.9.0.2/24 && bridge-net del web; ip -o link | wc -l",
    ) else {
        return;
    };
    let said = "10.8.0.0/24: tun of this host is in that network (10.8.0.6/32)\n\
        10.77.3.0/24: this host reaches 10.77.0.0/16\n10.5.5.0/24: this host reaches 10.5.5.5/32\n\
        10.64.0.0/10: this host reaches 10.77.0.0/16\n";
    outcome.expect(0, &format!("3\n{said}3\n"));
}

#[test]
fn a_name_with_a_dot_is_no_pattern() {
    let Some(outcome) = in_own_network(
        "bridge-net add axb 10.88.0.2/24; bridge-net add a.b 10.88.0.3/24; ip netns | cut -d ' ' -f 1 | sort
            bridge-net del a.b; bridge-net del a.b 2>&1 || echo $?; bridge-net del axb; ip -o link | wc -l",
    ) else {
        return;
    };
    outcome.expect(0, "a.b\naxb\nbridge-net: a.b: no such network namespace\n125\n1\n");
}

#[test]
fn twenty_five_rounds_of_two_side_by_side_leave_nothing_and_fail_nowhere() {
    let Some(outcome) = in_own_network(
        "set +e
            both() { bridge-net $1 a $2 & first=$!; bridge-net $1 b $3 || echo failed; wait $first || echo failed; }
            for round in $(seq 25); do both add 10.88.0.2/24 10.88.0.3/24; both del '' ''; done
            # Of two that want one name, one gets it.
            for round in 1 2 3; do
                bridge-net add a 10.88.0.2/24 2>/dev/null & first=$!
                bridge-net add a 10.88.0.3/24 2>/dev/null && echo one; wait $first && echo one
                bridge-net del a
            done
            ip -o link | wc -l; ip netns",
    ) else {
        return;
    };
    outcome.expect(0, "one\none\none\n1\n");
}

#[test]
fn an_ordinary_user_is_told_that_it_needs_root() {
    let work = Work::new();
    let outcome = if is_root() {
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
