//! scripts/box: a command on the machine as it is, kept in one directory. Each test is a row of what it promises.

use std::fs;

use chainroot_tests::{Person, is_root, needs_root, script};

/// uid 0 without capabilities still owns /etc/shadow; git, ssh and MPI look at who they are.
#[test]
fn the_command_runs_as_its_caller_and_is_nobody_else() {
    let person = Person::new();
    let outside = person.sh("id -u; id -g");
    person.sh("box sh -c 'id -u; id -g'").expect(0, &outside.stdout);
    assert_ne!(outside.stdout.lines().next(), Some("0"));
}

#[test]
fn root_needs_another_user_or_the_owner_of_the_directory() {
    needs_root!();
    let person = Person::new();
    let run = |dir: &str, options: &str| {
        person.work.sh(&format!("cd {dir} && {} {options} sh -c 'id -u; id -G; echo made >made'", script("box")))
    };
    fs::create_dir(person.work.join("roots")).expect("a directory");
    run("roots", "").expect_refusal(&["never root", "-u USER"]);
    run("roots", "-u root").expect_refusal(&["never root"]);
    run("roots", "-u no-such-user").expect_refusal(&["no-such-user: no such user"]);
    // 1234, the owner, is no user of this machine's; nobody is.
    run("home/work", "").expect_refusal(&["1234: no such user"]);
    person.work.sh("chown -R nobody: home").expect(0, "");
    let nobody = person.work.sh("id -u nobody; id -g nobody").stdout;
    run("home/work", "").expect(0, &nobody);
    run("home/work", "-u nobody").expect(0, &nobody);
}

#[test]
fn only_root_runs_the_command_as_another_user() {
    Person::new().sh("box -u nobody true").expect_refusal(&["-u: only root"]);
}

#[test]
fn the_system_is_there_and_read_only() {
    let person = Person::new();
    let outcome = person.sh("box sh -c 'cmp /etc/passwd /proc/self/root/etc/passwd && echo same
        for place in /etc /usr /usr/bin /var /opt /boot / /proc/sys/kernel/hostname; do
            [ -d $place ] && file=$place/new || file=$place
            (echo x >$file) 2>/dev/null && echo wrote $file
        done; grep \" / / \" /proc/self/mountinfo | cut -d \" \" -f 6'");
    assert_eq!(outcome.status, 0, "{outcome:?}");
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert_eq!(lines[0], "same");
    assert!(lines.len() == 2 && lines[1].starts_with("ro,nosuid"), "{outcome:?}");
}

#[test]
fn the_directory_is_writable_at_its_own_path() {
    let person = Person::new();
    let dir = person.dir();
    person
        .sh("echo before >file; box sh -c 'pwd; cat file; echo after >file; echo new >new'; cat file new")
        .expect(0, &format!("{}\nbefore\nafter\nnew\n", dir.display()));
    // By a link the real path is meant; tools store it.
    person.sh("ln -s work ../link && cd ../link && box pwd").expect(0, &format!("{}\n", dir.display()));
    person
        .sh("mkdir 'a:b '\"'\"'c,d' && cd a:* && box sh -c 'pwd; echo x >y' && cat y")
        .expect(0, &format!("{}/a:b 'c,d\nx\n", dir.display()));
}

#[test]
fn a_directory_that_holds_what_is_hidden_is_refused() {
    let person = Person::new();
    for (dir, word) in [
        ("/", "/: contains"),
        ("/tmp", "/tmp"),
        ("/home", "/home"),
        ("..", "home: contains"),
        ("../..", "stays hidden"),
    ] {
        person.sh(&format!("cd {dir} && box true")).expect_refusal(&[word]);
    }
    // By whatever name.
    person.sh("ln -s .. up; box -w up true").expect_refusal(&["home: contains"]);
    person.sh("box -r / true").expect_refusal(&["/: contains /tmp"]);
    person.sh("HOME=/ box true").expect_refusal(&["HOME is '/'"]);
}

#[test]
fn the_home_and_what_others_listen_in_are_empty() {
    let person = Person::new();
    let outcome = person.sh("mkdir ~/.ssh && echo key >~/.ssh/id && echo x >~/.bashrc
        box sh -c 'find ~ /tmp /var/tmp /run /home /root /mnt /media /srv ! -type d 2>/dev/null
            for dir in ~ /tmp /var/tmp /run; do echo x >$dir/new && rm $dir/new; done; ls -A ~'; ls -A ~");
    outcome.expect(0, "work\n.bashrc\n.ssh\nwork\n");
    // A home that lies nowhere in particular, and one that is a link.
    let home = person.work.join("elsewhere/me");
    let setup =
        format!("mkdir -p elsewhere/me && echo x >elsewhere/me/.netrc && ln -s elsewhere/me link; {}", own(&person));
    person.work.sh(&setup).expect(0, "");
    person
        .sh("HOME=$PWD/../../link; export HOME; box sh -c 'echo $HOME; ls -A $HOME'")
        .expect(0, &format!("{}\n", home.display()));
}

/// A sleep that no other run of these tests has.
fn with_own_sleep(lines: &str) -> String {
    lines.replace("leep 43", &format!("leep {}43", std::process::id()))
}

fn own(person: &Person) -> &'static str {
    let _ = person;
    if is_root() { "chown -R 1234 ." } else { ":" }
}

#[test]
fn what_git_needs_of_the_home_and_what_is_asked_for_is_shown() {
    let person = Person::new();
    let outcome = person.sh(
        "cd && printf '[user]\\nname = me\\n' >.gitconfig && mkdir -p .config/git .cache/tool .cache/other data more &&
        echo x >.config/git/ignore && echo https://me:token@host >.config/git/credentials && echo y >.npmrc && echo z >data/file && cd work
        box -r ~/.npmrc -C tool -r ~/data -w ~/more sh -c 'cat ~/.gitconfig ~/.npmrc ~/data/file ~/.config/git/ignore
            cat ~/.config/git/credentials; ls ~/.cache; echo 1 >~/.cache/tool/made; echo 2 >~/more/made
            for file in .gitconfig .npmrc data/file .config/git/ignore; do (echo w >~/$file) 2>/dev/null && echo wrote $file; done'
        cat ~/.cache/tool/made ~/more/made",
    );
    outcome.expect(0, "[user]\nname = me\ny\nz\nx\ntool\n1\n2\n");
    person.sh("box -r ~/none true").expect_refusal(&["none: not found"]);
    person.sh("box -C none true").expect_refusal(&[".cache/none: not found"]);
}

/// https://github.com/anthropic-experimental/sandbox-runtime/issues/139: a sandbox left empty files behind in repositories.
#[test]
fn nothing_is_made_on_the_host() {
    let person = Person::new();
    person.sh("mkdir -p sub/.git && echo x >file");
    let before = chainroot_tests::snapshot(&person.home());
    person.sh("box sh -c 'ls >/dev/null; echo x >/tmp/x; echo x >~/y; mkdir ~/.cache; true'").expect(0, "");
    let after = chainroot_tests::snapshot(&person.home());
    assert_eq!(chainroot_tests::differences(&after, &before), Vec::<String>::new());
}

#[test]
fn the_environment_is_what_the_work_needs_and_what_is_named() {
    let person = Person::new();
    let outcome = person.sh(
        "SSH_AUTH_SOCK=/x DISPLAY=:0 DBUS_SESSION_BUS_ADDRESS=x GITHUB_TOKEN=secret LC_TIME=C TZ=UTC NO_COLOR=1 COLORTERM=truecolor
        MULTI='a
export HOME=b' mounts=leak PASSED='it is
passed'
        export SSH_AUTH_SOCK DISPLAY DBUS_SESSION_BUS_ADDRESS GITHUB_TOKEN LC_TIME TZ NO_COLOR COLORTERM MULTI mounts PASSED
        unset LANG LC_ALL LANGUAGE; TERM=dumb; export TERM
        box -e PASSED -e GIVEN=\"x y'z\" -e NONE env | grep -v -e ^PATH= -e ^CHAINROOT_TEST= | sort",
    );
    let home = person.home();
    let expected = format!(
        "BOX=1\nCOLORTERM=truecolor\nGIVEN=x y'z\nHOME={}\nLC_TIME=C\nLOGNAME=person\nNO_COLOR=1\nPASSED=it is\nPWD={}\nSHELL=/bin/sh\nTERM=dumb\nTMPDIR=/tmp\nTZ=UTC\nUSER=person\npassed\n",
        home.display(),
        person.dir().display()
    );
    let mut lines: Vec<&str> = expected.lines().collect();
    lines.sort_unstable();
    let mut found: Vec<&str> = outcome.stdout.lines().collect();
    found.sort_unstable();
    assert_eq!(found, lines, "{outcome:?}");
    // Nor is it in what the first process was started with.
    person.sh("TOKEN=secret; export TOKEN; box sh -c 'cat /proc/*/environ 2>/dev/null | tr \"\\0\" \"\\n\" | grep -c secret'").expect(1, "0\n");
    person.sh("box -e 1x=2 true").expect_refusal(&["not a variable"]);
}

#[test]
fn a_programs_of_the_directory_is_not_taken_for_one_of_the_hosts() {
    let person = Person::new();
    let outcome = person.sh(
        "mkdir bin; for name in awk sed env realpath getent stat isolate2; do printf '#!/bin/sh\\necho $0 ran >>%s/ran\\n' $PWD >bin/$name; chmod +x bin/$name; done
        PATH=$PATH:$PWD/bin; export PATH; box -r /etc/passwd isolate2; cat ran",
    );
    assert_eq!(outcome.stdout, format!("{0}/bin/isolate2 ran\n", person.dir().display()), "{outcome:?}");
    // Also where it comes first.
    let outcome =
        person.sh("rm ran; PATH=$PWD/bin:$PATH; export PATH; box -r /etc/passwd /bin/true; cat ran 2>/dev/null");
    outcome.expect(1, "");
}

#[test]
fn it_has_its_own_processes_names_and_queues_and_leaves_none_behind() {
    let person = Person::new();
    let outcome = person.sh(&with_own_sleep(
        "names() { for kind in pid uts ipc cgroup mnt net user; do readlink /proc/self/ns/$kind; done; }
        names >outside; box sh -c 'for kind in pid uts ipc cgroup mnt net user; do readlink /proc/self/ns/$kind; done' >inside
        sort outside inside | uniq -d; ls -d /proc/[0-9]* | wc -l >all
        box sh -c 'ls -d /proc/[0-9]* | wc -l'
        box sh -c 'sleep 4321 & (setsid sleep 4321 &) ; exit 3'; echo $?; ps -eo args | grep -c '[s]leep 4321'",
    ));
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert!(lines.len() == 3 && lines[0].parse::<u32>().is_ok_and(|n| n < 6), "{outcome:?}");
    assert_eq!(lines[1..], ["3", "0"], "{outcome:?}");
}

#[test]
fn an_orphan_is_reaped_and_a_killed_box_takes_everything_along() {
    let person = Person::new();
    person
        .sh("box sh -c '(sleep 0 &); (sh -c \"sleep 0 & exec sleep 0\" &); sleep 0.2; ps -eo stat | grep -c Z'")
        .expect(1, "0\n");
    person.sh(&with_own_sleep(
        "mkfifo up; export CHAINROOT_TEST; $BOX -e CHAINROOT_TEST sh -c 'echo >up; exec sleep 4322' & read x <up; kill -9 $!; wait $! 2>/dev/null
        while pgrep -f '[s]leep 4322' >/dev/null; do sleep 0.01; done; echo gone",
    ))
    .expect(0, "gone\n");
}

/// A killed agent leaves no server behind.
#[test]
fn a_box_ends_with_the_program_that_started_it() {
    let person = Person::new();
    person
        .sh(&with_own_sleep("mkfifo up; sh -c '$0 -e CHAINROOT_TEST sh -c \"echo >up; exec sleep 4325\"; :' $BOX & read x <up; kill -9 $!; wait $! 2>/dev/null
            while pgrep -f '[s]leep 4325' >/dev/null; do sleep 0.01; done; echo gone"))
        .expect(0, "gone\n");
}

#[test]
fn devices_are_few_and_shared_memory_is_its_own() {
    let person = Person::new();
    let outcome = person.sh(
        "box sh -c 'ls /dev | tr \"\\n\" \" \"; echo x >/dev/shm/box-test && ls /dev/shm'; ls /dev/shm | grep -c box-test",
    );
    outcome
        .expect(1, "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero box-test\n0\n");
    person.sh("box -d no-such-device true").expect_refusal(&["no such device"]);
    person.sh("box -d ../etc/passwd true").expect_refusal(&["../etc/passwd: no such device"]);
    if std::path::Path::new("/dev/loop-control").exists() {
        person.sh("box -d loop-control ls /dev | grep loop").expect(0, "loop-control\n");
    }
}

#[test]
fn it_has_no_privileges_and_no_way_to_them_but_tracers_work() {
    let person = Person::new();
    let outcome = person.sh(
        "box sh -c 'grep -E \"^(Cap(Eff|Prm|Bnd|Amb)|NoNewPrivs|Seccomp):\" /proc/self/status | tr -d \" \\t\"
        unshare -U true 2>/dev/null || echo no namespace; cat /proc/keys /proc/interrupts 2>/dev/null
        strace -f -o /dev/null true && echo traced'",
    );
    outcome.expect(
        0,
        "CapPrm:0000000000000000\nCapEff:0000000000000000\nCapBnd:0000000000000000\nCapAmb:0000000000000000\nNoNewPrivs:1\nSeccomp:2\nno namespace\ntraced\n",
    );
}

#[test]
fn explain_prints_the_chain_and_runs_nothing() {
    let person = Person::new();
    let outcome = person.sh("$BOX --explain touch made; ls");
    assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""));
    for word in ["isolate'", "pivot --no-handoff --read-only", "mountclean --mask", "--tmpfs=/tmp", "'touch' 'made'"] {
        assert!(outcome.stdout.contains(word), "no {word} in {}", outcome.stdout);
    }
    assert!(!outcome.stdout.contains("\nmade"), "{}", outcome.stdout);
    // What it prints runs.
    person.sh("$BOX --explain touch made >../line; sh ../line; ls").expect(0, "made\n");
}

#[test]
fn where_user_namespaces_are_forbidden_the_command_does_not_run() {
    let person = Person::new();
    let outcome = person.sh(
        "isolate --map-current --keep-caps -- sh -c 'echo 0 >/proc/sys/user/max_user_namespaces && exec \"$0\" touch made' $BOX; s=$?; ls; exit $s",
    );
    outcome.expect_refusal(&["isolate: ", "hint: ", "max_user_namespaces"]);
}

/// No file of the project's says what COMMAND may do: the directory is not looked into before it is inside.
/// https://github.com/QwenLM/qwen-code/issues/10583: a project's settings widened its own sandbox.
#[test]
fn no_file_of_the_directory_is_read_before_it_is_inside() {
    let person = Person::new();
    let outcome = person.sh(
        "for name in .box .boxrc .envrc .env box.conf Makefile; do echo x >$name; done
        strace -f -qq -e trace=open,openat,openat2,execve -o ../trace $BOX -r /etc/passwd true; grep -o '\"[^\"]*\"' ../trace",
    );
    let names = [".box", ".env", "box.conf", "Makefile"];
    let opened: Vec<&str> =
        outcome.stdout.lines().filter(|line| names.iter().any(|name| line.contains(name))).collect();
    assert_eq!((outcome.status, opened), (0, vec![]), "{}", outcome.stderr);
}
