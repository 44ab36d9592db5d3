//! A script written for unshare(1) works when isolate stands in for it: the examples of its manual
//! page (util-linux 2.38), one by one, with the name of the one meaning the other.

mod bench;

use bench::{NOBODY, Outcome, have, sh};

/// Runs a script in a directory `$dir` of its own, where the word unshare means isolate.
fn script(text: &str) -> Outcome {
    sh(&format!(
        "export dir=$(mktemp -d) && chmod 755 $dir && mkdir $dir/bin && cd $dir || exit
        printf '#!/bin/sh\\nexec \"$ISOLATE\" \"$@\"\\n' >bin/unshare && chmod 755 bin/unshare
        export PATH=$dir/bin:$PATH
        {text}
        s=$?; cd /; rm -r $dir; exit $s"
    ))
}

/// The same as an ordinary user.
fn script_of_a_user(text: &str) -> Outcome {
    let text = text.replace('\'', r"'\''");
    match bench::is_root() {
        true => script(&format!(
            "chown {NOBODY} . && setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups sh -c '{text}'"
        )),
        false => script(&format!("sh -c '{text}'")),
    }
}

/// In a mount namespace, so that nothing of it is seen outside.
///
/// On one processor: Linux 6.18 numbers namespaces by processor, and binds none to a file whose number is below that of the
/// namespace which the file is in.
fn script_of_root(text: &str) -> Outcome {
    script(&format!(
        "taskset -c $(sed -n 's/^Cpus_allowed_list:[^0-9]*\\([0-9]*\\).*/\\1/p' /proc/self/status) /usr/bin/unshare --mount sh -c '{}'",
        text.replace('\'', r"'\''")
    ))
}

fn fields(text: &str) -> Vec<String> {
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn a_pid_namespace_with_its_proc() {
    needs_root!();
    assert_eq!(script("unshare --fork --pid --mount-proc readlink /proc/self").good(), "1");
}

#[test]
fn an_ordinary_user_as_root() {
    let outcome = script_of_a_user(
        "id -u; id -g; unshare --user --map-root-user sh -c 'id -un; cat /proc/self/uid_map /proc/self/gid_map'",
    );
    let seen = fields(&outcome.good());
    assert_eq!(seen[2..], ["root".to_owned(), format!("0 {} 1", seen[0]), format!("0 {} 1", seen[1])]);
}

#[test]
fn the_subordinate_ids_are_mapped() {
    needs_root!();
    if !have("newuidmap") {
        skip!("no newuidmap");
    }
    let as_user = format!(
        "echo {NOBODY}:100000:65536 >ids; mount --bind ids /etc/subuid; mount --bind ids /etc/subgid; mkdir home; chown {NOBODY} home
        cd home; exec setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups sh -c '
            printf \"id -u; cat /proc/self/uid_map; touch file; chown 1:1 file; ls -ln --time-style=+ file; exit\\n\" |
                SHELL=/bin/sh unshare --user --map-auto --map-root-user
            ls -ln --time-style=+ file'"
    );
    let expected = [
        "0".to_owned(),
        format!("0 {NOBODY} 1"),
        // util-linux maps one id less.
        "1 100000 65536".to_owned(),
        "-rw-r--r-- 1 1 1 0 file".to_owned(),
        "-rw-r--r-- 1 100000 100000 0 file".to_owned(),
    ];
    assert_eq!(fields(&script_of_root(&as_user).good()), expected);
}

#[test]
fn a_persistent_uts_namespace() {
    needs_root!();
    let outcome = script_of_root(
        "touch uts-ns; unshare --uts=$dir/uts-ns hostname FOO; nsenter --uts=$dir/uts-ns hostname; umount $dir/uts-ns",
    );
    assert_eq!(outcome.good(), "FOO");
}

#[test]
fn a_persistent_mount_namespace() {
    needs_root!();
    let outcome = script_of_root(
        "mkdir namespaces; mount --bind namespaces namespaces; mount --make-private namespaces; touch namespaces/mnt
        unshare --mount=namespaces/mnt mount -t tmpfs inside /mnt
        grep -c ' /mnt .*inside' /proc/self/mountinfo; nsenter --mount=namespaces/mnt grep -c ' /mnt .*inside' /proc/self/mountinfo
        umount namespaces/mnt namespaces",
    );
    assert_eq!(outcome.good(), "0\n1");
    // The new namespace is private by then; where it is not to be, the error says what to do.
    let outcome = script_of_root(
        "mkdir shared; mount -t tmpfs tmpfs shared; mount --make-shared shared; touch shared/mnt; unshare --mount=shared/mnt --propagation unchanged true",
    );
    outcome.refused("mount --make-private DIR");
}

/// Kills the one that waits, and looks for the sleeps.
fn killed(options: &str) -> Outcome {
    script(&format!(
        "set +m; mkfifo up; export s=555.$$
        unshare --pid --fork --mount-proc {options} -- bash --norc -c '(sleep $s &) && (ps ax &) && echo >$dir/up && sleep 9$s' >seen &
        read x <up; ps h -o comm $!
        kill $!; wait $!; echo $?; pgrep -f \"^sleep .*$s\" || echo no sleep"
    ))
}

#[test]
fn kill_child_ends_all_of_a_pid_namespace() {
    needs_root!();
    if !have("bash") || !have("ps") {
        skip!("no bash or ps");
    }
    assert_eq!(killed("--kill-child").stdout, "isolate\n143\nno sleep\n");
    // On purpose, and said in the manual: it is so without the option, too.
    assert_eq!(killed("").stdout, "isolate\n143\nno sleep\n");
}

#[test]
fn a_time_namespace_far_up() {
    needs_root!();
    if !have("uptime") {
        skip!("no uptime");
    }
    let up = script("unshare --time --fork --boottime 300000000 uptime -p").good();
    assert!(up.starts_with("up 9 years, "), "{up}");
}

#[test]
fn every_kind_can_be_kept_in_a_file() {
    needs_root!();
    for kind in ["mount", "uts", "ipc", "net", "user", "cgroup", "time"] {
        let file = if kind == "mount" { "mnt" } else { kind };
        let outcome = script_of_root(&format!(
            "mkdir n; mount --bind n n; mount --make-private n; touch n/ns
            unshare --{kind}=n/ns readlink /proc/self/ns/{file} && $ISOLATE --join {kind}=n/ns readlink /proc/self/ns/{file} &&
            readlink /proc/self/ns/{file}; umount n/ns n"
        ));
        let seen = fields(&outcome.good());
        assert!(seen.len() == 3 && seen[0] == seen[1] && seen[1] != seen[2], "{kind}: {seen:?}");
    }
    // A pid namespace lasts as long as its PID 1.
    let outcome = script_of_root(
        "touch ns; mkfifo up down; unshare --pid=ns sh -c 'echo >up; read x <down' & read x <up
        $ISOLATE --join pid=ns sh -c 'echo $$'; nsenter --pid=ns sh -c 'echo $$'; echo >down; wait
        $ISOLATE --join pid=ns true; echo $?; umount ns",
    );
    let seen = fields(&outcome.stdout);
    assert!(seen.len() == 3 && seen[..2].iter().all(|pid| pid == "2" || pid == "3"), "{outcome:?}");
    assert!(seen[2] == "125" && outcome.stderr.contains("has lost its PID 1"), "{outcome:?}");
}

#[test]
fn ranges_are_written_as_both_generations_write_them() {
    needs_root!();
    // OUTER,INNER,COUNT of 2.38, INNER:OUTER:COUNT of 2.39, and several of them.
    for options in ["--map-users=100000,0,10 --map-users=5000,10,1", "--map-users 0:100000:10 --map-users 10:5000:1"] {
        let groups = options.replace("users", "groups");
        let outcome = script(&format!("unshare --user {options} {groups} cat /proc/self/uid_map /proc/self/gid_map"));
        assert_eq!(fields(&outcome.good()), ["0 100000 10", "10 5000 1", "0 100000 10", "10 5000 1"], "{options}");
    }
    let words = |words: &str, ids: &str| {
        let outcome = script_of_root(&format!(
            "printf '{ids}' >ids; mount --bind ids /etc/subuid; mount --bind ids /etc/subgid
            unshare {words} cat /proc/self/uid_map"
        ));
        fields(&outcome.good())
    };
    assert_eq!(words("--map-users=auto --map-groups=auto", "0:100000:5\\n"), ["0 100000 5"]);
    assert_eq!(
        words("--map-users=auto --map-groups=auto --map-user=3 --map-group=3", "0:100000:5\\n"),
        ["3 0 1", "0 100000 3", "4 100003 2"]
    );
    // Their own ids, from every range that was granted.
    assert_eq!(
        words("--map-users=subids --map-groups=subids", "0:100000:5\\nroot:200000:7\\n"),
        ["100000 100000 5", "200000 200000 7"]
    );
    assert_eq!(words("--map-users=all --map-groups=all", "\\n"), ["0 0 4294967295"]);
}
