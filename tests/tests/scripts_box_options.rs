//! What opens scripts/box or closes it further: networks, limits, nesting, files that are hidden.

use chainroot_tests::{Person, have, skip};

#[test]
fn there_is_no_network_unless_it_is_asked_for() {
    let person = Person::new();
    person.sh("box sh -c 'ls /proc/sys/net/ipv4/conf; cat /proc/net/route | wc -l'").expect(0, "all\ndefault\nlo\n1\n");
    let host = person.sh("box -n host readlink /proc/self/ns/net; readlink /proc/self/ns/net");
    let mut lines = host.stdout.lines();
    assert_eq!((host.status, lines.next()), (0, lines.next()), "{host:?}");
    assert!(host.stderr.contains("127.0.0.1") && host.stderr.contains("abstract sockets"), "{host:?}");
    person.sh("box -n nothing true").expect_refusal(&["-n nothing: pasta, host, or the socket"]);
}

/// https://github.com/anthropic-experimental/sandbox-runtime/issues/213: a path of more than 108 bytes is no socket's address.
#[test]
fn a_proxys_socket_is_the_only_way_out_whatever_its_path() {
    if !have("python3") {
        skip!("no python3");
    }
    let person = Person::new();
    let deep = "d".repeat(120);
    let outcome = person.sh(&format!(
        r#"mkdir ../{deep}; mkfifo ../up; cat >../proxy.py <<'END'
import os, socket
os.chdir("../{deep}")
server = socket.socket(socket.AF_UNIX)
server.bind("proxy")
server.listen()
print("up", flush=True)
for _ in range(2):
    client = server.accept()[0]
    line = client.recv(1000).split(b"\r\n")[0]
    client.sendall(b"HTTP/1.0 200 OK\r\n\r\nproxied " + line + b"\n")
    client.close()
END
        python3 ../proxy.py >../up & read up <../up
        cat >get.py <<'END'
import os, sys, urllib.request
print(urllib.request.urlopen("http://example.com/x").read().decode(), end="")
END
        box -n ../{deep}/proxy python3 get.py; box -n ../{deep}/proxy sh -c 'python3 get.py; ls /proc/sys/net/ipv4/conf | tail -n 1; exit 3'; echo $?; wait"#
    ));
    let answer = "proxied GET http://example.com/x HTTP/1.1\n";
    outcome.expect(0, &format!("{answer}{answer}lo\n3\n"));
    person.sh(&format!("cd ../{deep} && box -n proxy no-such-command")).expect(127, "");
}

#[test]
fn pasta_has_names_and_routes_but_not_the_hosts_loopback() {
    if !have("pasta") || std::fs::File::options().read(true).write(true).open("/dev/net/tun").is_err() {
        skip!("no tun device");
    }
    let person = Person::new();
    if person.sh("dd if=/dev/net/tun count=0 2>/dev/null && : 3<>/dev/net/tun").status != 0 {
        skip!("no tun device for this user");
    }
    let outcome = person.sh("box -n pasta sh -c 'grep nameserver /etc/resolv.conf; grep -c . /proc/net/route'");
    assert!(outcome.status == 0 && outcome.stdout.starts_with("nameserver 169.254.1.1\n"), "{outcome:?}");
}

/// https://github.com/anthropics/claude-code/issues/25603: git stash failed at a device in the place of a file.
#[test]
fn files_with_such_a_name_are_hidden_and_git_works_around_them() {
    let person = Person::new();
    let outcome = person.sh(
        "mkdir -p 'a b/c' keys; echo secret >.env; echo secret >.env.local; echo secret >\"a b/c/it's.pem\"; echo x >other; echo secret >keys/one
        box -x '.env*' -x '*.pem' -x keys sh -c '
            cat .env .env.local \"a b/c/\"*.pem keys/* 2>/dev/null; (echo x >.env) 2>/dev/null && echo wrote; rm -f .env 2>/dev/null && echo removed
            stat -c \"%F %a\" .env; ls keys; cat other'
        cat .env; box -x '*.none' cat .env",
    );
    outcome.expect(0, "regular empty file 0\nx\nsecret\nsecret\n");
    if have("git") {
        person
            .sh("git config --global user.name me; git config --global user.email me@here
                git init -q; echo .env >.gitignore; git add other .gitignore; git commit -qm one; echo y >>other
                box -x .env sh -c 'git stash -q && git stash pop -q && git commit -qam two && git log --format=%s'")
            .expect(0, "two\none\n");
    }
}

#[test]
fn programs_that_sandbox_themselves_work_where_that_is_allowed() {
    let person = Person::new();
    // Wherever the tools lie: in /var/tmp they are hidden.
    let shown = "box -N -r \"$(dirname \"$(command -v isolate)\")\"";
    person
        .sh(&format!(
            "{shown} sh -c 'isolate --map-root --pid -- pivot --read-only / -- mountclean -- sh -c \"id -u; echo \\$\\$\"'"
        ))
        .expect(0, "0\n1\n");
    if have("bwrap") {
        person
            .sh("box -N bwrap --ro-bind / / --proc /proc --unshare-all id -u >/dev/null && echo works")
            .expect(0, "works\n");
    }
    // What is hidden stays so.
    person.sh("echo canary >~/.netrc; box -N unshare -Urm sh -c 'umount ~ 2>/dev/null; umount -l /home /var/tmp 2>/dev/null; cat ~/.netrc 2>/dev/null'; true")
        .expect(0, "");
    assert_ne!(person.sh("box unshare -Ur true 2>/dev/null").status, 0);
}

#[test]
fn processes_and_core_dumps_are_limited_without_a_cgroup() {
    let person = Person::new();
    person
        .sh("box sh -c 'grep -E \"^Max (processes|core|address)\" /proc/self/limits' | tr -s ' ' | cut -d ' ' -f 3-6")
        .expect(0, "file size 1 1\n4096 4096 processes \nspace unlimited unlimited bytes\n");
    // Less than what the caller may have, it is that.
    person.sh("ulimit -c 0; box sh -c 'ulimit -c'").expect(0, "0\n");
}

/// A limit that was asked for is set, or is an error.
#[test]
fn limits_that_are_asked_for_hold_or_are_an_error() {
    let person = Person::new();
    let outcome = person
        .sh("box -m 64M -p 20 sh -c 'echo ran; dd if=/dev/zero of=/dev/null bs=200M count=1 2>/dev/null; echo $?'");
    match outcome.status {
        0 => assert_eq!(outcome.stdout, "ran\n137\n", "{outcome:?}"),
        _ => {
            outcome.expect_refusal(&["box: ", "hint: "]);
        }
    }
    person.sh("box -m many true").expect(125, "");
}
