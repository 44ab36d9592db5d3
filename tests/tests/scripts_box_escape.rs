//! Out of scripts/box: a program inside tries for everything that is worth something outside, and gets nothing.
//! A program that reaches docker.sock, for one, is root.

use std::fs;

use chainroot_tests::{Person, have, skip};

fn attacker(name: &str) -> String {
    format!("{}/escape/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Sockets, files and processes outside; what the script says, with `$outside` a process and `$port` a port of its own.
fn among_canaries(person: &Person, script: &str) -> chainroot_tests::Outcome {
    let (canaries, program) = (attacker("canaries.py"), attacker("out_of_a_box.py"));
    person.sh(&format!(
        "where=$(cd ..; pwd)/seen.$$ base=seen.$$; mkdir $where ~/.ssh ~/.aws ~/.config ~/.config/gh ~/more
        for file in .ssh/id .aws/credentials .bashrc .netrc .config/gh/hosts.yml secret $base/secret; do echo canary >~/$file; done
        echo canary | tee /tmp/$base.canary >/dev/shm/$base.canary
        cp {program} attacker.py; mkfifo ../up
        CANARY=canary python3 {canaries} $where >../up & outside=$!
        trap 'kill $outside; rm -f /tmp/$base.* /dev/shm/$base.*' EXIT
        read ready <../up; port=$(cat $where/port); ln ~/more/ssh-agent ~/more/hardlink
        CANARY=canary; export CANARY; exec 7<../secret 8<..
        {script}
        cat $where/reached 2>/dev/null; true"
    ))
}

#[test]
fn nothing_outside_is_reached() {
    if !have("python3") {
        skip!("no python3");
    }
    let person = Person::new();
    // Without a box all of it is to be had: the canaries sing.
    let outcome = among_canaries(
        &person,
        "cd ~/work; python3 attacker.py $HOME $where $port $outside >../all 2>&1 || :; grep -c reached ../all; rm -f $where/reached",
    );
    let reached: u32 = outcome.stdout.lines().next().and_then(|line| line.parse().ok()).unwrap_or(0);
    assert!(reached >= 12, "{outcome:?} {:?}", fs::read_to_string(person.home().join("all")));
    let person = Person::new();
    among_canaries(&person, "box -w ~/more python3 attacker.py $HOME $where $port $outside").expect(0, "");
    let bashrc = fs::read_to_string(person.home().join(".bashrc")).expect("the start-up file");
    assert_eq!(bashrc, "canary\n");
}

#[test]
fn a_socket_is_shown_where_its_name_is_asked_for() {
    if !have("python3") {
        skip!("no python3");
    }
    let person = Person::new();
    let connect = "python3 -c 'import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])'";
    among_canaries(
        &person,
        &format!(
            "box -w ~/more -r ~/more/wayland-0 {connect} ~/more/wayland-0; SSH_AUTH_SOCK=$HOME/more/ssh-agent; export SSH_AUTH_SOCK
            box -A sh -c \"$(cat <<'END'\n{connect} $SSH_AUTH_SOCK\nEND\n)\"; while [ $(wc -l <$where/reached) -lt 2 ]; do sleep 0.01; done"
        ),
    )
    .expect(0, "more/wayland-0\nmore/ssh-agent\n");
    person.sh("unset SSH_AUTH_SOCK; box -A true").expect_refusal(&["-A: there is no ssh-agent"]);
}
