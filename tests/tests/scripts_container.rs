//! scripts/container: what docker run --rm gives, and no way out of it.

use chainroot_tests::{
    Outcome, Work, busybox_image, but_for_old_kernels, debian_image, have, image_of, is_root, needs_root, script, skip,
};

/// Runs the script on the busybox image, with its cache in the test's directory.
fn container(work: &Work, options: &str, command: &str) -> Outcome {
    let outcome = work.sh(&line(options, &format!("'{}' {command}", busybox_image().display())));
    Outcome { stderr: without_note(&but_for_old_kernels(&outcome.stderr)), ..outcome }
}

fn line(options: &str, rest: &str) -> String {
    format!("export XDG_CACHE_HOME=$PWD/cache; {} {options} {rest}", script("container"))
}

/// Where an ordinary user has no cgroup, it says so.
fn without_note(stderr: &str) -> String {
    let lines: Vec<&str> = stderr.lines().collect();
    // The note, isolate's reason, and its hint.
    let skipped = lines.iter().position(|line| line.starts_with("container: running WITHOUT")).map(|at| at..at + 3);
    let kept = lines.iter().enumerate().filter(|(at, _)| !skipped.as_ref().is_some_and(|note| note.contains(at)));
    kept.map(|(_, line)| format!("{line}\n")).collect()
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
    // One that runs is kept, and the rest goes.
    work.sh(&format!(
        "mkfifo ready hold; {} sh -c 'echo; cat' <hold >ready & exec 4>hold; read -r line <ready; {prune}; ls cache/chainroot | wc -l
        exec 4>&-; wait; {prune}; ls cache/chainroot | wc -l",
        line("", &format!("'{}'", busybox_image().display())),
        prune = line("", "--prune")
    ))
    .expect(0, "2\n0\n");
}

#[test]
fn what_was_asked_for_and_cannot_be_had_is_an_error() {
    let work = Work::new();
    for (options, words) in [
        ("-m 512MB", "512MB"),
        ("-p many", "many"),
        ("-c none", "none"),
        ("-n host", "pasta, or the FILE"),
        ("-e 1x=2", "not a variable"),
        ("-e =2", "not a variable"),
        ("-u 4294967295", "out of range"),
    ] {
        let outcome = container(&work, options, "echo started");
        outcome.expect(125, "");
        assert!(outcome.stderr.contains(words), "{options}: {outcome:?}");
    }
    // An ordinary user without a delegated cgroup: the default is missed with a word, what was asked for is an error.
    if is_root() {
        let user =
            format!("setpriv --reuid=65534 --regid=65534 --clear-groups env HOME=$PWD/home {}", script("container"));
        let image = "cp '{}' image.tar && mkdir home && chown 65534 home && chmod 755 . && ";
        let make = image.replace("{}", &busybox_image().display().to_string());
        let outcome = work.sh(&format!("{make} {user} -x image.tar echo ran"));
        outcome.expect(0, "ran\n");
        assert!(
            outcome.stderr.contains("WITHOUT the usual limits") && outcome.stderr.contains("hint: "),
            "{outcome:?}"
        );
        let outcome = work.sh(&format!("{user} -p 10 -x image.tar echo ran"));
        outcome.expect(125, "");
        assert!(outcome.stderr.starts_with("container: "), "{outcome:?}");
    }
}

#[test]
fn a_variable_of_the_callers_passes_by_its_name() {
    let work = Work::new();
    let run = line(
        "-e NAMED -e NOT_THERE -e 'TWO=a",
        &format!("b' '{}' -- sh -c 'echo \"$NAMED|${{NOT_THERE-none}}|$TWO\"'", busybox_image().display()),
    );
    work.sh(&format!("export NAMED=\"it's \\$HOME; here\"; {}", run.replace("'TWO=a ", "'TWO=a\n")))
        .expect(0, "it's $HOME; here|none|a\nb\n");
}

/// ps(1) shows every user of the machine what a container was started with.
#[test]
fn a_variable_is_on_no_command_line() {
    let work = Work::new();
    let secret = format!("secret-of-{}", std::process::id());
    for given in ["NAMED", "NAMED=$NAMED"] {
        let run = line(&format!("-e {given}"), &format!("'{}' sh -c 'echo $NAMED; cat'", busybox_image().display()));
        std::fs::write(work.join("run"), run).expect("write");
        let mut command = work.command("sh");
        command
            .arg("run")
            .env("NAMED", &secret)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped());
        let mut child = command.spawn().expect("spawn");
        let mut said = String::new();
        let mut output = std::io::BufReader::new(child.stdout.take().expect("stdout"));
        std::io::BufRead::read_line(&mut output, &mut said).expect("a line");
        assert_eq!(said.trim_end(), secret);
        let shown = work.sh("cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' | grep -e secret-o[f] -e ^--env=");
        assert_eq!(shown.stdout.lines().filter(|line| line.contains(&secret)).count(), 0, "{shown:?}");
        // Those that wait for it are among them.
        assert!(shown.stdout.contains("--env=NAMED\n"), "{shown:?}");
        drop(child.stdin.take());
        assert!(child.wait().expect("wait").success());
    }
}

/// Not even for the moment in which env(1) starts what it was given.
///
/// https://github.com/flatpak/flatpak-xdg-utils/pull/42: values of variables were on the command line of flatpak-spawn.
#[test]
fn a_variable_of_the_callers_is_never_an_argument() {
    let work = Work::new();
    let recorder = r#"mkdir bin; printf '#!/bin/sh\nprintf "%%s\\n" "$@" >>"${0%%/*}/seen"\nexec %s "$@"\n' "$(command -v env)" >bin/env
        chmod +x bin/env"#;
    assert_eq!(work.sh(recorder).status, 0);
    // A value that is no UTF-8 must not hide where the next name begins.
    let run = line("-e TOKEN", &format!("'{}' sh -c 'env | grep -e TOKEN -e OTHER'", busybox_image().display()));
    work.sh(&format!("PATH=$PWD/bin:$PATH; export TOKEN=secret OTHER=\"$(printf '\\377=')\"; {run}"))
        .expect(0, "TOKEN=secret\n");
    work.sh("grep -c secret bin/seen; grep -x -e --unset=OTHER -e TERM=.* bin/seen | cut -c 1-5")
        .expect(0, "0\n--uns\nTERM=\n");
}

#[test]
fn a_cache_below_a_directory_of_others_is_refused() {
    let work = Work::new();
    let run = |mode: &str| {
        let run = line("", &format!("'{}' echo ran", busybox_image().display()));
        let outcome = work.sh(&format!("mkdir -p above/cache && {mode} && cd above && {run}"));
        let made = work.join("above/cache/chainroot").exists();
        (outcome, made)
    };
    for writable in ["777", "775"] {
        let (outcome, made) = run(&format!("chmod {writable} above"));
        outcome.expect_refusal(&["container: ", "another user owns", "/above or may write there"]);
        assert!(!made, "{outcome:?}");
    }
    // The way that a link leads, and not the one that it lies on.
    let linked = format!("mkdir -m 700 mine; ln -s ../above/cache mine/cache; cd mine; {}", line("", "image true"));
    work.sh(&linked.replace("image", &format!("'{}'", busybox_image().display()))).expect_refusal(&["/above or may"]);
    if is_root() {
        let (outcome, made) = run("chmod 755 above && chown 65534 above");
        outcome.expect_refusal(&["another user owns", "/above or may"]);
        assert!(!made, "{outcome:?}");
        assert_eq!(work.sh("chown 0 above").status, 0);
    }
    // As in /tmp, where nobody renames what is another's.
    run("chmod 1777 above").0.expect(0, "ran\n");
}

#[test]
fn nothing_is_left_in_a_cache_that_was_emptied() {
    let work = Work::new();
    container(&work, "", "true").expect(0, "");
    // What -n pasta puts there.
    let prune = line("", "--prune");
    work.sh(&format!("echo >cache/chainroot/resolv.conf; {prune}; ls -A cache/chainroot")).expect(0, "");
}

#[test]
fn a_caller_that_holds_a_pipe_on_the_input_is_not_waited_for() {
    let work = Work::new();
    work.sh(&format!(
        "mkfifo open; {} <open & exec 4>open; wait $!",
        line("", &format!("'{}' echo ran", busybox_image().display()))
    ))
    .expect(0, "ran\n");
}

#[test]
fn the_callers_other_groups_stay_outside() {
    needs_root!();
    let work = Work::new();
    let run = line("", &format!("'{}' grep Groups /proc/self/status", busybox_image().display()));
    work.sh(&format!("cd . && setpriv --groups 4,27,999 sh -c \"{}\"", run.replace('$', "\\$")))
        .expect(0, "Groups:\t \n");
}

#[test]
fn without_home_root_keeps_roots_in_var_cache_and_a_user_is_told() {
    let work = Work::new();
    let run = format!("env -u HOME -u XDG_CACHE_HOME {} '{}' echo hi", script("container"), busybox_image().display());
    if is_root() {
        let script = format!("mount -t tmpfs none /var/cache && {run} && ls /var/cache");
        work.sh(&format!("unshare --mount sh -c \"{script}\"")).expect(0, "hi\nchainroot\n");
    } else {
        work.sh(&run).expect_refusal(&["neither XDG_CACHE_HOME nor HOME is set"]);
    }
}

#[test]
fn exit_statuses_and_input_pass() {
    let work = Work::new();
    container(&work, "", "sh -c 'exit 7'").expect(7, "");
    container(&work, "", "no-such-command").expect(127, "");
    container(&work, "", "/etc/passwd").expect(126, "");
    // A limit that was asked for takes root, or a group that is delegated.
    let limit = if is_root() { "-p 64" } else { "" };
    container(&work, limit, "sh -c 'kill -9 $$; (kill -9 $(sh -c \"echo \\$PPID\")); echo $?'").expect(0, "137\n");
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
fn a_variable_that_was_given_wins_over_the_images() {
    if !have("umoci") {
        skip!("no umoci");
    }
    let work = Work::new();
    layout(&work, "--config.env LANG=image --config.env ONE=1");
    work.sh(&line("-e LANG=given", "layout sh -c 'echo $LANG $ONE'")).expect(0, "given 1\n");
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

#[test]
fn there_is_no_network_unless_pasta_brings_it_and_then_not_the_hosts_loopback() {
    if !have("pasta") || !have("python3") || !have("ip") {
        skip!("no pasta, python3 or ip");
    }
    let work = Work::new();
    let host = concat!(env!("CARGO_MANIFEST_DIR"), "/escape/net.py");
    let user = if is_root() { "" } else { "--map-root-user" };
    // Not busybox: a static program cannot ask a resolver.
    let Some(image) = debian_image("") else { skip!("no debian image") };
    std::fs::write(work.join("ask"), ASK).expect("write");
    let run = |options: &str| {
        work.sh(&format!(
            "export XDG_CACHE_HOME=$PWD/cache; unshare {user} --net --mount --pid --fork --kill-child --mount-proc \
             timeout -k 1 100 python3 {host} {} {options} -v ./ask:/ask:ro '{}' perl /ask",
            script("container"),
            image.display()
        ))
    };
    run("").expect(0, "nobody nobody nobody nobody");
    let outcome = run("-n pasta");
    if outcome.stderr.contains("/dev/net/tun") {
        skip!("no tun device to be had");
    }
    outcome.expect(0, "neighbour neighbour nobody nobody");
}

const ASK: &str = r#"
use IO::Socket::INET;
print join " ", map {
    my $server = IO::Socket::INET->new(PeerAddr => $_, Timeout => 4);
    print $server "GET / HTTP/1.0\r\n\r\n" if $server;
    my @lines = $server ? <$server> : ("nobody");
    chomp $lines[-1];
    $lines[-1]
} qw(10.99.0.2:80 some.name:80 10.99.0.2:8000 127.0.0.1:8000);
"#;

#[test]
fn apt_get_updates_by_pasta() {
    if !have("pasta") || !have("curl") {
        skip!("no pasta or curl");
    }
    let Some(image) = debian_image("") else { skip!("no Debian image") };
    let work = Work::new();
    if work.sh("timeout 20 curl -sfo /dev/null http://deb.debian.org/debian/dists/bookworm/InRelease").status != 0 {
        skip!("no mirror can be reached");
    }
    // An ordinary user without subordinate ids has no _apt to become.
    let sandbox = if is_root() || have_subordinate_ids(&work) { "" } else { "-o APT::Sandbox::User=root" };
    let update = format!("apt-get -qq {sandbox} -o Acquire::Languages=none update");
    let outcome = work.sh(&format!(
        "timeout -k 1 200 sh -c \"{}\"",
        line(
            "-n pasta",
            &format!("'{}' sh -c '{update} && ls /var/lib/apt/lists | grep -c _Packages'", image.display())
        )
        .replace('$', "\\$")
    ));
    // Its root has files of users that only a user namespace of the caller's knows.
    work.sh(&line("", "--prune")).expect(0, "");
    if outcome.stderr.contains("/dev/net/tun") {
        skip!("no tun device to be had");
    }
    assert!(outcome.status == 0 && outcome.stdout.trim_end() != "0", "{outcome:?}");
}

fn have_subordinate_ids(work: &Work) -> bool {
    work.sh("isolate --map-auto -- true").status == 0
}

#[test]
fn what_follows_dashes_is_the_command_and_errors_begin_with_the_scripts_name() {
    let work = Work::new();
    container(&work, "", "-- echo typed").expect(0, "typed\n");
    container(&work, "", "-- printf '%s|' -- -v").expect(0, "--|-v|");
    for (name, words) in [
        ("container", "no-such.tar true"),
        ("container", "-n host image true"),
        ("ci-sandbox", "no-such.tar . true"),
        ("ci-sandbox", "-e 1x=2 image . true"),
        ("enter", "4194304"),
        ("enter", "init"),
        ("container", "-Z image true"),
        ("container", "-m"),
        ("ci-sandbox", "-Z image . true"),
        ("ci-sandbox", "-t image . true"),
        ("ci-sandbox", "image no-such-directory true"),
        ("enter", "-Z 1"),
        ("enter", "-e"),
    ] {
        let outcome = work.sh(&format!("export XDG_CACHE_HOME=$PWD/cache; {} {words}", script(name)));
        outcome.expect(125, "");
        assert!(outcome.stderr.starts_with(&format!("{name}: ")), "{name} {words}: {outcome:?}");
    }
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
fn nothing_gets_out_of_a_build_step() {
    let work = Work::new();
    needs_escape!(work);
    let before = work.sh(HOST).stdout;
    let image = busybox_image();
    let options = "-v ./volume:/volume";
    all_refused(&work.sh(&format!(
        "export XDG_CACHE_HOME=$PWD/cache; {} {options} '{}' volume ./escape \"$PWD/secret\" 7</ 8<secret 9<. 2>/dev/null",
        script("ci-sandbox"),
        image.display()
    )));
    assert_eq!(work.sh(HOST).stdout, before);
}

#[test]
fn nothing_gets_out_by_who_enters() {
    let work = Work::new();
    needs_escape!(work);
    let before = work.sh(HOST).stdout;
    let privileges = "--cap-drop ALL --no-new-privs --seccomp default";
    for enter in [script("enter") + " $!", format!("isolate --join $! {privileges} --")] {
        let outcome = work.sh(&format!(
            "unpack --quiet '{}' >/dev/null; rm -f up; mkfifo up
            isolate {} --pid --init --uts --ipc --net --cgroup -- \
                pivot --ephemeral --dev --bind ./volume:/volume ./root -- mountclean --mask -- \
                isolate {privileges} -- sh -c 'echo; exec sleep 1000' >up 2>/dev/null & read -r line <up
            {enter} /volume/escape \"$PWD/secret\" 7</ 8<secret 9<. </dev/null; kill $!",
            busybox_image().display(),
            work.user()
        ));
        // COMMAND of the chain, process 2, is the sandbox's own, and so is its program. An attempt does not say whom it traced:
        // PID 1 alone is tried in the test before.
        let own = ["trace_hosts", "read_hosts_memory", "open_hosts_memory", "steal_descriptors", "programs"];
        let is_own =
            |line: &str| line == "found /proc/2/exe" || own.iter().any(|name| line == format!("ESCAPED {name}"));
        let others = outcome.stdout.lines().filter(|line| !is_own(line));
        all_refused(&Outcome { stdout: others.map(|line| format!("{line}\n")).collect(), ..outcome });
    }
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
