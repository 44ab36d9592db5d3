//! scripts/container: what docker run --rm gives, and no way out of it.

use chainroot_tests::{Outcome, Work, busybox_image, have, image_of, is_root, needs_root, script, skip};

/// Runs the script on the busybox image, with its cache in the test's directory.
fn container(work: &Work, options: &str, command: &str) -> Outcome {
    let outcome = work.sh(&line(options, &format!("'{}' {command}", busybox_image().display())));
    Outcome { stderr: without_note(&outcome.stderr), ..outcome }
}

fn line(options: &str, rest: &str) -> String {
    format!("export XDG_CACHE_HOME=$PWD/cache; {} {options} {rest}", script("container"))
}

/// Where an ordinary user has no cgroup, it says so.
fn without_note(stderr: &str) -> String {
    stderr
        .lines()
        .filter(|line| !line.starts_with("container: no cgroup is delegated"))
        .map(|l| format!("{l}\n"))
        .collect()
}

#[test]
fn a_command_runs_alone_and_its_changes_are_gone() {
    let work = Work::new();
    let look =
        "sh -c 'echo $$; hostname; cat /etc/image; ip -o link | wc -l; echo changed >/etc/image; cat /etc/image'";
    for _ in 0..2 {
        let outcome = container(&work, "", look);
        outcome.expect(0, "1\ncontainer\nbusybox\n1\nchanged\n");
        assert_eq!(outcome.stderr, "");
    }
    // Both used one root.
    work.sh("ls -d cache/chainroot/*[0-9] | wc -l").expect(0, "1\n");
}

#[test]
fn exit_statuses_and_input_pass() {
    let work = Work::new();
    container(&work, "", "sh -c 'exit 7'").expect(7, "");
    container(&work, "", "no-such-command").expect(127, "");
    container(&work, "", "/etc/passwd").expect(126, "");
    container(&work, "-p 64", "sh -c 'kill -9 $$; (kill -9 $(sh -c \"echo \\$PPID\")); echo $?'").expect(0, "137\n");
    let image = busybox_image();
    let cat = line("", &format!("'{}' cat", image.display()));
    work.with_input("sh", &cat, b"data\n").expect(0, "data\n");
    container(&work, "", "printf '%s|' -v --help 'a  b' \"it's\"").expect(0, "-v|--help|a  b|it's|");
}

#[test]
fn nothing_of_the_callers_environment_gets_in() {
    let work = Work::new();
    let outcome = work.sh(&format!(
        "export TOKEN=secret TERM=dumb; {}",
        line(
            "-e 'A=b  c' -e D=",
            &format!("'{}' sh -c 'env | grep -v ^PWD= | grep -v ^SHLVL= | sort'", busybox_image().display())
        )
    ));
    outcome.expect(
        0,
        "A=b  c\nD=\nHOME=/root\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nTERM=dumb\n",
    );
}

#[test]
fn volumes_are_what_is_shared() {
    let work = Work::new();
    assert_eq!(work.sh("mkdir data 'read only'; echo in >data/in; echo in >'read only/in'").status, 0);
    let options = "-v ./data:/data -v './read only:/ro:ro' -w /data";
    let command = "sh -c 'pwd; cat in; echo out >out; cat /ro/in; (echo x >/ro/x) 2>/dev/null || echo read-only'";
    container(&work, options, command).expect(0, "/data\nin\nin\nread-only\n");
    assert_eq!(std::fs::read_to_string(work.join("data/out")).expect("out"), "out\n");
}

#[test]
fn another_user_of_the_image_can_be_named() {
    needs_root!();
    let work = Work::new();
    container(&work, "-u 12:34", "id").expect(0, "uid=12 gid=34\n");
    container(&work, "-u 12", "sh -c 'id -u; id -g'").expect(0, "12\n12\n");
}

/// An OCI layout of busybox with this configuration, in the work's directory as "layout".
fn layout(work: &Work, config: &str) {
    let make = format!(
        "umoci init --layout layout && umoci new --image layout:tag &&
        umoci raw add-layer --image layout:tag '{}' && umoci config --image layout:tag {config}",
        busybox_image().display()
    );
    assert_eq!(work.sh(&make).status, 0);
}

#[test]
fn what_the_image_says_is_run() {
    if !have("umoci") {
        skip!("no umoci");
    }
    let work = Work::new();
    layout(&work, "--config.entrypoint echo --config.cmd default --config.env A=b --config.workingdir /var");
    work.sh(&line("", "layout")).expect(0, "default\n");
    work.sh(&line("", "layout typed words")).expect(0, "typed words\n");
}

#[test]
fn the_images_entrypoint_can_be_left_out() {
    if !have("umoci") {
        skip!("no umoci");
    }
    let work = Work::new();
    layout(&work, "--config.entrypoint false");
    work.sh(&line("", "layout echo typed")).expect(1, "");
    work.sh(&line("-x", "layout echo typed")).expect(0, "typed\n");
}

#[test]
fn the_root_can_be_read_only_and_the_hostname_another() {
    let work = Work::new();
    assert_eq!(work.sh("mkdir data").status, 0);
    let write = "sh -c 'hostname; for dir in / /etc /root /tmp /data; do (echo x >$dir/new) 2>/dev/null && echo $dir; done; true'";
    container(&work, "-r -H web -v ./data:/data", write).expect(0, "web\n/tmp\n/data\n");
}

#[test]
fn the_terminal_is_the_callers() {
    let work = Work::new();
    let mut terminal = work.terminal("sh", &[]);
    terminal.prompt();
    let run = line("-H web", &format!("'{}' sh -c 'test -t 0 && stty size; hostname'", busybox_image().display()));
    let output = terminal.run(&run);
    assert!(output.contains("24 80\r\nweb\r\n"), "{output}");
    terminal.send("exit\n");
    assert_eq!(terminal.end().1, 0);
}

/// A server on the host's loopback, which through pasta is the gateway, and the line `$@` with a fetch from it at its end.
const FETCH: &str = r#"
import http.server, subprocess, sys, threading
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"from the host")
    def log_message(self, *args): pass
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
fetch = "wget -q -O - http://$(ip route | sed -n 's/^default via \\([^ ]*\\).*/\\1/p'):%d/ || echo unreachable" % server.server_port
sys.exit(subprocess.run(sys.argv[1:] + ["sh", "-c", fetch]).returncode)
"#;

#[test]
fn there_is_no_network_unless_pasta_brings_it() {
    if !have("pasta") || !have("python3") || !have("ip") {
        skip!("no pasta, python3 or ip");
    }
    let work = Work::new();
    if work.sh("ip route | grep -q ^default").status != 0 {
        skip!("no default route");
    }
    std::fs::write(work.join("fetch.py"), FETCH).expect("write");
    // What root's pasta mounts for a while is nobody else's to see.
    let shell = if is_root() { "unshare --mount sh" } else { "sh" };
    let run = |options: &str| {
        let (container, image) = (script("container"), busybox_image());
        let fetch = format!("python3 fetch.py {container} {options} '{}'", image.display());
        work.shell(shell, &format!("export XDG_CACHE_HOME=$PWD/cache; {fetch}"))
    };
    run("").expect(0, "unreachable\n");
    let outcome = run("-n pasta");
    if outcome.stderr.contains("/dev/net/tun") {
        skip!("no tun device to be had");
    }
    outcome.expect(0, "from the host");
}

#[test]
fn another_image_at_the_same_place_is_another_root() {
    let work = Work::new();
    for name in ["one", "two"] {
        image_of(&work.join("image.tar"), &format!("echo {name} >etc/image"));
        work.sh(&line("", "image.tar cat /etc/image")).expect(0, &format!("{name}\n"));
    }
}

#[test]
fn limits_hold() {
    needs_root!();
    let work = Work::new();
    let big = "sh -c 'dd if=/dev/zero of=/dev/null bs=100M count=1 2>/dev/null; echo $?'";
    container(&work, "-m 64M", big).expect(0, "137\n");
    container(&work, "-m 256M", big).expect(0, "0\n");
    let bomb = container(
        &work,
        "-p 16",
        "sh -c 'for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17; do sleep 100 & done; echo all'",
    );
    assert!(!bomb.stdout.contains("all") && bomb.stderr.contains("limit of processes"), "{bomb:?}");
}

#[test]
fn an_image_that_is_not_there_is_an_error() {
    let work = Work::new();
    let outcome = work.sh(&line("", "no-such.tar true"));
    outcome.expect(125, "");
    assert!(outcome.stderr.contains("no-such.tar"), "{}", outcome.stderr);
}

/// Builds tests/escape/escape.c into ./volume, and puts a file beside it that nobody inside may read.
fn escape(work: &Work) -> bool {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/escape/escape.c");
    work.sh(&format!("mkdir volume && cc -static -O1 -o volume/escape '{source}' && echo the host >secret")).status == 0
}

/// No attempt succeeded, and none failed for a reason that has nothing to do with permission.
#[track_caller]
fn all_refused(outcome: &Outcome) {
    assert_eq!(outcome.status, 0, "{outcome:?}");
    let (mut refused, mut other) = (0, Vec::new());
    for line in outcome.stdout.lines() {
        match line.split(' ').next() {
            Some("refused") => refused += 1,
            _ => other.push(line),
        }
    }
    assert!(refused >= 50 && other.is_empty(), "{refused} were refused, but: {other:#?}");
}

const HOST: &str = "for name in unpack isolate pivot mountclean; do f=$(command -v $name); stat -c '%n %a %u %s %Y %Z' $f; sha256sum $f; done; cat /proc/sys/kernel/core_pattern";

macro_rules! needs_escape {
    ($work:expr) => {
        if !escape(&$work) {
            skip!("no cc that links statically");
        }
    };
}

#[test]
fn nothing_gets_out() {
    let work = Work::new();
    needs_escape!(work);
    let before = work.sh(HOST).stdout;
    // With a volume, which is the host's filesystem, and with descriptors of the caller's open on it.
    let attack = "/volume/escape \"$PWD/secret\" 7</ 8<secret 9<.";
    all_refused(&container(&work, "-v ./volume:/volume", attack));
    assert_eq!(work.sh(HOST).stdout, before);
}

#[test]
fn nothing_gets_out_as_another_user() {
    needs_root!();
    let work = Work::new();
    needs_escape!(work);
    all_refused(&container(&work, "-u 65534 -v ./volume:/volume", "/volume/escape \"$PWD/secret\""));
}

#[test]
fn nothing_gets_out_past_an_init_that_waits_inside() {
    let work = Work::new();
    needs_escape!(work);
    let before = work.sh(HOST).stdout;
    // The line of the script, where PID 1 is a binary of the host's.
    let line = format!(
        "unpack --quiet '{}' >/dev/null && isolate {} --pid --init --uts --ipc --net --cgroup -- \
         pivot --ephemeral --dev --bind ./volume:/volume ./root -- mountclean --mask -- \
         isolate --cap-drop ALL --no-new-privs --seccomp default -- /volume/escape \"$PWD/secret\"",
        busybox_image().display(),
        work.user()
    );
    all_refused(&work.sh(&line));
    assert_eq!(work.sh(HOST).stdout, before);
}

#[test]
fn nothing_is_typed_into_the_callers_terminal() {
    let work = Work::new();
    needs_escape!(work);
    let mut terminal = work.terminal("sh", &[]);
    terminal.prompt();
    let run = line("-v ./volume:/volume", &format!("'{}' /volume/escape \"$PWD/secret\"", busybox_image().display()));
    let output = terminal.run(&run);
    for name in ["terminal_input", "terminal_paste", "terminal_input_64"] {
        assert!(output.contains(&format!("refused {name}: ")), "{name}:\n{output}");
    }
    assert!(!output.contains("ESCAPED"), "{output}");
    // An injected x would be before the next words.
    let next = terminal.run("echo do''ne");
    assert!(next.contains("done\r\n") && !next.contains("not found"), "{next}");
    terminal.send("exit\n");
    assert_eq!(terminal.end().1, 0);
}

#[test]
fn without_the_sandbox_the_same_attempts_succeed() {
    let work = Work::new();
    needs_escape!(work);
    let line = format!(
        "unpack --quiet '{}' >/dev/null && isolate {} --pid --uts -- pivot --dev --bind ./volume:/volume ./root -- \
         mountclean -- /volume/escape \"$PWD/secret\"",
        busybox_image().display(),
        work.user()
    );
    let outcome = work.sh(&line);
    let mut names =
        vec!["capabilities", "new_privs", "no_filter", "mountns", "mount_tmpfs", "keyring", "steal_descriptors"];
    if is_root() {
        names.extend(["volume_by_handle", "core_pattern"]);
    }
    for name in names {
        assert!(outcome.stdout.contains(&format!("ESCAPED {name}\n")), "{name} in\n{}", outcome.stdout);
    }
}
